"""The losses. B: batch, S: sources, C: channels, T: samples, N: frames or signals, K: clusters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


class StftSiSdr:
    """Spectral convergence and log magnitude distance (Yamamoto et al., 2020), and negative SI-SDR."""

    def __init__(self, windows: tuple[int, ...], si_sdr_weight: float) -> None:
        self.windows, self.si_sdr_weight = windows, si_sdr_weight

    def __call__(self, est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
        """Return one value for each item (B,): the trainer sums items, and divides once."""
        terms = [self._stft(est_BSCT, ref_BSCT, window) for window in self.windows]
        stft_B = torch.stack(terms).mean(dim=0)
        return stft_B - self.si_sdr_weight * _si_sdr(est_BSCT, ref_BSCT)

    def _stft(self, est_BSCT: Tensor, ref_BSCT: Tensor, window: int) -> Tensor:
        est_BX, ref_BX = (_magnitudes(x, window) for x in (est_BSCT, ref_BSCT))
        convergence_B = (ref_BX - est_BX).norm(dim=1) / ref_BX.norm(dim=1).clamp(min=1e-5)
        return convergence_B + (ref_BX.log() - est_BX.log()).abs().mean(dim=1)


def _magnitudes(x_BSCT: Tensor, window: int) -> Tensor:
    """Return all magnitudes of each item (B, X), never 0."""
    signals_NT = x_BSCT.reshape(-1, x_BSCT.shape[-1])
    spectrum = torch.stft(
        signals_NT,
        window,
        window // 4,
        window=torch.hann_window(window, device=x_BSCT.device, dtype=x_BSCT.dtype),
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=1e-8).sqrt().reshape(len(x_BSCT), -1)


def _si_sdr(est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
    """Return the mean over sources of SI-SDR in dB (B,), between about -50 and 50; silence gives 0."""
    est_BSN, ref_BSN = est_BSCT.flatten(2), ref_BSCT.flatten(2)
    energy_BS = ref_BSN.square().sum(-1)
    scale_BS = (est_BSN * ref_BSN).sum(-1) / energy_BS.clamp(min=1e-8)
    target_BSN = scale_BS.unsqueeze(-1) * ref_BSN
    signal_BS, error_BS = target_BSN.square().sum(-1), (est_BSN - target_BSN).square().sum(-1)
    tiny_BS = 1e-5 * energy_BS + 1e-8
    ratio_BS = 10 * ((signal_BS + tiny_BS) / (error_BS + tiny_BS)).log10()
    return torch.where(energy_BS > 1e-8, ratio_BS, 0.0).mean(dim=1)


class Focal:
    """Cross-entropy times a power of how probable all other clusters are."""

    def __init__(self, focus: float) -> None:
        self.focus = focus

    def __call__(self, logits_NK: Tensor, label_N: Tensor) -> Tensor:
        """Return one value for each frame (N,); the recipe knows which are masked."""
        loss_N = cross_entropy(logits_NK, label_N, reduction="none")
        if not self.focus:
            return loss_N
        others_N = (-torch.expm1(-loss_N)).clamp(min=1e-6)
        return others_N.pow(self.focus) * loss_N
