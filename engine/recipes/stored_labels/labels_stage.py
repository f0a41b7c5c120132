"""The stage that labels every item of both splits by a fixed model, and stores the labels.

What makes the labels is a recipe's (`MakesLabels`); how they are walked, resumed and found stale is the same
for all. Letters: K values that a label may have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from engine.batching.batch import Split
from engine.checkpoints.recipe_files import RecipeState
from engine.recipes.base import Stage
from engine.recipes.stored_labels.label_files import Items, LabelFiles

SPLITS: tuple[Split, ...] = ("train", "valid")
_CPU = torch.device("cpu")


class MakesLabels(Protocol):
    """What the stage works on."""

    def items(self, split: Split) -> Items:
        """Return the items of a split."""

    def chunks(self, split: Split, items: Iterable[int]) -> list[list[int]]:
        """Return items in runs that take about half a second each."""

    def label_files(self, split: Split) -> LabelFiles:
        """Return the stored labels of a split."""

    def take_over_labels(self) -> None:
        """Copy labels that lie elsewhere, where there are some."""

    def store_labels(self, split: Split, index: int, *, device: torch.device) -> None:
        """Label an item and store that."""

    def labels_are_stored(self) -> None:
        """Free what labels were made by."""


class LabelsStage(Stage):
    """Labels what has no labels yet; a recipe says what the result is.

    Args:
        maker: makes the labels.
    """

    name = "labels"

    def __init__(self, maker: MakesLabels) -> None:
        self._maker = maker
        self._chunks: list[tuple[Split, list[int]]] = []
        self._stale: dict[Split, set[int]] = {}

    def result(self, counts: Mapping[Split, np.ndarray]) -> RecipeState:
        """Return the result of the stage from how often each value is a label, (K,) for each split."""
        raise NotImplementedError

    def num_steps(self) -> int:
        """Return in how many steps all items are read."""
        self._chunks = [
            (split, chunk)
            for split in SPLITS
            for chunk in self._maker.chunks(split, range(len(self._maker.items(split))))
        ]
        self._maker.take_over_labels()
        for split in SPLITS:
            files = self._maker.label_files(split)
            files.create()
            self._stale[split] = set(files.stale())
        return len(self._chunks)

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        """Label some of the items; those that have labels are skipped."""
        split, chunk = self._chunks[index]
        for item in chunk:
            if item in self._stale[split]:
                self._maker.store_labels(split, item, device=device)
        return state

    def finish(self, state: RecipeState) -> RecipeState:
        """Label what was changed in the meantime, and count."""
        counts: dict[Split, np.ndarray] = {}
        for split in SPLITS:
            files = self._maker.label_files(split)
            for item in files.stale():
                self._maker.store_labels(split, item, device=_CPU)
            files.sync()
            counts[split] = files.counts()
        self._maker.labels_are_stored()
        return self.result(counts)

    def lost(self, result: RecipeState) -> str:
        """Return which labels are missing or stale."""
        texts = (self._maker.label_files(split).stale_text(f"data.{split}") for split in SPLITS)
        return "; ".join(filter(None, texts))


def in_chunks(
    items: Iterable[int], samples: Sequence[int] | np.ndarray, *, most: float
) -> list[list[int]]:
    """Return items in runs of about `most` samples."""
    chunks: list[list[int]] = []
    room = 0.0
    for item in items:
        if room <= 0 or not chunks:
            chunks.append([])
            room = most
        chunks[-1].append(item)
        room -= float(samples[item])
    return chunks
