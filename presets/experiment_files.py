"""The experiment files: shipped ones in `experiments/`, those of installed packages, and a user's.

An experiment is named by its path without `.toml`, those of a package under its name, or given as a
path to a file anywhere. This module finds and reads them; `jobs.sweeps` interprets them.
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
    installed_presets,
    parse,
    parse_file,
    read_text,
)
from presets.toml_files import toml_files


@dataclass(frozen=True, slots=True)
class ExperimentInfo:
    """One experiment in a list; `problem` is the reason why it can't be read, or empty.

    `origin` is "shipped", "user", or the name of the package that brought it along.
    """

    name: str
    path: Path
    origin: str
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
    """Shipped experiments and those of packages, overridden by those in a user's presets folder."""

    def __init__(self, user_presets: Path | None = None) -> None:
        installed = installed_presets().parts
        folders = [("", SHIPPED, "shipped")]
        folders += [(f"{top}/", it.path, it.package) for top, it in installed.items()]
        folders += [("", user_presets, "user")] if user_presets is not None else []
        self._places = {
            f"{prefix}{name}": (path, origin)
            for prefix, folder, origin in folders
            for name, path in toml_files(folder / EXPERIMENTS).paths.items()
        }

    def list(self) -> tuple[ExperimentInfo, ...]:
        """List all experiments by name."""
        return tuple(
            _describe(name, path, origin=origin)
            for name, (path, origin) in sorted(self._places.items())
        )

    def read(self, name_or_path: str) -> tuple[str, dict[str, Any]]:
        """Return the name and the values of an experiment; raises what `open` raises."""
        file = self.open(name_or_path)
        return file.name, file.values

    def open(self, name_or_path: str) -> ExperimentFile:
        """Read an experiment.

        Raises:
            PresetError: when there is none of that name, or the file can't be read.
        """
        if name_or_path in self._places:
            return _opened(name_or_path, self._places[name_or_path][0])
        path = expanded(name_or_path)
        if path.suffix == ".toml" or path.is_file():
            return _opened(path.stem, path)
        close = difflib.get_close_matches(name_or_path, self._places, n=1)
        hint = (
            f", did you mean {close[0]!r}?" if close else "; `sepdash sweep` lists all experiments"
        )
        raise PresetError(f"unknown experiment {name_or_path!r}{hint}")


def _opened(name: str, path: Path) -> ExperimentFile:
    text = read_text(path)
    return ExperimentFile(name, path, text=text, values=parse(text, path))


def _describe(name: str, path: Path, *, origin: str) -> ExperimentInfo:
    try:
        text, problem = str(parse_file(path).get("description", "")), ""
    except PresetError as error:
        text, problem = "", str(error)
    return ExperimentInfo(name, path, origin=origin, description=text, problem=problem)
