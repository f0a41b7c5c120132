"""The sections of a run that come in kinds: `data`, `model` and `loss`.

Owns which kind a section has where a preset names none, and which kinds suit each other: a loss
belongs to one recipe, data and models name those that they suit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from engine.config.data import DATA_PLUGINS, DataConfig
from engine.config.losses import LOSS_PLUGINS, LossConfig, SpectralLoss
from models.configs import PLUGINS, AudioUNetConfig, ModelConfig
from models.entry_points import Plugins
from models.settings import Section

VARIANTS = ("data", "model", "loss")
PLUGINS_OF: Mapping[str, Plugins[Any]] = {
    "data": DATA_PLUGINS,
    "model": PLUGINS,
    "loss": LOSS_PLUGINS,
}


def _members(union: Any) -> dict[str, type[Section]]:
    return {cls.model_fields["kind"].default: cls for cls in get_args(get_args(union)[0])}


_DATA: Mapping[str, Any] = _members(DataConfig)
_MODELS: Mapping[str, Any] = _members(ModelConfig)
_LOSSES: Mapping[str, Any] = _members(LossConfig)


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


def has_segments(values: Mapping[str, Any]) -> bool:
    """Return whether the kind of data that values choose is cut into segments of one length."""
    known = _DATA.get(chosen_kinds(values).get("data", ""))
    return known is None or bool(known.has_segments)


def misfit(data: Any, model: Any, loss: Any) -> str:
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
    return ""


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
