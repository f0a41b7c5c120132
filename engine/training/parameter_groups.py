"""Which parameters are trained alike: at what learning rate, and whether they decay.

Groups are named, by the recipe (layers of an encoder that is fine-tuned) and by the model
(`optimizer.lr_scale`); a parameter is in exactly one of either.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from torch import nn

from engine.config.errors import counted
from engine.config.schema import RunConfig
from engine.config.sections import OptimizerConfig
from engine.recipes.base import Recipe
from engine.recipes.weights import GroupsParameters, ParameterGroup
from models.base.settings import ParameterGroups

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)
_TABLES = (nn.Embedding, nn.EmbeddingBag)
# How tables are called that are plain parameters of their module.
_TABLE_NAMES = ("embedding", "embeddings")


class _Kinds(NamedTuple):
    """Names of parameters that are not plain weights."""

    tables: frozenset[str]
    vectors: frozenset[str]


def groups_of(recipe: Recipe, model: nn.Module, *, config: RunConfig) -> Sequence[ParameterGroup]:
    """Return the groups in which the parameters of a model are trained; none where all are alike."""
    own = recipe.parameter_groups(model) if isinstance(recipe, GroupsParameters) else ()
    scales = {scale.name: scale.factor for scale in config.optimizer.lr_scale}
    if not scales:
        return own
    trained = [name for name, param in model.named_parameters() if param.requires_grad]
    parts: dict[tuple[str, str], ParameterGroup] = {}
    members: dict[tuple[str, str], list[str]] = {}
    for group in own or (ParameterGroup("", trained),):
        for name in group.parameters:
            of_model = group_of(name, config.model.parameter_groups)
            members.setdefault((group.name, of_model), []).append(name)
            parts[group.name, of_model] = group
    return [
        ParameterGroup(
            ".".join(part for part in key if part),
            names,
            lr_ratio=parts[key].lr_ratio * scales.get(key[1], 1.0),
        )
        for key, names in members.items()
    ]


def group_of(name: str, groups: ParameterGroups) -> str:
    """Return the group that a parameter is in, that of the longest beginning of its name; "rest" if none."""
    found = [
        (len(start), group)
        for group, starts in groups.items()
        for start in starts
        if name.startswith(start)
    ]
    return max(found)[1] if found else "rest"


def without_decay(model: nn.Module, config: OptimizerConfig) -> frozenset[str]:
    """Return the names of the parameters that weight decay leaves alone."""
    kinds = _kinds(model)
    return (frozenset() if config.decay_embeddings else kinds.tables) | (
        frozenset() if config.decay_vectors else kinds.vectors
    )


def decay_text(model: nn.Module, config: OptimizerConfig) -> str:
    """Return in words what weight decay acts on, and what it leaves alone."""
    kinds = _kinds(model)
    spared = without_decay(model, config)
    trained = [name for name, param in model.named_parameters() if param.requires_grad]
    tables = [name for name in trained if name in spared and name in kinds.tables]
    vectors = [name for name in trained if name in spared and name not in kinds.tables]
    not_on = [
        f"{counted(len(names), what)} ({_some(names)})"
        for what, names in (("embedding", tables), ("bias, norm or other vector", vectors))
        if names
    ]
    decayed = len(trained) - len(tables) - len(vectors)
    text = f"weight decay {config.weight_decay:g} on {counted(decayed, 'tensor')}"
    return f"{text}, none on {' and '.join(not_on)}" if not_on else text


def rates_text(groups: Sequence[ParameterGroup], model: nn.Module) -> str:
    """Return in words which groups of parameters there are, and at what rate each is trained."""
    sizes = {name: param.numel() for name, param in model.named_parameters()}
    parts = [
        f"{group.name} x {group.lr_ratio:g} ({counted(len(group.parameters), 'tensor')}, "
        f"{sum(sizes[name] for name in group.parameters):,} weights)"
        for group in groups
    ]
    return f"learning rates relative to optimizer.lr: {'; '.join(parts)}"


def _kinds(model: nn.Module) -> _Kinds:
    tables, vectors = set(), set()
    for path, module in model.named_modules():
        for own, param in module.named_parameters(recurse=False):
            name = f"{path}.{own}" if path else own
            if param.ndim <= 1 or isinstance(module, _NORMS):
                vectors.add(name)
            elif isinstance(module, _TABLES) or own.endswith(_TABLE_NAMES):
                tables.add(name)
    return _Kinds(frozenset(tables), frozenset(vectors))


def _some(names: Collection[str], most: int = 3) -> str:
    shown = ", ".join(list(names)[:most])
    return f"{shown}, ..." if len(names) > most else shown
