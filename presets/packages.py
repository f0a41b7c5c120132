"""Presets that installed packages bring along: the entry point group `sepdash.presets`.

A package names the folder of its presets as a package of its own,

    [project.entry-points."sepdash.presets"]
    toy = "toy_package.presets"

and `toy_package/presets/tiny.toml` is listed as the preset `toy/tiny`, read-only like the shipped
ones. Importing that package must be cheap; nothing is imported before presets are listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

from models.entry_points import Plugins, find_plugins
from presets.toml_files import toml_files

GROUP = "sepdash.presets"


@dataclass(frozen=True, slots=True)
class PresetFolder:
    """A folder of presets, and the name of the package that it is part of."""

    path: Path
    package: str


def accept_folder(point: EntryPoint, value: object) -> PresetFolder:
    """Return the folder that an entry point names.

    Raises:
        TypeError: when it names none, or one without presets.
    """
    places = list(getattr(value, "__path__", ())) if isinstance(value, ModuleType) else []
    if not places:
        raise TypeError(f"{point.value} is no package, so it has no folder of presets")
    path = Path(places[0])
    if not toml_files(path).paths:
        raise TypeError(f"{path} holds no presets: expected files like tiny.toml")
    return PresetFolder(path, point.dist.name if point.dist else point.name)


@cache
def preset_packages(taken: tuple[str, ...]) -> Plugins[PresetFolder]:
    """Return the folders of presets of installed packages, by the name they are listed under.

    Args:
        taken: names that are no longer free: those of the shipped folders.
    """
    return find_plugins(GROUP, accept_folder, taken=taken)
