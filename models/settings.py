"""How a setting is declared, once, for every consumer of it.

Owns the base class of all config sections and `setting`, the one way to declare a field with its
help text, unit and bounds. The check, the form, the command line and the docs all render these.
Knows nothing of torch, files or presets.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A group of settings: frozen, closed to unknown keys, strict about types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def setting(default: Any, help: str, *, unit: str = "", **bounds: Any) -> Any:
    """Declare a field of a `Section`.

    Args:
        default: the value when a preset is silent; `...` makes the field required.
        help: one sentence for the form, the docs and the command line.
        unit: the unit of the value, empty for pure numbers, names and switches.
        **bounds: pydantic constraints (`ge`, `gt`, `le`, `lt`, `min_length`, `max_length`).
    """
    return Field(default, description=help, json_schema_extra={"unit": unit}, **bounds)
