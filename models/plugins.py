"""Models of other packages, found by their metadata: the entry point group `sepdash.models`.

A package names its model in its `pyproject.toml`,

    [project.entry-points."sepdash.models"]
    my_model = "my_package.settings:MyModelConfig"

and declares the settings in a subclass of `PluginModel`. The module of that class must not import
torch, as it is loaded wherever presets are checked; `build` may. Owns the search and the rules a
model must keep; a package that breaks one is left out, with the reason kept for the message. Free of
torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Literal, get_args, get_origin

from models.settings import Section

GROUP = "sepdash.models"


class PluginModel(Section):
    """Settings of a model that another package provides.

    A subclass declares `kind` as a literal equal to the name of its entry point, with a default,
    and its settings by `models.settings.setting`; `rates_hz` are the lowest and highest sampling
    rate it takes.
    """

    recipe: ClassVar[str] = "separation"
    rates_hz: ClassVar[tuple[int, int]] = (4_000, 192_000)

    kind: str

    def build(self, *, channels: int, sources: int) -> Any:
        """Return the network: a `torch.nn.Module` from (B, C, T) to (B, S, C, T), for any T >= 1."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Plugins:
    """The models found, and why others were left out, by the name of their entry point."""

    models: tuple[type[PluginModel], ...]
    broken: Mapping[str, str]


def find_plugins(taken: Iterable[str], points: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load every model that an installed package names.

    Args:
        taken: kinds that are no longer free.
        points: entry points to look at, those of the installed packages when left out.
    """
    seen = set(taken)
    models: list[type[PluginModel]] = []
    broken: dict[str, str] = {}
    found = entry_points(group=GROUP) if points is None else points
    for point in sorted(found, key=lambda point: (point.name, point.value)):
        try:
            model = _load(point, seen)
        except Exception as error:  # noqa: BLE001 another package's code may raise anything
            source = f"package {point.dist.name}" if point.dist else point.value
            broken[point.name] = f"{source}: {str(error) or type(error).__name__}"
        else:
            seen.add(point.name)
            models.append(model)
    return Plugins(tuple(models), broken)


def _load(point: EntryPoint, taken: set[str]) -> type[PluginModel]:
    if point.name in taken:
        raise ValueError(f"a model of the kind {point.name!r} exists already")
    model = point.load()
    if not (isinstance(model, type) and issubclass(model, PluginModel)):
        raise TypeError(f"{point.value} is no subclass of models.plugins.PluginModel")
    kind = model.model_fields["kind"]
    literal = get_origin(kind.annotation) is Literal and get_args(kind.annotation) == (point.name,)
    if not literal or kind.default != point.name:
        expected = f"kind: Literal[{point.name!r}] = setting({point.name!r}, ...)"
        raise TypeError(f"{point.value} must declare {expected}, like its entry point")
    if model.build is PluginModel.build:
        raise TypeError(f"{point.value} has no method `build`")
    silent = [name for name, field in model.model_fields.items() if not field.description]
    if silent:
        raise TypeError(f"{point.value}: no help text on {', '.join(silent)}; declare by `setting`")
    return model
