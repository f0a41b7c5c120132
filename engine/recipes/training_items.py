"""Scoring training items as validation items are: what a recipe gives, so that over-fitting can be seen.

A recipe returns a copy of itself, which shares everything that it has learnt or made (tokens, labels, a teacher) and
takes a fixed sample of training items for its validation items: whole, without augmentation, reduced alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import device, nn

from engine.batching.batch import Split
from engine.config.schema import RunConfig
from engine.evaluation.result import Evaluation
from engine.item_random import item_generator
from engine.recipes.datasets import Datasets

T = TypeVar("T")
Evaluate = Callable[[nn.Module, device], Evaluation]

# Of every run, whatever its seed: runs are compared on the same items.
_SEED = 0
# An evaluation should not take much longer for it.
_SHARE, _LEAST = 4, 8


@runtime_checkable
class ScoresTrainingItems(Protocol):
    """A recipe that can evaluate training items as it does validation items."""

    def on_training_items(self, count: int) -> Evaluate:
        """Return what `evaluate` would be if validation had a fixed sample of `count` training items.

        Asked once, after the state of the run is there; what moves later (a teacher) is shared. Clips and
        measurements of anything but the objective are left out.
        """


def num_scored(wanted: int, *, num_valid: int) -> int:
    """Return how many training items are scored: at most a quarter of the validation items, or 8."""
    return min(wanted, max(_LEAST, num_valid // _SHARE))


def sampled(num_items: int, count: int) -> list[int]:
    """Return which training items are scored, in order: the same in every run on these data."""
    order = item_generator(_SEED, 0, 0, "scored-training-items").permutation(num_items)
    return sorted(order[:count].tolist())


def without_extras(config: RunConfig, *, max_items: int = 0) -> RunConfig:
    """Return a config that evaluates `max_items` items (0: all), and keeps no audio of them."""
    values = {"max_items": max_items, "clips": 0, "spoken": 0}
    validation = config.validation.model_copy(update=values)
    return config.model_copy(update={"validation": validation})


def judging(recipe: T, *, forgets: Collection[str] = ("_items_key",), **replaced: Any) -> T:
    """Return a shallow copy of a recipe with other attributes; what is cached of validation items is dropped.

    Args:
        recipe: of a run.
        forgets: its cached properties that depend on them, beside those whose name begins with `_valid`.
        replaced: the attributes.
    """
    twin = copy.copy(recipe)
    kind = type(recipe)
    for name in list(vars(twin)):
        is_cached = isinstance(getattr(kind, name, None), cached_property)
        if is_cached and (name.startswith("_valid") or name in forgets):
            delattr(twin, name)
    for name, value in replaced.items():
        setattr(twin, name, value)
    return twin


class Items(Protocol):
    """Training items that a part can be taken of."""

    def __len__(self) -> int:
        """Return their number."""

    def subset(self, indices: Sequence[int]) -> Any:
        """Return some of them."""


def on_sample(
    recipe: T, train: Items, *, count: int, labels: Collection[str] = (), **replaced: Any
) -> T:
    """Return a copy of a recipe that opens its items by `_dataset`, and validates on a sample of `train`.

    Args:
        recipe: the recipe.
        train: its training items.
        count: of how many.
        labels: its attributes that hold labels or codes of items, which become those of the sample.
        replaced: other attributes, and what `judging` takes.
    """
    indices = sampled(len(train), count)
    replaced |= {name: LabelsOfSample(vars(recipe)[name], indices) for name in labels}
    config = without_extras(vars(recipe)["_config"])
    items = Datasets(config, {"train": train, "valid": train.subset(indices)})
    return judging(recipe, _config=config, _dataset=items, **replaced)


class LabelsOfSample:
    """Labels, or codes, of a sample of training items in place of those of validation items; else as they were.

    Args:
        labels: of the run; `labels(split, index, ...)` or `codes(split, index)` is asked.
        indices: the training items of the sample.
    """

    def __init__(self, labels: Any, indices: Sequence[int]) -> None:
        self._labels = labels
        self._indices = indices

    def __getattr__(self, name: str) -> Any:
        return getattr(self._labels, name)

    def labels(self, split: Split, index: int, **where: int) -> Any:
        """Return the labels of an item."""
        return self._labels.labels(*self._place(split, index), **where)

    def codes(self, split: Split, index: int, **where: int) -> Any:
        """Return the codes of an item."""
        return self._labels.codes(*self._place(split, index), **where)

    def _place(self, split: Split, index: int) -> tuple[Split, int]:
        return ("train", self._indices[index]) if split == "valid" else (split, index)
