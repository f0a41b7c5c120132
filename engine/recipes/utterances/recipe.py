"""What recipes that train on utterances with texts share: items, their tokens, the order of an evaluation.

Owns no network, no loss and no evaluation. Letters: B batch, N items, U tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from math import ceil
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from engine.batching.batch import Split
from engine.config.schema import RunConfig
from engine.config.utterances import UtteranceData
from engine.data.speech.utterances import SpeechDataset
from engine.recipes.datasets import Datasets
from engine.recipes.training_items import on_sample
from engine.recipes.utterances.kept import KeptTensors
from engine.recipes.validation_items import longest_first, num_validated
from engine.text.tokens import Tokenizer


class UtteranceRecipe(ABC):
    """The part of a recipe that reads utterances and the tokens of their texts; picklable for reader processes.

    Args:
        config: the run.
    """

    # Attributes that hold labels, or codes, of items.
    item_labels: ClassVar[Sequence[str]] = ()

    def __init__(self, config: RunConfig) -> None:
        assert isinstance(config.data, UtteranceData)
        self._config = config
        self._dataset: Datasets[SpeechDataset] = Datasets(config)
        self._kept = KeptTensors()

    @abstractmethod
    def new_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the training texts."""

    @property
    def loss_unit(self) -> str:
        """Return the unit of the loss, a natural logarithm."""
        return self._config.loss.unit

    def sizes(self, split: Split) -> np.ndarray:
        """Return (N, 2): seconds and tokens of each utterance; validation applies max_items."""
        count = len(self._dataset("train")) if split == "train" else self._num_valid
        tokens = [self._num_tokens(split, index) for index in range(count)]
        durations = self._dataset(split).durations_s()[:count]
        return np.stack([durations, np.array(tokens, dtype=np.float64)], axis=1)

    def manifest(self, split: Split) -> str:
        """Return the hash over names, positions, lengths and texts of the utterances."""
        return self._dataset(split).manifest

    def with_training_items(self, count: int, **replaced: Any) -> Self:
        """Return a copy that validates on a sample of training utterances (`engine.recipes.training_items`).

        Args:
            count: of how many.
            replaced: attributes that it has in place of those of this recipe, and what `judging` takes.
        """
        return on_sample(
            self, self._dataset("train"), count=count, labels=self.item_labels, _kept=KeptTensors(),
            **replaced,
        )  # fmt: skip

    def _worst_shape(self, shape: tuple[float, ...]) -> tuple[float, float]:
        """Return (seconds, tokens) of a shape, the maxima of the training items where it says less."""
        if len(shape) > 1:
            return shape[0], shape[1]
        longest_s, most_tokens = self.sizes("train").max(axis=0).tolist()
        return (shape[0] if shape else longest_s), most_tokens

    def _padded_tokens(self, tokens: Sequence[Tensor], shape: tuple[float, ...]) -> Tensor:
        """Return (B, U) tokens, with zeros to the number in the shape, or to the longest."""
        token_BU = pad_sequence(list(tokens), batch_first=True)
        more = ceil(shape[1]) - token_BU.shape[1] if len(shape) > 1 else 0
        return nn.functional.pad(token_BU, (0, max(0, more)))

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self.new_tokenizer()

    def _tokens(self, split: Split, index: int) -> Tensor:
        """Return the tokens of an utterance, (U,) int64."""
        return torch.from_numpy(self._kept_tokens(split, index).astype(np.int64))

    def _num_tokens(self, split: Split, index: int) -> int:
        return len(self._kept_tokens(split, index))

    def _kept_tokens(self, split: Split, index: int) -> np.ndarray:
        if split == "train":
            return self._train_tokens[index]
        # One by one: those that are not validated may have characters that the vocabulary lacks.
        if index not in self._valid_tokens:
            text = self._dataset("valid").utterances[index].text
            self._valid_tokens[index] = self._encoded(text)
        return self._valid_tokens[index]

    @cached_property
    def _train_tokens(self) -> list[np.ndarray]:
        return [self._encoded(text) for text in self._dataset("train").texts]

    @cached_property
    def _valid_tokens(self) -> dict[int, np.ndarray]:
        return {}

    def _encoded(self, text: str) -> np.ndarray:
        return np.array(self._tokenizer.encode(text), dtype=np.int32)

    @cached_property
    def _valid_rows(self) -> list[list[int]]:
        return longest_first(self.sizes("valid")[:, 0], self._config.validation.batch_items)

    @property
    def _num_valid(self) -> int:
        return num_validated(self._config, len(self._dataset("valid")))
