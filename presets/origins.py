"""Where each value of a preset comes from: which file of its `extends` chain, and which line.

Owns the bookkeeping beside `presets.merging.merge`; knows no schema, so settings that no file
names are not here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from presets.catalogue import Catalogue, Layer
from presets.merging import leaves, merge

Source = Literal[
    "preset", "experiment", "option", "variant", "grid", "match", "seeds", "default",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ValueOrigin:
    """What gave a setting its value.

    `name` is that of the preset, experiment or variant, or the text of the option; `layer` is
    "shipped", "user" or a package for a preset; `line` counts from 1 in the file `path`.
    """

    source: Source
    name: str = ""
    layer: str = ""
    path: Path | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Traced:
    """Nested values, and the origin of each by its dotted key."""

    values: Mapping[str, Any]
    origins: Mapping[str, ValueOrigin]

    def under(self, top: Mapping[str, Any], origin_of: Callable[[str], ValueOrigin]) -> Traced:
        """Return these values with those of `top` laid over them, as `merge` does."""
        return self.replaced(merge(self.values, top), dict(leaves(top)), origin_of=origin_of)

    def replaced(
        self,
        values: Mapping[str, Any],
        changed: Mapping[str, Any],
        *,
        origin_of: Callable[[str], ValueOrigin],
    ) -> Traced:
        """Return other values, of which those with the keys of `changed` have a new origin."""
        origins = {
            key: origin_of(key) if key in changed or key not in self.origins else self.origins[key]
            for key, _ in leaves(values)
        }
        return Traced(values, origins)


def trace_preset(catalogue: Catalogue, name: str) -> Traced:
    """Return the values of a preset with its `extends` chain resolved, and where they come from.

    Raises:
        PresetError: as `Catalogue.read` does.
    """
    traced = Traced({}, {})
    for layer in reversed(catalogue.layers(name)):
        traced = traced.under(layer.values, _origins_in(layer))
    return traced


def lines_of(text: str) -> dict[str, int]:
    """Return the line, counted from 1, on which each dotted key of a TOML text is set.

    A statement ends where the lines since its beginning are valid TOML by themselves.
    """
    result: dict[str, int] = {}
    section = ""
    statement: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        statement.append(line)
        try:
            values = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue
        first = number - len(statement) + 1
        statement.clear()
        if line.lstrip().startswith("[") and first == number:
            section = _header(values)
            continue
        result |= {f"{section}{key}": first for key, _ in leaves(values)}
    return result


def _header(values: Any) -> str:
    """Return the prefix of the keys below a header such as `[set.model]`."""
    prefix = ""
    while isinstance(values, Mapping) and values:
        ((name, values),) = values.items()
        prefix += f"{name}."
    return prefix


def _origins_in(layer: Layer) -> Callable[[str], ValueOrigin]:
    lines = lines_of(layer.text)
    return lambda key: ValueOrigin(
        "preset", layer.name, layer=layer.origin, path=layer.path, line=lines.get(key)
    )
