"""What recipes that train on waveforms of audio without texts share: items, crops, validation batches.

Owns no network, no loss and no evaluation. Letters: N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from engine.batching.batch import Batch, Split
from engine.batching.items import MicroBatch
from engine.config.schema import RunConfig
from engine.config.unlabelled import UnlabelledData
from engine.data.unlabelled.dataset import UnlabelledDataset
from engine.recipes.datasets import Datasets
from engine.recipes.training_items import on_sample
from engine.recipes.validation_items import num_validated
from engine.recipes.waveforms.batches import noise_batch, read_waveforms, whole_batches


class WaveformRecipe:
    """The part of a recipe that reads waveforms; picklable for reader processes.

    Args:
        config: the run.
        datasets: its items, where somebody else needs them, too.
    """

    # Attributes that hold labels of items.
    item_labels: ClassVar[Sequence[str]] = ()

    def __init__(
        self, config: RunConfig, datasets: Datasets[UnlabelledDataset] | None = None
    ) -> None:
        assert isinstance(config.data, UnlabelledData)
        self._config, self._data = config, config.data
        self._dataset: Datasets[UnlabelledDataset] = datasets or Datasets(config)

    @property
    def loss_unit(self) -> str:
        """Return the unit of the loss, empty where it has none."""
        return self._config.loss.unit

    def sizes(self, split: Split) -> np.ndarray:
        """Return (N, 1) seconds of each item; validation applies max_items."""
        most = self._num_valid if split == "valid" else None
        return self._dataset(split).durations_s()[:most, None]

    def groups(self, split: Split) -> np.ndarray:
        """Return (N,) the utterance that each item is, is a piece of, or begins with (`GroupsItems`)."""
        return self._dataset(split).utterances()

    def manifest(self, split: Split) -> str:
        """Return the hash over names, places and lengths of the items."""
        return self._dataset(split).manifest

    def with_training_items(self, count: int, **replaced: Any) -> Self:
        """Return a copy that validates on a sample of training items (`engine.recipes.training_items`).

        Args:
            count: of how many.
            replaced: attributes that it has in place of those of this recipe.
        """
        train = self._dataset("train")
        return on_sample(self, train, count=count, labels=self.item_labels, **replaced)

    def _read(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read waveforms, as `read_waveforms`."""
        return read_waveforms(
            self._dataset(split), micro_batch, data=self._data, split=split, seed=self._config.seed
        )

    def _noise(self, count: int, shape: tuple[float, ...]) -> Batch:
        """Return `count` items of noise of `shape` (seconds,), or of the longest training item."""
        longest_s = 0.0 if shape else float(self.sizes("train").max())
        return noise_batch(count, shape, data=self._data, longest_s=longest_s)

    @cached_property
    def _valid_batches(self) -> list[MicroBatch]:
        """The micro-batches of an evaluation, in which every item is whole."""
        most = self._config.validation.batch_items
        return whole_batches(
            self._dataset("valid"), data=self._data, most=most, count=self._num_valid
        )

    @property
    def _num_valid(self) -> int:
        return num_validated(self._config, len(self._dataset("valid")))
