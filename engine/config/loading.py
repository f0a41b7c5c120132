"""From raw values to a `RunConfig`, or to a list of everything that is wrong with them.

Owns the wording of config problems: dotted key, actual value, expected value, nearest name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from engine.config.data_settings import DataSettings
from engine.config.errors import ConfigError, Problem, counted, nearest
from engine.config.fields import (
    BOUNDS,
    EMPTY,
    SettingInfo,
    empty_values,
    kind_choices,
    list_settings,
)
from engine.config.kinds import VARIANTS, AnyData, chosen_kinds, why_missing, with_kinds
from engine.config.old_names import upgraded
from engine.config.schema import RunConfig

_TYPES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": 'a list, like [2, 4, 8] or ["vocals", "drums"]',
    "list_type": 'a list, like [2, 4, 8] or ["vocals", "drums"]',
}
# What a run or checkpoint says whose package is not installed here.
_OF_A_PACKAGE = "a package provides this kind, install that package and try again"


def load_config(values: Mapping[str, Any]) -> RunConfig:
    """Check plain nested values, as read from TOML or JSON.

    Values of an older version are upgraded first. A model without a kind is a U-Net, and a loss
    without one the default loss of the data. The text `none` empties a setting that may be empty.

    Raises:
        ConfigError: with every problem at once.
    """
    values = _with_empty(with_kinds(upgraded(values)))
    try:
        text = json.dumps(values)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            [Problem("", f"contains a value that JSON can't represent: {error}")]
        ) from None
    try:
        return RunConfig.model_validate_json(text)
    except ValidationError as error:
        details = _without_consequences(error.errors(include_url=False))
        raise ConfigError(_to_problem(detail, values) for detail in details) from None


def load_data(values: Mapping[str, Any]) -> DataSettings:
    """Check the section `data` of plain nested values alone, as `load_config` does all of them.

    Raises:
        ConfigError: with every problem of that section at once.
    """
    values = _with_empty(with_kinds(upgraded(values)))
    try:
        text = json.dumps(values.get("data", {}))
        found: DataSettings = TypeAdapter(AnyData).validate_json(text)
    except ValidationError as error:
        details = [
            {**item, "loc": ("data", *item["loc"])} for item in error.errors(include_url=False)
        ]
        raise ConfigError(
            _to_problem(cast(ErrorDetails, item), values) for item in details
        ) from None
    return found


def _with_empty(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with each setting emptied that is `none` and may be empty; others keep the text.

    A path of no characters would be the current folder: it is none, too.

    Raises:
        ConfigError: for such a path where one is needed.
    """
    if not _holds_empty(values):
        return values
    kinds = chosen_kinds(values)
    empty = empty_values(kinds)
    paths = {item.key for item in list_settings(kinds) if item.unit == "path"}
    problems: list[Problem] = []

    def emptied(value: Any, key: str) -> Any:
        if isinstance(value, Mapping):
            return {
                name: emptied(inner, f"{key}.{name}".lstrip(".")) for name, inner in value.items()
            }
        nothing = isinstance(value, str) and key in paths and not value.strip()
        if nothing and key not in empty:
            text = "the path is empty (is a variable of the shell unset?); give a folder or a file"
            problems.append(Problem(key, text))
        return empty[key] if (value == EMPTY or nothing) and key in empty else value

    result: dict[str, Any] = emptied(values, "")
    if problems:
        raise ConfigError(problems)
    return result


def _holds_empty(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_empty, value.values()))
    return isinstance(value, str) and (value == EMPTY or not value.strip())


def _to_problem(detail: ErrorDetails, values: Mapping[str, Any]) -> Problem:
    path = _without_tags(detail["loc"], values)
    key = ".".join(path)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return Problem(key, f"unknown setting{_hint(path, values)}")
        case "missing":
            return Problem(
                key, "is required and has no default; set it in the preset or with --set"
            )
        case "union_tag_invalid" | "union_tag_not_found":
            names = kind_choices().get(key, ())
            tag = context.get("tag")
            problem = f"unknown kind {tag!r}" if tag is not None else "is missing"
            expected = f"{problem}; expected {', '.join(names)}{nearest(str(tag), names)}"
            if reason := why_missing(key, str(tag)):
                return Problem(f"{key}.kind", f"{expected}{reason}")
            if tag is not None:
                expected += f"{' If' if expected.endswith('?') else '; if'} {_OF_A_PACKAGE}"
            return Problem(f"{key}.kind", expected)
        case "value_error":
            return Problem(key, _plain(str(context.get("error", detail["msg"])), detail["input"]))
        case _:
            info = next(
                (item for item in list_settings(chosen_kinds(values)) if item.key == key), None
            )
            return Problem(key, expectation(detail, key, info=info))


def _without_consequences(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop the error that a list is too short if its values were rejected: it only follows from those."""
    inner = {detail["loc"][:-1] for detail in details}
    return [d for d in details if d["type"] != "too_short" or d["loc"] not in inner]


def expectation(detail: ErrorDetails, key: str, *, info: SettingInfo | None = None) -> str:
    """Return the message of a pydantic error: the expected value with all its bounds, and the actual one.

    Args:
        detail: the error.
        key: dotted, of the value.
        info: the setting, where the value is one and not a part of a list.
    """
    expected = _expected(detail, key, info=info)
    if not expected:
        return _plain(detail["msg"], detail["input"])
    return f"expected {expected}, found {detail['input']!r}"


def _expected(detail: ErrorDetails, key: str, *, info: SettingInfo | None) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    match kind:
        case "literal_error":
            return str(context["expected"])
        case "too_short" | "string_too_short":
            empty = f", or {EMPTY!r} for no value" if info is not None and info.optional else ""
            return f"at least {_count(context['min_length'], kind)}{empty}"
        case "too_long" | "string_too_long":
            return f"at most {_count(context['max_length'], kind)}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"a section of settings, like {key}.name = value"
    word = _TYPES.get(kind, "")
    for name, sign in BOUNDS.items():
        if name in context:
            word = f"a number {sign} {context[name]}"
    if word and info is not None and info.type_name in ("int", "float"):
        word = word if kind == "finite_number" else _TYPES[f"{info.type_name}_type"]
        word = f"{word} {info.bounds}".strip()
    return word


def _count(number: int, kind: str) -> str:
    noun = "character" if kind.startswith("string") else "value"
    return counted(number, noun)


def _plain(message: str, value: Any) -> str:
    text = message[0].lower() + message[1:] if message else "is wrong"
    is_named = isinstance(value, Mapping) or text.startswith(repr(value))
    return text if is_named else f"{text}, found {value!r}"


def _without_tags(location: tuple[int | str, ...], values: Mapping[str, Any]) -> list[str]:
    """Drop the union tags pydantic puts into a location: data.bandwidth.train -> data.train."""
    path = [str(part) for part in location]
    if len(path) > 1 and path[0] in VARIANTS:
        section = values.get(path[0])
        if isinstance(section, Mapping) and section.get("kind") == path[1]:
            del path[1]
    return path


def _hint(path: list[str], values: Mapping[str, Any]) -> str:
    """Name the setting that was probably meant, first beside the unknown one, then anywhere."""
    keys = [item.key for item in list_settings(chosen_kinds(values))]
    *parents, name = path
    prefix = ".".join(parents)
    depth = len(parents)
    siblings = {
        parts[depth]
        for key in keys
        if len(parts := key.split(".")) > depth and ".".join(parts[:depth]) == prefix
    }
    if prefix in VARIANTS and (owners := _kinds_with(prefix, name)):
        return f"; {name} belongs to {' or '.join(f'{prefix}.kind = {kind!r}' for kind in owners)}"
    if hint := nearest(name, siblings):
        return hint
    elsewhere = [key for key in keys if key.split(".")[-1] == name]
    if elsewhere:
        return f", did you mean {elsewhere[0]!r}?"
    return f"; {prefix or 'a config'} has {', '.join(sorted(siblings))}" if siblings else ""


def _kinds_with(section: str, name: str) -> list[str]:
    """Return the kinds of a section that have a setting."""
    return [
        kind
        for kind in kind_choices()[section]
        if any(item.key == f"{section}.{name}" for item in list_settings({section: kind}))
    ]
