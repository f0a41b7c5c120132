"""How a setting is declared, once, for every consumer of it.

Owns the base class of all config sections and `setting`, the one way to declare a field with its
help text, unit and bounds; `run_reference` declares one that names another run, and
`require_multiples` checks some against each other. The check, the form, the command line and the docs
all render these. Knows nothing of torch, files or presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

# Group of parameters -> how the names of its parameters begin.
ParameterGroups = Mapping[str, tuple[str, ...]]


class Section(BaseModel):
    """A group of settings: frozen, closed to unknown keys, strict about types.

    Attributes:
        parameter_groups: of the settings of a model: group of parameters that may have a learning rate of its
            own (`optimizer.lr_scale`) -> how names of parameters in it begin. The longest match decides; "" is
            all that no other group has.
    """

    parameter_groups: ClassVar[ParameterGroups] = {}

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


def require_multiples(settings: Section, *pairs: tuple[str, str]) -> None:
    """Check settings of which one has to be a whole multiple of another: (multiple, divisor).

    Raises:
        ValueError: naming the first pair that is not.
    """
    for name, divisor in pairs:
        value, by = getattr(settings, name), getattr(settings, divisor)
        if value % by:
            raise ValueError(f"{name} = {value} must be a multiple of {divisor} = {by}")


def run_reference(
    default: Any,
    help: str,
    *,
    only_at_start: bool = False,
    curve: bool = False,
    file: str = "",
) -> Any:
    """Declare a field that names another run, or a checkpoint folder: a base, a codec, a teacher.

    Its type is `str`, or `str | None` where it may be left out. What may be written in it is said in
    `engine.config.references`; a run with such a setting waits in the queue for the one it names.

    Args:
        default: the value when a preset is silent; `...` makes the field required.
        help: one sentence for the form, the docs and the command line.
        only_at_start: the checkpoint is read by a fresh run only; one that resumes from a checkpoint
            of its own does without it.
        curve: what is taken of the run is a validation curve, not a checkpoint; a folder has none.
        file: ending of files that may take the place of a checkpoint, as in ".npy".
    """
    extra: dict[str, Any] = {"unit": "", "refers_to": "run", "only_at_start": only_at_start}
    if curve:
        extra["takes"] = "curve"
    if file:
        extra["file"] = file
    return Field(default, description=help, json_schema_extra=extra, min_length=1)
