"""The presets: shipped ones beside this file, those of installed packages, and a user's folder.

A preset is a TOML file: `description` and `extends` at the top, the settings of a run below. Its name
is its path without `.toml`, such as `bandwidth/audio-unet`. This module lists, reads and saves them;
`engine.config` validates the settings.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from models.entry_points import Plugins
from models.private_files import write_private
from presets.merging import merge
from presets.packages import PresetFolder, preset_packages
from presets.toml_files import toml_files

SHIPPED = Path(__file__).parent
EXPERIMENTS = "experiments"  # the folder of experiment files, which are not presets
_HEAD = ("description", "extends")
_MOST_BYTES = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


class PresetError(ValueError):
    """A preset that doesn't exist, can't be read, or can't be saved."""


@dataclass(frozen=True, slots=True)
class PresetInfo:
    """One preset in a list; `problem` is the reason why it can't be read, or empty.

    `origin` is "shipped", "user", or the name of the package that brought it along.
    """

    name: str
    path: Path
    origin: str
    description: str
    extends: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of an `extends` chain, and the settings in it; `origin` as in `PresetInfo`."""

    name: str
    path: Path
    origin: str
    text: str
    document: Mapping[str, Any]

    @property
    def values(self) -> dict[str, Any]:
        """The settings, without the head of the preset."""
        return {key: self.document[key] for key in self.document if key not in _HEAD}


# The method `list` below hides the built-in of that name from annotations inside the class.
Presets = list[PresetInfo]
Layers = list[Layer]
Names = list[str]


class Catalogue:
    """Shipped presets, and those of packages, with those in `user_folder` laid over them.

    The folder may be absent.
    """

    def __init__(self, user_folder: Path | None = None) -> None:
        self._user_folder = user_folder

    def read(self, name: str) -> dict[str, Any]:
        """Return the values of a preset with its `extends` chain resolved.

        A user preset that extends its own name extends the shipped one.

        Raises:
            PresetError: unknown name, broken file, or a chain that leads back to itself.
        """
        values: dict[str, Any] = {}
        for layer in reversed(self.layers(name)):
            values = merge(values, layer.values)
        return values

    def source(self, name: str) -> str:
        """Return the TOML text of a preset, as its author wrote it."""
        path, _ = self._find(name)
        return read_text(path)

    def info(self, name: str) -> PresetInfo:
        """Describe one preset.

        Raises:
            PresetError: when there is none of that name.
        """
        path, origin = self._find(name)
        return _describe(name, path, origin)

    def bases(self, name: str) -> Names:
        """Return the names of the presets that a preset extends, nearest first.

        Raises:
            PresetError: as `read` does.
        """
        return [str(layer.document["extends"]) for layer in self.layers(name)[:-1]]

    def check_new(self, name: str) -> None:
        """Make sure that a preset can be saved under a name without replacing or hiding another one.

        Raises:
            PresetError: when it can't.
        """
        _check_name(name)
        place = self._places().get(name)
        if place is not None:
            free = self._free_name(name)
            taken = (
                f"you already have a preset {name!r}"
                if place[1] == "user"
                else f"{name!r} is a {place[1]} preset, which yours would hide"
            )
            raise PresetError(f"{taken}; choose another name, such as {free!r}")

    def _free_name(self, name: str) -> str:
        """Return a name that no preset has: the same with "-tuned", and a number where that is taken, too."""
        names = self._places()
        free = (f"{name}-tuned{number}" for number in ("", *map(str, range(2, len(names) + 3))))
        return next(text for text in free if text not in names)

    def save(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        extends: str | None = None,
        description: str = "",
    ) -> Path:
        """Write a user preset atomically, readable by its user only.

        `None` values are omitted: TOML has no null, and a missing value means the default.

        Raises:
            PresetError: when the name is invalid, the base is unknown, or the file can't be written.
        """
        if self._user_folder is None:
            raise PresetError("this catalogue has no user folder to save presets to")
        _check_name(name)
        if extends is not None:
            self._find(extends, shipped_only=extends == name)
            if name in self.bases(extends) and extends != name:
                raise PresetError(f"{extends!r} extends {name!r}, so {name!r} can't extend it")
        head = {"description": description, "extends": extends}
        text = to_toml({**{key: item for key, item in head.items() if item}, **values})
        path = self._user_folder / f"{name}.toml"
        try:
            write_private(path, text)
        except OSError as error:
            raise PresetError(
                f"preset {name!r} can't be saved at {path}: {error.strerror}"
            ) from None
        return path

    def list(self) -> Presets:
        """List all presets by name; a user preset hides another one of its name."""
        presets = [_describe(name, *place) for name, place in self._places().items()]
        if self._user_folder is not None:
            presets += [
                PresetInfo(
                    name,
                    self._user_folder,
                    origin="user",
                    description="",
                    extends="",
                    problem=problem,
                )
                for name, problem in toml_files(self._user_folder).refused.items()
            ]
        return sorted(presets, key=lambda info: info.name)

    def _places(self) -> dict[str, tuple[Path, str]]:
        places = _read_only_places()
        if self._user_folder is not None:
            for name, path in _presets_in(self._user_folder).items():
                places[name] = (path, "user")
        return places

    def _find(self, name: str, *, shipped_only: bool = False) -> tuple[Path, str]:
        places = self._places()
        place = places.get(name)
        if place is not None and shipped_only and place[1] == "user":
            place = _read_only_places().get(name)
        if place is None and shipped_only:
            raise PresetError(f"unknown preset {name!r}: no shipped preset has this name")
        if place is None and name.endswith(".toml") and self._user_folder is not None:
            raise PresetError(
                f"unknown preset {name!r}: this is a file name; copy the file to {self._user_folder} "
                f"and use the preset name {Path(name).stem!r}"
            )
        if place is None:
            raise PresetError(f"unknown preset {name!r}{_hint(name, places)}")
        return place

    def layers(self, name: str) -> Layers:
        """Return the files from `name` down to the one that extends nothing.

        Raises:
            PresetError: as `read` does.
        """
        chain: Layers = []
        seen: set[Path] = set()
        names = [name]
        shipped_only = False
        while True:
            try:
                path, origin = self._find(names[-1], shipped_only=shipped_only)
            except PresetError as error:
                where = f"preset {names[-2]!r} extends an " if len(names) > 1 else ""
                raise PresetError(f"{where}{error}") from None
            if path in seen:
                raise PresetError(f"presets extend each other in a cycle: {' -> '.join(names)}")
            seen.add(path)
            text = read_text(path)
            document = parse(text, path)
            chain.append(Layer(names[-1], path, origin=origin, text=text, document=document))
            base = document.get("extends")
            if base is None:
                return chain
            if not isinstance(base, str):
                raise PresetError(
                    f"preset {path}: extends must be the name of a preset, found {base!r}"
                )
            shipped_only = base == names[-1]
            names.append(base)


def installed_presets() -> Plugins[PresetFolder]:
    """Return the folders of presets that installed packages bring along, and why others were left out."""
    tops = sorted({name.partition("/")[0] for name in _presets_in(SHIPPED)} | {EXPERIMENTS})
    return preset_packages(tuple(tops))


def _read_only_places() -> dict[str, tuple[Path, str]]:
    """Return the presets that nobody edits: shipped ones, and those of packages under their names."""
    places = {name: (path, "shipped") for name, path in _presets_in(SHIPPED).items()}
    for top, folder in installed_presets().parts.items():
        for name, path in _presets_in(folder.path).items():
            places[f"{top}/{name}"] = (path, folder.package)
    return places


def _presets_in(folder: Path) -> dict[str, Path]:
    paths = toml_files(folder).paths
    return {name: paths[name] for name in paths if not name.startswith(f"{EXPERIMENTS}/")}


def _describe(name: str, path: Path, origin: str) -> PresetInfo:
    try:
        document = parse_file(path)
    except PresetError as error:
        return PresetInfo(name, path, origin=origin, description="", extends="", problem=str(error))
    description, extends = (str(document.get(key, "")) for key in ("description", "extends"))
    return PresetInfo(name, path, origin=origin, description=description, extends=extends)


def parse_file(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        PresetError: when it can't be read or is not valid TOML.
    """
    return parse(read_text(path), path)


def parse(text: str, path: Path) -> dict[str, Any]:
    """Read the text of the TOML file at `path`; raises what `parse_file` raises."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PresetError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise PresetError(f"{path} is not valid TOML: nested too deeply") from None


def read_text(path: Path) -> str:
    """Return the text of a file; raises what `parse_file` raises."""
    try:
        state = path.stat()
        if not S_ISREG(state.st_mode) or state.st_size > _MOST_BYTES:
            what = f"larger than {_MOST_BYTES:,} bytes" if S_ISREG(state.st_mode) else "not a file"
            raise PresetError(f"{path} can't be read: it is {what}, so it is no preset")
        # With or without the mark that Windows' editors put in front.
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise PresetError(
            f"{path}: there is no such file; a name without .toml is looked for among the presets and "
            "experiments of your home and the shipped ones"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} can't be read: {error}") from None


def _hint(name: str, names: Mapping[str, Any]) -> str:
    tails = {full.rpartition("/")[2]: full for full in names}
    close = difflib.get_close_matches(name, [*names, *tails], n=1, cutoff=0.6)
    meant = f", did you mean {tails.get(close[0], close[0])!r}?" if close else ""
    return f"{meant or ';'} `sepdash presets` lists all presets"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or name.endswith(".toml"):
        raise PresetError(
            f"{name!r} is not a valid preset name: use letters, digits, '-', '_' and '.', with '/' between "
            "folders and no '.toml' at the end, like 'bandwidth/mine'"
        )
    if name.startswith(f"{EXPERIMENTS}/"):
        raise PresetError(
            f"{name!r} is not a valid preset name: {EXPERIMENTS!r} is reserved for experiment files"
        )


def to_toml(values: Mapping[str, Any]) -> str:
    """Return values as the text of a preset, without absent ones (None)."""
    # tomlkit takes 0.2 s to import and only saving needs it.
    import tomlkit

    return tomlkit.dumps(_without_none(values))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop absent values and put plain ones before tables, as TOML requires."""
    present = {key: item for key, item in values.items() if item is not None}
    plain = {key: item for key, item in present.items() if not isinstance(item, Mapping)}
    tables = {
        key: _without_none(item) for key, item in present.items() if isinstance(item, Mapping)
    }
    return {**plain, **tables}
