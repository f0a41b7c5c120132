"""Models of other packages: the entry point group `sepdash.models`.

A package declares the settings of its model in a subclass of `PluginModel` and names that class in
its metadata (`models.entry_points`). The module of the class must not import torch, as it is loaded
wherever presets are checked; `build` may. Owns the rules that settings of other packages must keep,
whatever they are settings of.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

from models.base.settings import Section

GROUP = "sepdash.models"

AnySection = TypeVar("AnySection", bound=Section)


class PluginModel(Section):
    """Settings of a model that another package provides.

    A subclass declares `kind` as a literal equal to the name of its entry point, with a default,
    and its settings by `models.settings.setting`; `recipes` are the names of the recipes that can
    train it, `rates_hz` the lowest and highest sampling rate it takes.
    """

    recipes: ClassVar[frozenset[str]] = frozenset({"separation"})
    rates_hz: ClassVar[tuple[int, int]] = (4_000, 192_000)

    kind: str

    def build(self, *, channels: int, sources: int) -> Any:
        """Return the network: a `torch.nn.Module` from (B, C, T) to (B, S, C, T), for any T >= 1.

        Arguments and shapes are those of the separation recipe; another recipe names its own.
        """
        raise NotImplementedError


def accept_model(point: EntryPoint, value: object) -> type[PluginModel]:
    """Return the settings that an entry point names.

    Raises:
        TypeError: when they break a rule.
    """
    model = accept_section(point, value, base=PluginModel)
    if model.build is PluginModel.build:
        raise TypeError(f"{point.value} has no method `build`")
    return model


def accept_section(point: EntryPoint, value: object, *, base: type[AnySection]) -> type[AnySection]:
    """Return settings that form a kind of their own: a literal `kind`, help on every field.

    Raises:
        TypeError: when they break a rule.
    """
    if not (isinstance(value, type) and issubclass(value, base)):
        raise TypeError(f"{point.value} is not a subclass of {base.__module__}.{base.__name__}")
    kind = value.model_fields["kind"]
    literal = get_origin(kind.annotation) is Literal and get_args(kind.annotation) == (point.name,)
    if not literal or kind.default != point.name:
        expected = f"kind: Literal[{point.name!r}] = setting({point.name!r}, ...)"
        raise TypeError(f"{point.value} must declare {expected}, matching its entry point")
    silent = [name for name, field in value.model_fields.items() if not field.description]
    if silent:
        raise TypeError(
            f"{point.value}: no help text for {', '.join(silent)}; declare these with `setting`"
        )
    return value
