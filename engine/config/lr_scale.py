"""The learning rate of a group of parameters relative to that of the run: `"text=0.1"`.

Which groups there are is the model's to say (`models.base.settings.Section.parameter_groups`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from engine.config.errors import nearest

_PATTERN = re.compile(
    r"\s*([a-z][a-z0-9_]*)\s*=\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*"
)
MAX_FACTOR = 100.0


@dataclass(frozen=True, slots=True)
class GroupScale:
    """The group `name` is trained at `factor` times the learning rate of the run; 0 leaves it as it is."""

    name: str
    factor: float

    def __str__(self) -> str:
        return f"{self.name}={self.factor:g}"

    @classmethod
    def parse(cls, text: object) -> GroupScale:
        """Read `"text=0.1"`.

        Raises:
            ValueError: when it is anything else, or the factor is above 100.
        """
        if isinstance(text, cls):
            return text
        match = _PATTERN.fullmatch(text) if isinstance(text, str) else None
        factor = float(match[2].replace("_", "")) if match is not None else math.nan
        if match is None or not factor <= MAX_FACTOR:
            raise ValueError(
                f"expected a group of parameters and its factor, 0 to {MAX_FACTOR:g}, like 'encoder=0.1'"
            )
        return cls(match[1], factor)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls.parse,
            core_schema.any_schema(),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_PATTERN.pattern}$", "examples": ["encoder=0.1"]}


def _listed(value: object) -> object:
    """Let one text stand for a list, so that `--set optimizer.lr_scale=encoder=0.1,head=2` is one."""
    if isinstance(value, str):
        return tuple(value.split(","))
    # After this validator a list of JSON counts as one of Python, which is no tuple.
    return tuple(value) if isinstance(value, list) else value


GroupScales = Annotated[tuple[GroupScale, ...], BeforeValidator(_listed)]


def scale_problem(
    scales: Sequence[GroupScale], groups: Mapping[str, Sequence[str]], *, kind: str
) -> str:
    """Return why a model can't be trained at these rates; empty if it can.

    Args:
        scales: the setting.
        groups: those of the model.
        kind: of the model.
    """
    names = [scale.name for scale in scales]
    for name in names:
        if not groups:
            return (
                f"optimizer.lr_scale names {name!r}, but model.kind = {kind!r} has no groups of parameters; "
                "remove it, and set optimizer.lr"
            )
        if name not in groups:
            known = ", ".join(groups)
            return (
                f"optimizer.lr_scale names {name!r}, but model.kind = {kind!r} has the groups "
                f"{known}{nearest(name, groups)}"
            )
        if names.count(name) > 1:
            return f"optimizer.lr_scale names {name!r} twice; keep one of them"
    return ""
