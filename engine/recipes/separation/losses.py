"""Training objectives: multi-scale spectral loss, negative SI-SDR, mean absolute error.

A loss maps estimates and references (B, S, C, T) to one float32 value for each item (B,); the
recipe sums it and weights it by B. Letters in names: B batch, S sources, C channels, T samples,
F bins, L frames, N signals (B * S * C).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from engine.config.losses import L1Loss, LossConfig, PluginLoss, SiSdrLoss, SpectralLoss

Loss = Callable[[Tensor, Tensor], Tensor]

LOG_EPS = 1e-8
SI_SDR_HIGHEST_DB = 60.0
SI_SDR_LOWEST_DB = -30.0
SILENT_POWER = 1e-12


def build_loss(config: LossConfig) -> Loss:
    """Return `loss(est_BSCT, ref_BSCT) -> (B,)`, in float32 at least, also under autocast."""
    match config:
        case SpectralLoss():
            return _in_full_precision(SpectralDistance(config.windows, config.reduction))
        case SiSdrLoss():
            return _in_full_precision(negative_si_sdr)
        case L1Loss():
            return _in_full_precision(mean_absolute_error)
        case PluginLoss():
            loss: Loss = config.build()
            return _in_full_precision(loss)
        case _:
            raise ValueError(f"loss.kind = {config.kind!r} trains {config.recipe}, not separation")


def _in_full_precision(loss: Loss) -> Loss:
    def computed(est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
        with torch.autocast(est_BSCT.device.type, enabled=False):
            dtype = torch.promote_types(est_BSCT.dtype, torch.float32)
            return loss(est_BSCT.to(dtype), ref_BSCT.to(dtype))

    return computed


class SpectralDistance:
    """L1 distance of magnitude spectra plus that of their natural logarithms, over window lengths.

    Hann windows, hop of half a window, frames centred, zeros beyond the ends (so a signal may be
    shorter than a window). `mean` averages over sources, channels, bins, frames and windows; `sum`
    adds them all up, so it grows with the segment.
    """

    def __init__(self, windows: tuple[int, ...], reduction: Literal["mean", "sum"]) -> None:
        self.lengths = windows
        self.reduction = reduction
        self._windows: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def __call__(self, est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
        """Return (B,)."""
        terms = [self._distance(est_BSCT, ref_BSCT, length=length) for length in self.lengths]
        total_B = torch.stack(terms).sum(dim=0)
        return total_B / len(terms) if self.reduction == "mean" else total_B

    def _distance(self, est_BSCT: Tensor, ref_BSCT: Tensor, *, length: int) -> Tensor:
        est_NFL = self._magnitude(est_BSCT, length)
        with torch.no_grad():
            ref_NFL = self._magnitude(ref_BSCT, length)
            ref_log_NFL = (ref_NFL + LOG_EPS).log()
        gap_NFL = (est_NFL - ref_NFL).abs() + ((est_NFL + LOG_EPS).log() - ref_log_NFL).abs()
        gap_B = gap_NFL.reshape(est_BSCT.shape[0], -1)
        return gap_B.mean(dim=1) if self.reduction == "mean" else gap_B.sum(dim=1)

    def _magnitude(self, x_BSCT: Tensor, length: int) -> Tensor:
        """Return (N, F, L); the gradient of the magnitude of a zero bin is zero."""
        window = self._window(length, x_BSCT)
        signals_NT = x_BSCT.reshape(-1, x_BSCT.shape[-1])
        spectrum_NFL = torch.stft(
            signals_NT, length, hop_length=max(1, length // 2), window=window,
            pad_mode="constant", return_complex=True,
        )  # fmt: skip
        return spectrum_NFL.abs()

    def _window(self, length: int, like: Tensor) -> Tensor:
        key = (length, like.device, like.dtype)
        if key not in self._windows:
            self._windows[key] = torch.hann_window(length, device=like.device, dtype=like.dtype)
        return self._windows[key]


def negative_si_sdr(est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
    """Return the mean over sources of minus SI-SDR in dB, (B,), softly bounded between -60 and 30.

    The definition is that of `engine.metrics.signal.si_sdr` (channels form one signal). The bounds are
    added to the energies, so gradients fade out instead of being cut. A silent reference has no
    SI-SDR: that source counts as 0 and gives no gradient.
    """
    est_BSN = _centred(est_BSCT)
    ref_BSN = _centred(ref_BSCT)
    ref_energy_BS = ref_BSN.square().sum(-1)
    silent_BS = ref_energy_BS <= SILENT_POWER * ref_BSN.shape[-1]
    safe_energy_BS = ref_energy_BS.masked_fill(silent_BS, 1.0)
    scale_BS = (est_BSN * ref_BSN).sum(-1) / safe_energy_BS
    target_BSN = scale_BS.unsqueeze(-1) * ref_BSN
    signal_BS = target_BSN.square().sum(-1)
    error_BS = (est_BSN - target_BSN).square().sum(-1)
    tiny_BS = safe_energy_BS * 1e-12
    lowest = 10 ** (SI_SDR_LOWEST_DB / 10)
    highest = 10 ** (-SI_SDR_HIGHEST_DB / 10)
    ratio_BS = (error_BS + highest * signal_BS + tiny_BS) / (
        signal_BS + lowest * error_BS + tiny_BS
    )
    loss_BS = (10 * ratio_BS.log10()).masked_fill(silent_BS, 0.0)
    return loss_BS.mean(dim=1)


def mean_absolute_error(est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
    """Return the mean absolute difference of the samples, (B,)."""
    return (est_BSCT - ref_BSCT).abs().flatten(1).mean(dim=1)


def _centred(x_BSCT: Tensor) -> Tensor:
    return (x_BSCT - x_BSCT.mean(-1, keepdim=True)).flatten(2)
