"""An evaluation of HuBERT: sums over the frames of every item, divided once. Letters: N items, K clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from engine.config.hubert import HubertLoss
from engine.evaluation.result import Evaluation, evaluation_of
from engine.recipes.self_supervised.masked_prediction import (
    ALL,
    MASKED,
    UNMASKED,
    Divisors,
    FrameSums,
    entropy,
    num_penalised,
    total_weight,
)

_NAMES = tuple(field.name for field in fields(FrameSums))


class ItemSums:
    """Collects the sums of items batch by batch, in any order."""

    def __init__(self, loss: HubertLoss) -> None:
        self._loss = loss
        self._sums: dict[int, Tensor] = {}
        self._counts: dict[int, Tensor] = {}
        self._num_runs = 0
        self._labels_K: Tensor | float = 0.0

    def add_counts(
        self, items: Sequence[int], *, counts_B3: Tensor, num_runs: int, labels_K: Tensor
    ) -> None:
        """Add what depends on items and masks alone: frames, runs of masked ones, labels."""
        self._counts.update(zip(items, counts_B3.double(), strict=True))
        self._num_runs += num_runs
        self._labels_K = self._labels_K + labels_K.double()

    def add(self, items: Sequence[int], sums: FrameSums) -> None:
        """Add the sums of items; one transfer from the device."""
        sums_BX = (
            torch.stack([getattr(sums, name) for name in _NAMES], dim=1).detach().double().cpu()
        )
        self._sums.update(zip(items, sums_BX, strict=True))

    def evaluation(self, items_key: str) -> Evaluation:
        """Return every metric; the value of an item is such that their mean is the metric.

        An item whose frames are not finite has the worst value.
        """
        order = sorted(self._sums)
        sums_NX = torch.stack([self._sums[item] for item in order])
        sums = FrameSums(*sums_NX.unbind(dim=1))
        counts_N3 = torch.stack([self._counts[item] for item in order])
        counts_3 = counts_N3.sum(dim=0)
        loss, num_items = self._loss, len(order)
        terms = {
            "val_loss": (
                Divisors.of(counts_3, loss).loss_sum(sums), total_weight(counts_3, loss),
            ),
            "val_masked_loss": (sums.masked_loss, counts_3[MASKED]),
            "val_unmasked_loss": (sums.unmasked_loss, counts_3[UNMASKED]),
            "val_penalty": (loss.penalty * sums.energy, num_penalised(counts_3, loss)),
            "val_masked_accuracy": (sums.masked_correct, counts_3[MASKED]),
            "val_unmasked_accuracy": (sums.unmasked_correct, counts_3[UNMASKED]),
        }  # fmt: skip
        values: dict[str, np.ndarray] = {
            name: (num_items * part_N / total).numpy() for name, (part_N, total) in terms.items()
        }
        found = evaluation_of(values, items_key=items_key)
        labels_K = torch.as_tensor(self._labels_K)
        found.metrics.update(
            val_masked_share=float(counts_3[MASKED] / counts_3[ALL]),
            val_mask_run=float(counts_3[MASKED]) / max(1, self._num_runs),
            val_label_entropy=float(entropy(labels_K)),
            val_clusters_used=float((labels_K > 0).sum()),
        )
        return found
