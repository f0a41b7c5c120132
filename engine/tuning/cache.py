"""Cached results of searches: JSON files that only their user can read.

Each combination of device, config, options and package versions has its own file.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from engine.config.schema import RunConfig
from engine.tuning.setups import Options, Row, Tuning

# Packages whose versions affect the results.
_PACKAGES = ("sepdash", "torch", "torchaudio")
# Version of the file format.
_FORMAT = 1


def cache_key(
    config: RunConfig, options: Options, *, device_name: str, packages: Iterable[str] = _PACKAGES
) -> str:
    """Return 24 hex digits that identify a search."""
    about = {
        "format": _FORMAT,
        "device": device_name,
        "config": config.fingerprint,
        "options": asdict(options),
        "versions": {name: version(name) for name in packages},
    }
    return sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]


def read_result(folder: Path, key: str) -> Tuning | None:
    """Return a cached result; None when there is none or it can't be read."""
    try:
        raw = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
        rows = tuple(Row(**{**row, "shape": tuple(row["shape"])}) for row in raw["rows"])
        return Tuning(**{**raw, "rows": rows, "notes": tuple(raw["notes"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep_result(folder: Path, key: str, *, result: Tuning) -> None:
    """Write a result atomically, readable by its user only.

    Raises:
        OSError: when it can't be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=folder, prefix=f".{key}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(result), file)
        Path(aside).replace(folder / f"{key}.json")
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
