"""Probes that wait for the runs of an experiment: a small file each, removed once the probe is made.

Owns the files `probes/<experiment>.request.json`; `jobs.probing.serving` serves them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from engine.config.errors import ConfigError, Problem
from engine.config.schema import RunConfig
from engine.data.speech.labelled import read_labelled
from engine.recipes.specs import BUILT_IN, RecipeSpec, spec_of
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


def check_probe(settings: ProbeSettings, configs: Sequence[RunConfig]) -> None:
    """Check that runs can be probed, so that what is wrong is known before a night is trained.

    Args:
        settings: with what; the labelled recordings are read.
        configs: of the runs.

    Raises:
        ConfigError: when a recipe gives no features.
        DataError: when nothing can be probed with the recordings.
    """
    without = [spec.name for spec in _recipes(configs) if spec.gives_features is False]
    if without:
        able = ", ".join(spec.name for spec in BUILT_IN if spec.gives_features)
        raise ConfigError(
            [
                Problem(
                    "probe",
                    f"runs of {', '.join(without)} give no features to probe; remove the section [probe], or "
                    f"train {able}",
                )
            ]
        )
    test = None if settings.test is None else expanded(settings.test).absolute()
    read_labelled(expanded(settings.data).absolute(), test, setting="probe.data")


def probe_warnings(configs: Sequence[RunConfig]) -> list[str]:
    """Return a warning for each recipe of which it shows only afterwards whether its runs can be probed."""
    try:
        recipes = _recipes(configs)
    except ConfigError:
        # One that is missing is refused.
        return []
    return [
        f"the recipe {spec.name} does not say whether its networks give features "
        "(`RecipeSpec.gives_features`); if they don't, the probe fails once the runs have ended"
        for spec in recipes
        if spec.gives_features is None
    ]


def _recipes(configs: Sequence[RunConfig]) -> list[RecipeSpec]:
    return [spec_of(name) for name in dict.fromkeys(config.recipe for config in configs)]


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
