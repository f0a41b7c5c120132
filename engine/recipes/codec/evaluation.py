"""An evaluation of the codec: sums over the frames of every item, divided once. Letters: N items, K codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from engine.audio.mel_spectrogram import DB_PER_NEPER
from engine.evaluation.result import Clip, Evaluation, evaluation_of
from engine.recipes.codec.code_counts import code_metrics


class ItemSums:
    """Collects the sums of items batch by batch, in any order.

    Args:
        num_items: N.
        commitment: weight of the commitment in the loss; None where the quantiser has none.
    """

    def __init__(self, num_items: int, *, commitment: float | None) -> None:
        self._num_items = num_items
        self._commitment = commitment
        self._sums: dict[str, np.ndarray] = {}
        self._count_K: Tensor | None = None

    def add(self, items: Sequence[int], sums: Mapping[str, Tensor], *, count_K: Tensor) -> None:
        """Add items.

        Args:
            items: which.
            sums: (B,) each: `error` and `distance_nats` over the elements of the spectrogram, their number
                `elements`, `commitment` over the codes, their number `codes`.
            count_K: how often each code was chosen.
        """
        for name, sum_B in sums.items():
            value_N = self._sums.setdefault(name, np.zeros(self._num_items))
            value_N[list(items)] = sum_B.double().cpu().numpy()
        count_K = count_K.double()
        self._count_K = count_K if self._count_K is None else self._count_K + count_K

    def evaluation(self, items_key: str, *, clips: tuple[Clip, ...]) -> Evaluation:
        """Return every metric; values of items are such that their mean is that over all frames."""
        assert self._count_K is not None
        sums = self._sums
        elements, codes = sums["elements"].mean(), sums["codes"].mean()
        error_N = sums["error"] / elements
        values = {
            "val_loss": error_N,
            "val_reconstruction": error_N,
            "mel_distance": sums["distance_nats"] * DB_PER_NEPER / elements,
        }
        if self._commitment is not None:
            commitment_N = sums["commitment"] / codes
            values["val_loss"] = error_N + self._commitment * commitment_N
            values["val_commitment"] = commitment_N
        found = evaluation_of(values, items_key=items_key)
        of_codes = {f"val_{name}": float(x) for name, x in code_metrics(self._count_K).items()}
        return Evaluation(
            found.metrics | of_codes, found.num_items, found.num_excluded, items=found.items,
            items_key=items_key, clips=clips,
        )  # fmt: skip
