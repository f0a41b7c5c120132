"""Scores of a signal too long for memory, from consecutive blocks of it.

Ratios (SI-SDR, SDR) are those of the whole signal: of each signal only means and products are kept,
merged block by block in float64 (Chan, Golub and LeVeque, 1983), so the result equals that of
`engine.metrics.signal` to 1e-6 dB up to 80 dB. Losses and spectral distances are means over the blocks, weighted
by their length (a summed spectral loss stays a sum), since a frame across a border belongs to no block.

Letters: P pairs of an estimate and a reference, S sources, C channels, T samples of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.metrics.signal import SILENT_RMS, level_db, log_spectral_distance
from engine.recipes.separation.permutations import best_order

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class BlockLoss:
    """A loss of signals (B, S, C, T) -> (B,).

    Attributes:
        total: the loss is a sum over sources and time; otherwise a mean.
        own_order: interchangeable sources are ordered by this loss, not by SI-SDR.
    """

    loss: Loss
    total: bool = False
    own_order: bool = False


class Moments:
    """Means and centred second moments of an error and its reference, (P, C), fed block by block."""

    def __init__(self) -> None:
        self._number = 0
        self._mean: Tensor | None = None
        self._product: Tensor | None = None

    def add(self, error_PCT: Tensor, ref_PCT: Tensor) -> None:
        """Add a block."""
        both_2PCT = torch.stack([error_PCT.double(), ref_PCT.double()])
        number = both_2PCT.shape[-1]
        mean_2PC = both_2PCT.mean(dim=-1)
        centred_2PCT = both_2PCT - mean_2PC.unsqueeze(-1)
        product_22PC = torch.einsum("apct,bpct->abpc", centred_2PCT, centred_2PCT)
        if self._mean is None or self._product is None:
            self._number, self._mean, self._product = number, mean_2PC, product_22PC
            return
        total = self._number + number
        step_2PC = mean_2PC - self._mean
        between_22PC = step_2PC.unsqueeze(0) * step_2PC.unsqueeze(1)
        self._product = (
            self._product + product_22PC + between_22PC * (self._number * number / total)
        )
        self._mean = self._mean + step_2PC * (number / total)
        self._number = total

    def ratios_db(self) -> tuple[Tensor, Tensor]:
        """Return SI-SDR and SDR of (P,), channels joined; NaN where the reference is silent."""
        assert self._product is not None, "no block was added"
        (error_P, cross_P), (_, ref_P) = self._product.sum(dim=-1)
        channels = self._product.shape[-1]
        # The estimate is reference + error: its projection is 1 + cross / ref times the reference.
        share_P = cross_P / ref_P
        distortion_P = (error_P - share_P * cross_P).clamp(min=0)
        si_sdr_P = level_db((1 + share_P).square() * ref_P, distortion_P)
        silent_P = ref_P <= SILENT_RMS**2 * self._number * channels
        ratios = (si_sdr_P, level_db(ref_P, error_P))
        return ratios[0].masked_fill(silent_P, torch.nan), ratios[1].masked_fill(
            silent_P, torch.nan
        )


class FileScores:
    """The scores of one file with one estimate for each source, fed block by block.

    Args:
        losses: by name.
        interchangeable: the estimates have no order; the one with the best SI-SDR is used.
    """

    def __init__(self, losses: Mapping[str, BlockLoss], *, interchangeable: bool) -> None:
        self._losses = losses
        self._interchangeable = interchangeable
        self._after, self._before = Moments(), Moments()
        self._sums: dict[str, Tensor] = {}
        self._frames = 0
        self._sources = 0
        self._bad: list[Tensor] = []

    def add(self, est_SCT: Tensor, ref_SCT: Tensor, mix_CT: Tensor) -> None:
        """Add the next block."""
        self._sources = sources = len(ref_SCT)
        frames = ref_SCT.shape[-1]
        self._frames += frames
        self._bad.append(~est_SCT.isfinite().all())
        if self._interchangeable:
            est_PCT = est_SCT.repeat_interleave(sources, dim=0)
            ref_PCT = ref_SCT.repeat(sources, 1, 1)
        else:
            est_PCT, ref_PCT = est_SCT, ref_SCT
        self._after.add(est_PCT.double() - ref_PCT.double(), ref_PCT)
        self._before.add(mix_CT.double() - ref_SCT.double(), ref_SCT)
        values = {
            name: item.loss(est_PCT.unsqueeze(1), ref_PCT.unsqueeze(1)).double()
            * (1 if item.total else frames)
            for name, item in self._losses.items()
        }
        values["lsd"] = log_spectral_distance(est_PCT, ref_PCT).double().mean(dim=-1) * frames
        for name, value_P in values.items():
            self._sums[name] = self._sums.get(name, 0) + value_P

    def bad(self) -> Tensor:
        """Return whether any sample of an estimate is not finite, (1,)."""
        return torch.stack(self._bad).any()[None]

    def order(self) -> list[int]:
        """Return the estimate of each reference where they are interchangeable, else nothing."""
        order: list[int] = self._best_order()[0].tolist() if self._interchangeable else []
        return order

    def losses(self) -> dict[str, Tensor]:
        """Return each loss, (1,)."""
        return {name: self._loss(name, item) for name, item in self._losses.items()}

    def levels(self) -> dict[str, Tensor]:
        """Return si_sdr, input_si_sdr, sdr and lsd, (1, S)."""
        si_sdr_P, sdr_P = self._after.ratios_db()
        lsd_P = self._sums["lsd"] / self._frames
        if self._interchangeable:
            order_1S = self._best_order()
            si_sdr_1S, sdr_1S, lsd_1S = (
                self._square(value_P).gather(1, order_1S.unsqueeze(1)).squeeze(1)
                for value_P in (si_sdr_P, sdr_P, lsd_P)
            )
        else:
            si_sdr_1S, sdr_1S, lsd_1S = (value_P[None] for value_P in (si_sdr_P, sdr_P, lsd_P))
        before_S, _ = self._before.ratios_db()
        return {"si_sdr": si_sdr_1S, "input_si_sdr": before_S[None], "sdr": sdr_1S, "lsd": lsd_1S}

    def _loss(self, name: str, item: BlockLoss) -> Tensor:
        value_P = self._sums[name] if item.total else self._sums[name] / self._frames
        if self._interchangeable:
            value_1SS = self._square(value_P)
            order_1S = best_order(-value_1SS) if item.own_order else self._best_order()
            value_P = value_1SS.gather(1, order_1S.unsqueeze(1)).flatten()
        return (value_P.sum() if item.total else value_P.mean())[None]

    def _best_order(self) -> Tensor:
        """Return (1, S): the estimate assigned to each reference, by SI-SDR."""
        return best_order(self._square(self._after.ratios_db()[0]))

    def _square(self, value_P: Tensor) -> Tensor:
        """Return (1, S, S): estimates by references."""
        return value_P.reshape(1, self._sources, self._sources)
