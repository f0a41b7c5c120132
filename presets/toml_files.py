"""The TOML files below a folder, by the names they are used by: their paths without the ending.

A name that can't be typed and shown (control characters, other signs than those of words, a dot in
front) is not used, and said why not, as is a folder that can't be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from models.folders import kind_of, walk

_PART = r"[^\W_][\w .+-]*(?<! )"
_NAME = re.compile(f"{_PART}(/{_PART})*")


@dataclass(frozen=True, slots=True)
class TomlFiles:
    """What a folder has: `paths` by name, and why others are not used, by what stands in their place."""

    paths: dict[str, Path] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def toml_files(folder: Path) -> TomlFiles:
    """Return the TOML files below a folder, which may be absent."""
    if kind_of(folder) != "folder":
        return TomlFiles()
    found = walk(folder)
    files = TomlFiles(refused={str(folder): problem for problem in found.problems})
    for path in sorted(found.named(_is_toml), key=lambda path: path.suffix != ".toml"):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not _NAME.fullmatch(name):
            files.refused[_shown(name)] = (
                f"{_shown(path)}: this file name can't be the name of a preset or experiment; rename it "
                "with letters, digits, '-', '_', '.', '+' and single spaces"
            )
        elif name in files.paths:
            files.refused[f"{name}{path.suffix}"] = (
                f"{path}: {files.paths[name].name} is used instead"
            )
        else:
            files.paths[name] = path
    return files


def _is_toml(name: str) -> bool:
    return name.lower().endswith(".toml")


def _shown(name: str | Path) -> str:
    """Return a name without what a terminal would act on."""
    return "".join(
        sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(name)
    )
