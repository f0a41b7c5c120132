"""An evaluation of a voice: sums over the places of every item, divided once. Letters: N items, B of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from engine.config.voice import VoiceLoss
from engine.evaluation.result import Clip, Evaluation, evaluation_of
from engine.recipes.voice.place_sums import PlaceSums
from models.voice.generation import Spoken


class ItemSums:
    """Collects the sums of items batch by batch, in any order.

    Args:
        num_items: N.
        loss: the weights of the terms.
    """

    def __init__(self, num_items: int, loss: VoiceLoss) -> None:
        self._num_items, self._loss = num_items, loss
        self._sums: dict[str, np.ndarray] = {}
        self._spoken: dict[str, np.ndarray] = {}

    def add(
        self, items: Sequence[int], *, text: PlaceSums, mel: PlaceSums, places_B2: Tensor
    ) -> None:
        """Add items: the sums over the places of texts and of codes, and how many these are."""
        self._put(
            items,
            {
                "text_loss": text.loss, "text_correct": text.correct, "text_places": places_B2[:, 0],
                "mel_loss": mel.loss, "mel_correct": mel.correct, "mel_top5": mel.top5,
                "mel_places": places_B2[:, 1],
            },
        )  # fmt: skip

    def add_histogram(self, items: Sequence[int], cost: Sequence[float]) -> None:
        """Add what the codes of items cost by the frequencies of the training data, in nats."""
        self._sums.setdefault("histogram", np.zeros(self._num_items))[list(items)] = cost

    def add_spoken(self, item: int, spoken: Spoken, *, codes: int) -> None:
        """Add what was spoken freely for an item whose recording has so many codes."""
        for name, value in (
            ("length_ratio", len(spoken.codes_N) / max(1, codes)),
            ("never_stops", float(spoken.ending != "stop")),
        ):
            self._spoken.setdefault(name, np.full(self._num_items, np.nan))[item] = value

    def evaluation(self, items_key: str, *, clips: tuple[Clip, ...]) -> Evaluation:
        """Return every metric; values of items are such that their mean is that over all places."""
        sums, loss = self._sums, self._loss
        texts, mels = sums["text_places"].mean(), sums["mel_places"].mean()
        text_N, mel_N = sums["text_loss"] / texts, sums["mel_loss"] / mels
        values = {
            "val_loss": loss.text_loss_weight * text_N + loss.mel_loss_weight * mel_N,
            "val_text_loss": text_N,
            "val_mel_loss": mel_N,
            "val_text_accuracy": sums["text_correct"] / texts,
            "val_mel_accuracy": sums["mel_correct"] / mels,
            "val_mel_top5": sums["mel_top5"] / mels,
            "val_code_entropy": sums["histogram"] / mels,
            **self._spoken,
        }
        absent = {name: np.isnan(value_N) for name, value_N in self._spoken.items()}
        found = evaluation_of(values, items_key=items_key, absent=absent)
        return Evaluation(
            found.metrics, found.num_items, 0, items=found.items, items_key=items_key, clips=clips
        )

    def _put(self, items: Sequence[int], sums: Mapping[str, Tensor]) -> None:
        for name, sum_B in sums.items():
            value_N = self._sums.setdefault(name, np.zeros(self._num_items))
            value_N[list(items)] = sum_B.double().cpu().numpy()
