"""The sections of a run that come in kinds: `data`, `model` and `loss`.

Owns which kinds there are, those of installed packages included; which one a section has where a
preset names none; and which suit each other: a loss belongs to one recipe, data and models name those
that they suit. Modules that declare settings don't import this one: packages are looked for here,
once, and import those modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import Field

from engine.config import data, losses
from engine.config.data_settings import DataSettings
from engine.config.losses import LossConfig, SpectralLoss
from engine.config.waveform_fit import waveform_misfit
from models import plugins, speech_configs
from models.base.settings import Section
from models.configs import AudioUNetConfig, BuiltInModel, ModelConfig
from models.entry_points import Plugins, find_plugins

VARIANTS = ("data", "model", "loss")


def _by_kind(settings: Iterable[type[Section]]) -> dict[str, Any]:
    return {str(one.model_fields["kind"].default): one for one in settings}


_DATA = _by_kind(get_args(data.BuiltInData))
_MODELS = _by_kind(get_args(BuiltInModel))
_LOSSES = _by_kind(get_args(losses.BuiltInLoss))
# The schema of a run is one class, so packages are looked for when it is made (5 ms).
_PLUGINS: Mapping[str, tuple[Plugins[Any], ...]] = {
    "data": (find_plugins(data.GROUP, data.accept_data, taken=_DATA),),
    "model": (
        models := find_plugins(plugins.GROUP, plugins.accept_model, taken=_MODELS),
        find_plugins(
            speech_configs.ENCODERS,
            speech_configs.accept_encoder,
            taken=[*_MODELS, *models.parts],
        ),
    ),
    "loss": (find_plugins(losses.GROUP, losses.accept_loss, taken=_LOSSES),),
}
for _section, _known in (("data", _DATA), ("model", _MODELS), ("loss", _LOSSES)):
    for _plugins in _PLUGINS[_section]:
        _known.update(_plugins.parts)

if TYPE_CHECKING:
    AnyData = DataSettings
    AnyModel = ModelConfig
    AnyLoss = LossConfig
else:
    AnyData, AnyModel, AnyLoss = (
        Annotated[reduce(or_, known.values()), Field(discriminator="kind")]
        for known in (_DATA, _MODELS, _LOSSES)
    )


def with_kinds(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in which model and loss have a kind: a U-Net, and the default loss of the data."""
    result = dict(values)
    for section, kind in _defaults(values).items():
        below = values.get(section, {})
        if isinstance(below, Mapping) and "kind" not in below:
            result[section] = {"kind": kind, **below}
    return result


def chosen_kinds(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the kind of each section that has kinds, as `with_kinds` fills it in.

    A section whose kind is missing, or is none, is left out.
    """
    filled = with_kinds(values)
    return {
        name: kind
        for name in VARIANTS
        if isinstance(section := filled.get(name), Mapping)
        and isinstance(kind := section.get("kind"), str)
    }


def why_missing(section: str, kind: str) -> str:
    """Return a clause about a kind whose package was left out; empty when no package names it."""
    return "".join(plugins.why_missing(kind) for plugins in _PLUGINS.get(section, ()))


def packages_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return name and version of the package of each section's kind, for kinds that are not built in."""
    return {
        f"{section}.kind": source
        for section, kind in chosen_kinds(values).items()
        for plugins in _PLUGINS[section]
        if (source := plugins.sources.get(kind))
    }


def installed_kinds() -> tuple[Plugins[Any], ...]:
    """Return what installed packages add to the sections of a run, by entry point group."""
    return tuple(plugins for group in _PLUGINS.values() for plugins in group)


def has_segments(values: Mapping[str, Any]) -> bool:
    """Return whether the kind of data that values choose is cut into segments of one length."""
    known = _DATA.get(chosen_kinds(values).get("data", ""))
    return known is None or bool(known.has_segments)


def misfit(data: DataSettings, model: ModelConfig, *, loss: LossConfig) -> str:
    """Return what does not fit with what, and what to choose instead; empty when all fit."""
    if loss.recipe not in data.recipes:
        others = _named(_LOSSES, lambda cls: cls.recipe in data.recipes)
        return (
            f"loss.kind = {loss.kind!r} trains {loss.recipe}, but data.kind = {data.kind!r} is for "
            f"{_any_of(data.recipes)}; set loss.kind to {others}, or leave it out for "
            f"{data.default_loss}"
        )
    if loss.recipe not in model.recipes:
        others = _named(_MODELS, lambda cls: loss.recipe in cls.recipes)
        return (
            f"model.kind = {model.kind!r} is for {_any_of(model.recipes)}, but data.kind = "
            f"{data.kind!r} with loss.kind = {loss.kind!r} trains {loss.recipe}; set model.kind to "
            f"{others}"
        )
    return loss.misfit(data, model) or waveform_misfit(data, model)


def _defaults(values: Mapping[str, Any]) -> dict[str, str]:
    data = values.get("data")
    kind = data.get("kind") if isinstance(data, Mapping) else None
    known = _DATA.get(kind) if isinstance(kind, str) else None
    return {
        "model": str(AudioUNetConfig().kind),
        "loss": str(known.default_loss if known else SpectralLoss().kind),
    }


def _named(kinds: Mapping[str, Any], suits: Callable[[Any], bool]) -> str:
    return " or ".join([kind for kind, cls in kinds.items() if suits(cls)]) or "(none is installed)"


def _any_of(recipes: frozenset[str]) -> str:
    return " or ".join(sorted(recipes))
