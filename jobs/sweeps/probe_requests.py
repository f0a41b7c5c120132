"""Probes that wait for the runs of an experiment: a small file each, removed once the probe is made.

Owns the files `probes/<experiment>.request.json`; `jobs.probing.serving` serves them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from engine.data.speech.labelled import read_labelled
from jobs.home import Home
from jobs.store.errors import StoreError
from jobs.sweeps.probe_settings import ProbeSettings
from models.private_files import write_private
from models.user_paths import expanded

_SUFFIX = ".request.json"


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A probe of the runs of an experiment, made when none of them is queued or running any more."""

    experiment: str
    runs: tuple[int, ...]
    data: str
    test: str | None
    clusters: int
    limit: int


def check_probe_data(settings: ProbeSettings) -> None:
    """Read the labelled recordings, so that what is wrong with them is known before a night is trained.

    Raises:
        DataError: when nothing can be probed with them.
    """
    test = None if settings.test is None else expanded(settings.test).absolute()
    read_labelled(expanded(settings.data).absolute(), test, setting="probe.data")


def request_probe(
    home: Home, experiment: str, *, runs: Sequence[int], settings: ProbeSettings
) -> None:
    """Ask for a probe of some runs; those that an earlier request of the experiment named are kept."""
    path = request_path(home, experiment)
    earlier = read_request(path).runs if path.exists() else ()
    request = ProbeRequest(
        experiment, tuple(dict.fromkeys((*earlier, *runs))),
        data=str(expanded(settings.data).absolute()),
        test=None if settings.test is None else str(expanded(settings.test).absolute()),
        clusters=settings.clusters, limit=settings.limit,
    )  # fmt: skip
    write_private(path, json.dumps(asdict(request), indent=1))


def read_request(path: Path) -> ProbeRequest:
    """Read a request.

    Raises:
        StoreError: when the file can't be read.
    """
    try:
        values = json.loads(path.read_text())
        return ProbeRequest(**{**values, "runs": tuple(map(int, values["runs"]))})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path}: is no probe request that can be read ({error}); use `sepdash probe RUN... --data PATH`"
        ) from None


def request_path(home: Home, experiment: str) -> Path:
    """Return the file of a request; names of experiments may have slashes."""
    return home.probes / f"{quote(experiment, safe='')}{_SUFFIX}"


def request_paths(home: Home) -> list[Path]:
    """List the files of all requests."""
    return sorted(home.probes.glob(f"*{_SUFFIX}"))
