"""The experiment files: shipped ones in `experiments/`, overridden by those in a user's folder.

An experiment is named by its path without `.toml`, or given as a path to a file anywhere. This module
finds and reads them; `jobs.sweeps` interprets them.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.user_paths import expanded
from presets.catalogue import (
    EXPERIMENTS,
    SHIPPED,
    PresetError,
    names_in,
    parse,
    parse_file,
    read_text,
)


@dataclass(frozen=True, slots=True)
class ExperimentInfo:
    """One experiment in a list; `problem` is the reason why it can't be read, or empty."""

    name: str
    path: Path
    description: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """One experiment file that was read."""

    name: str
    path: Path
    text: str
    values: dict[str, Any]


class ExperimentFiles:
    """Shipped experiments, overridden by those in a user's presets folder."""

    def __init__(self, user_presets: Path | None = None) -> None:
        folders = [SHIPPED, *([user_presets] if user_presets is not None else [])]
        self._paths = {
            name: folder / EXPERIMENTS / f"{name}.toml"
            for folder in folders
            for name in names_in(folder / EXPERIMENTS)
        }

    def list(self) -> tuple[ExperimentInfo, ...]:
        """List all experiments by name."""
        return tuple(_describe(name, path) for name, path in sorted(self._paths.items()))

    def read(self, name_or_path: str) -> tuple[str, dict[str, Any]]:
        """Return the name and the values of an experiment; raises what `open` raises."""
        file = self.open(name_or_path)
        return file.name, file.values

    def open(self, name_or_path: str) -> ExperimentFile:
        """Read an experiment.

        Raises:
            PresetError: when there is none of that name, or the file can't be read.
        """
        if name_or_path in self._paths:
            return _opened(name_or_path, self._paths[name_or_path])
        path = expanded(name_or_path)
        if path.suffix == ".toml" or path.is_file():
            return _opened(path.stem, path)
        close = difflib.get_close_matches(name_or_path, self._paths, n=1)
        hint = (
            f", did you mean {close[0]!r}?" if close else "; `sepdash sweep` lists all experiments"
        )
        raise PresetError(f"unknown experiment {name_or_path!r}{hint}")


def _opened(name: str, path: Path) -> ExperimentFile:
    text = read_text(path)
    return ExperimentFile(name, path, text=text, values=parse(text, path))


def _describe(name: str, path: Path) -> ExperimentInfo:
    try:
        return ExperimentInfo(name, path, description=str(parse_file(path).get("description", "")))
    except PresetError as error:
        return ExperimentInfo(name, path, description="", problem=str(error))
