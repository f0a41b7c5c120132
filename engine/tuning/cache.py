"""Cached results of searches: JSON files that only their user can read.

Each combination of device, config, options, training data, threads and package versions has its own
file. Free memory is not part of the key, because it is never the same twice: `still_fits` compares it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.schema import RunConfig
from engine.tuning.law import memory_cap
from engine.tuning.race import Ratio
from engine.tuning.setups import Options, Row, Scaled, Tuning
from models.private_files import write_private

# Packages whose versions affect the results.
_PACKAGES = ("sepdash", "torch", "torchaudio")
# Version of the file format.
_FORMAT = 3
# Memory that others have freed since a search; beyond it, a larger batch may be faster.
_MORE = 1.25


@dataclass(frozen=True, slots=True)
class Place:
    """Where a search runs: what decides about its result besides config and options.

    Attributes:
        devices: product name of each device that is measured.
        total_bytes: memory of the device.
        free_bytes: memory not in use by any process.
        threads: CPU threads that a training process uses.
    """

    devices: tuple[str, ...]
    total_bytes: int
    free_bytes: int
    threads: int


def cache_key(
    config: RunConfig,
    options: Options,
    *,
    place: Place,
    sizes: np.ndarray | None = None,
    packages: Iterable[str] = _PACKAGES,
) -> str:
    """Return 24 hex digits that identify a search.

    Args:
        config: the run.
        options: the user's options.
        place: devices, memory and threads.
        sizes: (N, D) sizes of the training items, where they decide.
        packages: those whose versions count.
    """
    about = {
        "format": _FORMAT,
        "devices": place.devices,
        "total_bytes": place.total_bytes,
        "threads": place.threads,
        "config": config.fingerprint,
        "data": None if sizes is None else _digest(sizes),
        "options": asdict(options),
        "versions": {name: version(name) for name in packages},
    }
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]


def still_fits(result: Tuning, place: Place, *, options: Options) -> bool:
    """Return whether a result holds for the memory that is free now.

    It does not when its batches no longer fit, or when so much more is free that larger ones may.
    """
    if options.memory_bytes is not None:
        return True
    available = memory_cap(place.total_bytes, place.free_bytes, own=0)
    fits = result.peak_bytes <= available * (1 - options.free)
    return fits and available <= _MORE * result.cap_bytes


def _digest(sizes_ND: np.ndarray) -> str:
    """Return a hash of the sizes, whatever their order."""
    ordered = sizes_ND[np.lexsort(sizes_ND.T[::-1])]
    return sha256(np.ascontiguousarray(ordered, dtype=np.float64).tobytes()).hexdigest()


def read_result(folder: Path, key: str) -> Tuning | None:
    """Return a cached result; None when there is none or it can't be read."""
    try:
        raw = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        rows = tuple(
            Row(**{**row, "shape": tuple(row["shape"]), "ratio": _ratio(row["ratio"])})
            for row in raw["rows"]
        )
        scaling = tuple(Scaled(**{**one, "ratio": _ratio(one["ratio"])}) for one in raw["scaling"])
        more = {"rows": rows, "scaling": scaling, "ratio": _ratio(raw["ratio"])}
        return Tuning(**{**raw, **more, "notes": tuple(raw["notes"]), "shape": tuple(raw["shape"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ratio(raw: dict[str, Any] | None) -> Ratio | None:
    return None if raw is None else Ratio(**raw)


def keep_result(folder: Path, key: str, *, result: Tuning) -> None:
    """Write a result atomically, readable by its user only.

    Raises:
        OSError: when it can't be written.
    """
    write_private(folder / f"{key}.json", json.dumps(asdict(result)))
