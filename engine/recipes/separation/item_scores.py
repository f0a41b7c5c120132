"""The scores of each item of an evaluation, and their means.

Letters: B batch, N items, S sources, C channels, T samples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from engine.evaluation.result import Evaluation, evaluation_of
from engine.metrics.signal import LIMIT_DB, log_spectral_distance, sdr, si_sdr


class ItemScores:
    """Collects the scores of estimates, batch by batch, without waiting for the device.

    A silent reference has no SI-SDR, and an input equal to its reference (bandwidth extension from
    the full rate) would add 100 dB to the mean: such sources count in the loss only. An item without
    any other source counts as excluded. Neither depends on the estimate: where that is not finite, the
    item is bad (`engine.evaluation.result.evaluation_of`).
    """

    def __init__(self) -> None:
        self._losses: dict[str, list[Tensor]] = defaultdict(list)
        self._parts: dict[str, list[Tensor]] = defaultdict(list)
        self._bad: list[Tensor] = []

    def add(
        self, losses: Mapping[str, Tensor], est_BSCT: Tensor, ref_BSCT: Tensor, mix_BCT: Tensor
    ) -> None:
        """Score a batch with known losses, (B,) each; channels form one signal."""
        levels = {
            "si_sdr": si_sdr(est_BSCT, ref_BSCT, joint_channels=True),
            "input_si_sdr": si_sdr(mix_BCT.unsqueeze(1), ref_BSCT, joint_channels=True),
            "sdr": sdr(est_BSCT, ref_BSCT, joint_channels=True),
            "lsd": log_spectral_distance(est_BSCT, ref_BSCT).mean(dim=-1),
        }
        self.note(losses, levels, bad_B=~est_BSCT.isfinite().flatten(1).all(dim=1))

    def note(
        self, losses: Mapping[str, Tensor], levels: Mapping[str, Tensor], *, bad_B: Tensor
    ) -> None:
        """Add the scores of some items: losses (B,), levels (B, S) by name, and whether they are bad."""
        after_BS, before_BS = levels["si_sdr"], levels["input_si_sdr"]
        heard_BS = before_BS.isfinite() & (before_BS < LIMIT_DB)
        self._bad.append(bad_B)
        for name, loss_B in losses.items():
            self._losses[name].append(loss_B)
        for name, level_BS in {**levels, "si_sdri": after_BS - before_BS}.items():
            sum_B = torch.where(heard_BS, level_BS, 0.0).sum(dim=1)
            self._parts[name].append(sum_B / heard_BS.sum(dim=1))

    def evaluation(self, items_key: str) -> Evaluation:
        """Return the scores of all items, and their means."""
        items = {
            name: torch.cat(parts).double().cpu().numpy()
            for name, parts in (self._losses | self._parts).items()
        }
        bad_N = torch.cat(self._bad).cpu().numpy()
        # NaN where no source is heard: 0 of 0. It depends on input and reference alone.
        left_out_N: np.ndarray = np.isnan(items["input_si_sdr"])
        absent = dict.fromkeys(self._parts, left_out_N)
        return evaluation_of(items, items_key=items_key, bad=bad_N, absent=absent)
