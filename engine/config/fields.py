"""A walk over the schema: each setting with its key, type, default, unit, bounds and help.

The preset form, `sepdash presets --settings` and the docs are made from this list.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.config.quantity import Quantity
from engine.config.schema import RunConfig
from engine.config.span import Span

# What a setting that refers to a run may hold (`engine.config.references`).
RUN_REFERENCE = "a run's name or id, or a checkpoint folder"
# The word for "empty" in files and options: TOML has no null.
EMPTY = "none"
CURVE_REFERENCE = "a run's name or id"
# How pydantic names a bound, and the sign of it.
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One setting of a run.

    Attributes:
        type_name: bool, int, float, text, path, span, quantity, choice or list.
        refers_to_run: the text names another run or a checkpoint folder (`engine.config.references`).
    """

    key: str
    type_name: str
    default: Any
    required: bool
    optional: bool
    unit: str
    help: str
    choices: tuple[str, ...]
    bounds: str
    refers_to_run: bool = False

    @property
    def default_text(self) -> str:
        """The default as a table shows it."""
        if self.required:
            return "required"
        if self.default is None:
            return "none"
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, tuple):
            return f"[{', '.join(map(str, self.default))}]"
        return str(self.default) or '""'


def list_settings(kinds: Mapping[str, str] | None = None) -> list[SettingInfo]:
    """List the settings of a run, in schema order.

    Args:
        kinds: which variant of `data`, `model` and `loss` to describe, for example
            `{"data": "stems"}`; every variant is listed where none is given.
    """
    return list(_settings(tuple(sorted((kinds or {}).items()))))


def empty_values(kinds: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what an empty setting holds, by the key of each one that may be: None, or [] for a list.

    Optional sections are among them. `kinds` as for `list_settings`.
    """
    return {
        key: [] if is_list else None
        for key, is_list in _may_be_empty(tuple(sorted((kinds or {}).items())))
    }


def shown(value: object) -> str:
    """Return a value as messages write it, and as `--set` takes it where it is empty."""
    return EMPTY if value is None else str(value)


@cache
def kind_choices() -> Mapping[str, tuple[str, ...]]:
    """Return the kinds of each section that comes in several: `data`, `model` and `loss`."""
    return {
        name: tuple(_kind_of(section) for section in sections)
        for name, field in RunConfig.model_fields.items()
        if len(sections := _sections_of(field.annotation)) > 1
    }


# Each config that is checked asks for these, and a form at each key.
@lru_cache(maxsize=64)
def _settings(kinds: tuple[tuple[str, str], ...]) -> tuple[SettingInfo, ...]:
    return tuple(_walk(RunConfig, "", kinds=dict(kinds)))


@lru_cache(maxsize=64)
def _may_be_empty(kinds: tuple[tuple[str, str], ...]) -> tuple[tuple[str, bool], ...]:
    return tuple(_empty_keys(RunConfig, "", kinds=dict(kinds)))


def _walk(
    section: type[BaseModel], prefix: str, *, kinds: Mapping[str, str]
) -> Iterator[SettingInfo]:
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        sections = _sections_of(field.annotation)
        wanted = kinds.get(name) if not prefix else None
        seen: set[str] = set()
        for inner in sections:
            if wanted is not None and len(sections) > 1 and _kind_of(inner) != wanted:
                continue
            for item in _walk(inner, f"{key}.", kinds=kinds):
                if item.key not in seen:
                    seen.add(item.key)
                    chooses = len(sections) > 1 and item.key == f"{key}.kind"
                    yield (
                        _with_kinds(item, sections, required=field.is_required())
                        if chooses
                        else item
                    )
        if not sections:
            yield _describe(key, field)


def _empty_keys(
    section: type[BaseModel], prefix: str, *, kinds: Mapping[str, str]
) -> Iterator[tuple[str, bool]]:
    """Yield the key of each setting that may be empty, and whether that is an empty list."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        annotation, optional = _unwrap_optional(field.annotation)
        sections = _sections_of(field.annotation)
        if optional:
            yield key, False
        elif not sections and _type_name(annotation) == "list":
            yield key, True
        wanted = kinds.get(name) if not prefix and len(sections) > 1 else None
        for inner in sections:
            if wanted is None or _kind_of(inner) == wanted:
                yield from _empty_keys(inner, f"{key}.", kinds=kinds)


def _sections_of(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for arg in get_args(annotation) for inner in _sections_of(arg)]
    return []


def _kind_of(section: type[BaseModel]) -> str:
    return str(section.model_fields["kind"].default)


def _with_kinds(
    item: SettingInfo, sections: list[type[BaseModel]], *, required: bool
) -> SettingInfo:
    kinds = tuple(_kind_of(section) for section in sections)
    return replace(
        item, type_name="choice", required=required, choices=kinds, bounds=", ".join(kinds)
    )


def _describe(key: str, field: FieldInfo) -> SettingInfo:
    annotation, optional = _unwrap_optional(field.annotation)
    choices = (
        tuple(str(arg) for arg in get_args(annotation)) if get_origin(annotation) is Literal else ()
    )
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    required = field.is_required()
    refers_to_run = extra.get("refers_to") == "run"
    return SettingInfo(
        key=key,
        type_name=_type_name(annotation),
        default=None if required else field.default,
        required=required,
        optional=optional,
        unit=str(extra.get("unit", "")),
        help=field.description or "",
        choices=choices,
        bounds=_run_bounds(extra) if refers_to_run else ", ".join(choices) or _bounds(field),
        refers_to_run=refers_to_run,
    )


def _run_bounds(extra: Mapping[str, Any]) -> str:
    if extra.get("takes") == "curve":
        return CURVE_REFERENCE
    return f"{RUN_REFERENCE}, or a {file} file" if (file := extra.get("file")) else RUN_REFERENCE


def _unwrap_optional(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) in (Union, types.UnionType):
        args = [arg for arg in get_args(annotation) if arg is not type(None)]
        return args[0], len(args) < len(get_args(annotation))
    return annotation, False


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return "choice"
    if get_origin(annotation) is tuple:
        return "list"
    if annotation is Span:
        return "span"
    if annotation is Quantity:
        return "quantity"
    names = {bool: "bool", int: "int", float: "float", str: "text"}
    return names.get(annotation, "path")


def _bounds(field: FieldInfo) -> str:
    bounds = []
    for constraint in field.metadata:
        for name, sign in BOUNDS.items():
            value = getattr(constraint, name, None)
            if value is not None:
                bounds.append(f"{sign} {value}")
    return ", ".join(bounds)
