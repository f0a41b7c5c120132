"""What a search is: its settings, where it started, and whether it goes on. A file in the home.

The worker reads these files to see whether there is a search; only one that goes on makes it load Optuna.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.recipes.specs import spec_of
from jobs.home import Home
from jobs.store.errors import StoreError
from jobs.sweeps.experiment import Experiment, load_experiment
from jobs.sweeps.search_settings import SearchSettings
from jobs.sweeps.search_space import Parameter, read_space
from models.private_files import write_private

# running: trials are proposed; confirming: the best ones are run again with fresh seeds.
SearchState = Literal["running", "confirming", "finished", "stopped", "failed"]
GOING_ON: tuple[SearchState, ...] = ("running", "confirming")

_FORMAT = 1


@dataclass(frozen=True)
class Definition:
    """A search as it was started.

    Attributes:
        experiment: values of the experiment file.
        base: config of the base, which is the first trial; data paths are absolute.
        clock: on which trials are compared before they end.
        rungs: positions on the clock at which they are.
        message: why it has stopped or failed.
    """

    name: str
    experiment: Mapping[str, Any]
    base: Mapping[str, Any]
    clock: str
    rungs: tuple[float, ...]
    state: SearchState = "running"
    message: str = ""
    created_at: float = 0.0

    @cached_property
    def file(self) -> Experiment:
        """The experiment file, checked."""
        return load_experiment(self.experiment)

    @property
    def search(self) -> SearchSettings:
        """How settings are searched."""
        assert self.file.search is not None
        return self.file.search

    @cached_property
    def space(self) -> tuple[Parameter, ...]:
        """What is varied."""
        return read_space(self.search)

    @cached_property
    def base_config(self) -> RunConfig:
        """The config of the base."""
        return load_config(self.base)

    @property
    def metric(self) -> str:
        """Name of the metric that is optimised."""
        return self.search.metric or spec_of(self.base_config.recipe).listed_by(self.base_config)

    @property
    def trials_of(self) -> str:
        """The experiment of the trials in the store; the confirming runs have the name itself."""
        return trials_of(self.name)

    def save(self, home: Home) -> Definition:
        """Write the file, whole or not at all, and return the definition."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)
        write_private(path_of(home, self.name), text)
        return self

    def moved(self, home: Home, *, to: SearchState, message: str = "") -> Definition:
        """Return the definition in another state, saved."""
        return replace(self, state=to, message=message).save(home)


def trials_of(name: str) -> str:
    """Return the experiment of the trials of a search."""
    return f"{name}:trials"


def path_of(home: Home, name: str) -> Path:
    """Return the file of a search; names of experiments may have slashes."""
    return home.searches / f"{quote(name, safe='')}.json"


def new(
    name: str,
    experiment: Mapping[str, Any],
    *,
    base: RunConfig,
    clock: str,
    rungs: tuple[float, ...],
) -> Definition:
    """Return a search that has not started yet."""
    return Definition(
        name, experiment, base.to_dict(), clock=clock, rungs=rungs, created_at=time.time()
    )


def read(path: Path) -> Definition:
    """Read a search.

    Raises:
        StoreError: when the file can't be read or is from a newer version.
    """
    try:
        values = json.loads(path.read_text())
        version = values.pop("format")
        if version > _FORMAT:
            raise StoreError(f"{path}: was written by a newer sepdash; upgrade sepdash")
        return Definition(**{**values, "rungs": tuple(values["rungs"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{path}: is no search that can be read ({error}); remove this file, its runs stay"
        ) from None


def find(home: Home, name: str) -> Definition | None:
    """Return the search of a name; None when there is none.

    Raises:
        StoreError: when its file can't be read.
    """
    path = path_of(home, name)
    return read(path) if path.exists() else None


def paths(home: Home) -> list[Path]:
    """List the files of all searches."""
    return sorted(home.searches.glob("*.json"))
