"""Dotted overrides, as given to `--set optimizer.lr=3e-3` or typed into the form."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from engine.config.fields import list_settings
from engine.config.problems import ConfigError, Problem


def apply_overrides(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `values` with each `key=value` put in place.

    A value is read as TOML (`true`, `3e-3`, `[2, 4]`, `"text"`); what is no TOML value is text, and
    so is the name of a folder or a project that looks like a number or a date.
    Whether the key exists and the value fits is decided by `load_config`.

    Raises:
        ConfigError: when an assignment has no `=` or an empty key, or names a part of a plain value.
    """
    result = deepcopy(dict(values))
    texts = {item.key for item in list_settings() if item.type_name in ("path", "text")}
    problems: list[Problem] = []
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not sign or not all(parts):
            problems.append(Problem("", f"--set {assignment}: expected section.key=value"))
            continue
        target: Any = result
        for part in parts[:-1]:
            target = target.setdefault(part, {}) if isinstance(target, dict) else None
        if isinstance(target, dict):
            value = parse_value(text)
            plain = isinstance(value, str) or ".".join(parts) not in texts
            target[parts[-1]] = value if plain else text.strip()
        else:
            problems.append(Problem(key.strip(), "names a part of a plain value"))
    if problems:
        raise ConfigError(problems)
    return result


def parse_value(text: str) -> Any:
    """Read one TOML value; text that is none is returned as it is."""
    stripped = text.strip()
    try:
        return tomllib.loads(f"value = {stripped}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return stripped
