"""Merges one set of preset values over another, and computes the difference again.

Values are those of TOML and JSON: tables, lists, text, numbers, booleans. Independent of the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

# Sections in which every kind has its own settings.
_WITH_VARIANTS = ("data", "model", "loss")

# Section and kind -> kinds beside which files of 2026-11-22 may hold settings of that kind, and which.
_WAITING = {("loss", "spectral"): (("si_sdr", "l1", "rnnt"), ("windows", "reduction"))}


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `top` over `base`, section by section.

    A different `kind` of data, model or loss resets its section, because the settings of `base` belong to
    another kind. In other sections all kinds share their settings, and those of `base` stay.
    """
    result = deepcopy(dict(base))
    for key, value in top.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            afresh = _starts_afresh(key, below, top=value)
            result[key] = _afresh(key, below, top=value) if afresh else merge(below, value)
        else:
            # Last in the section: of two names of one setting the later counts (old_names).
            result.pop(key, None)
            result[key] = deepcopy(value)
    return result


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """Return a setting of nested values by its dotted key; None where there is none."""
    found: Any = values
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each setting in nested values."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def difference(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the smallest `top` with `merge(base, top) == values`.

    None when there is no such `top`: a key of `base` is gone, which a merge can't express.
    """
    top: dict[str, Any] = {}
    for key, value in values.items():
        if key in base and base[key] == value:
            continue
        below = base.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            if _starts_afresh(key, below, top=value):
                top[key] = deepcopy(dict(value))
                continue
            inner = difference(below, value)
            if inner is None:
                return None
            top[key] = inner
        else:
            top[key] = deepcopy(value)
    return top if merge(base, top) == dict(values) else None


def _afresh(name: str, below: Mapping[str, Any], *, top: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section of another kind, with what an old file below it holds for that kind."""
    others, waiting = _WAITING.get((name, str(top["kind"])), ((), ()))
    kept = {key: below[key] for key in waiting if key in below and below.get("kind") in others}
    return deepcopy({**kept, **top})


def _starts_afresh(name: str, below: Mapping[str, Any], *, top: Mapping[str, Any]) -> bool:
    return name in _WITH_VARIANTS and "kind" in top and top["kind"] != below.get("kind")
