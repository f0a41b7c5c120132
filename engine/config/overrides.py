"""Dotted overrides, as given to `--set optimizer.lr=3e-3` or typed into the form."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from engine.config.errors import ConfigError, Problem
from engine.config.fields import EMPTY, list_settings
from engine.config.loading import load_config
from engine.config.old_names import current_setting, upgraded
from engine.config.schema import RunConfig


def apply_overrides(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return a copy of `values` with each `key=value` assigned.

    A value is parsed as TOML (`true`, `3e-3`, `[2, 4]`, `"text"`); anything else is text, and
    so is the name of a folder or a project that looks like a number or a date. `none` empties a
    setting that may be empty. Another `kind` removes from its section the settings that only the old kind has.
    Whether the key exists and the value fits is decided by `load_config`.

    Raises:
        ConfigError: when an assignment has no `=` or an empty key, or names a part of a plain value.
    """
    result, problems = applied(values, assignments)
    if problems:
        raise ConfigError(problems)
    return result


def config_with(values: Mapping[str, Any], assignments: Iterable[str]) -> RunConfig:
    """Return the config of `values` with each `key=value` assigned.

    Raises:
        ConfigError: with every problem of the assignments and of the values at once.
    """
    result, problems = applied(values, assignments)
    try:
        config = load_config(result)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return config


def set_options(assignments: Iterable[str]) -> str:
    """Return assignments as options of a command that a person can paste into a shell."""
    return " ".join(f"--set {shlex.quote(text)}" for text in assignments)


def applied(
    values: Mapping[str, Any], assignments: Iterable[str]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return what `apply_overrides` does, and the problems of the assignments."""
    assignments = list(assignments)
    result = deepcopy(upgraded(values))
    settings = list_settings()
    kinds = {item.key: item.choices for item in settings if item.key.endswith(".kind")}
    for key, _, kind in (assignment.partition("=") for assignment in assignments):
        if (parsed := parse_value(kind)) in kinds.get(key.strip(), ()):
            change_kind(result, key.strip().removesuffix(".kind"), kind=parsed)
    texts = {item.key for item in settings if item.type_name in ("path", "text")}
    optional = {item.key for item in settings if item.optional}
    problems: list[Problem] = []
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        key = current_setting(key.strip())
        parts = [part.strip() for part in key.split(".")]
        if not sign or not all(parts):
            problems.append(Problem("", f"--set {assignment}: expected section.key=value"))
            continue
        target: Any = result
        for part in parts[:-1]:
            if isinstance(target, dict) and target.get(part) in (None, EMPTY):
                target[part] = {}  # a section that is absent or empty
            target = target[part] if isinstance(target, dict) else None
        if not isinstance(target, dict):
            problems.append(
                Problem(key, "can't be set: its parent is a plain value, not a section")
            )
            continue
        name, value = ".".join(parts), parse_value(text)
        if value == EMPTY and name in optional:
            value = None
        elif name in texts and not isinstance(value, str):
            value = text.strip()
        target[parts[-1]] = value
    return result, problems


def change_kind(values: dict[str, Any], section: str, *, kind: str) -> None:
    """Change the kind of a section, in place, keeping the settings that both kinds have."""
    below = values.get(section, {})
    if not isinstance(below, dict) or below.get("kind") == kind:
        return
    known = {item.key for item in list_settings({section: kind})}
    kept = {name: value for name, value in below.items() if f"{section}.{name}" in known}
    values[section] = {**kept, "kind": kind}


def parse_value(text: str) -> Any:
    """Parse one TOML value; other text is returned unchanged."""
    stripped = text.strip()
    try:
        return tomllib.loads(f"value = {stripped}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return stripped
