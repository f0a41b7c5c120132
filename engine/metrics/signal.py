"""Metrics of an estimate: SI-SDR and its improvement, SDR, log-spectral distance.

Evaluation only: without gradients, the ratios in float64. Letters in names: S sources, C channels,
T samples, F bins, L frames; x stands for any leading dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT_DB = 100.0
SILENT_RMS = 1e-8

_LSD_WINDOW = 2048
# Just below the power per bin of 16-bit rounding noise.
_LSD_FLOOR = 1e-8


@torch.no_grad()
def si_sdr(est_xT: Tensor, ref_xT: Tensor, *, joint_channels: bool = False) -> Tensor:
    """Return the SI-SDR in dB of each signal, float64, (x,).

    Zero-mean form of Le Roux et al. (2019), "SDR - half-baked or well done?": with the means
    removed, the target is the projection of the estimate on the reference, the rest is distortion.

    Args:
        est_xT: estimates; the last dimension is time.
        ref_xT: references; their leading dimensions broadcast with those of the estimates.
        joint_channels: the last two dimensions (C, T) form one signal: the mean of each channel is
            removed, then the channels are concatenated, so their balance counts.

    Returns:
        Values within -100 and 100 dB (an exact copy gives 100, a silent estimate -100); NaN where
        the reference is silent; callers exclude and count those.
    """
    est_xT, ref_xT = _prepared(est_xT, ref_xT, joint_channels=joint_channels)
    ref_energy_x = ref_xT.square().sum(-1)
    scale_x = (est_xT * ref_xT).sum(-1) / ref_energy_x
    target_xT = scale_x.unsqueeze(-1) * ref_xT
    level_x = level_db(target_xT.square().sum(-1), (est_xT - target_xT).square().sum(-1))
    return level_x.masked_fill(_is_silent(ref_xT), torch.nan)


@torch.no_grad()
def sdr(est_xT: Tensor, ref_xT: Tensor, *, joint_channels: bool = False) -> Tensor:
    """Return the plain signal-to-distortion ratio in dB of each signal, float64, (x,).

    10 log10(|ref|^2 / |ref - est|^2), means removed: the definition of the Music Demixing Challenge
    (Mitsufuji et al., 2022), without the 512-tap filter of BSS Eval that forgives a wrong timbre.
    Unlike SI-SDR it counts a wrong level. Arguments and limits are those of `si_sdr`.
    """
    est_xT, ref_xT = _prepared(est_xT, ref_xT, joint_channels=joint_channels)
    level_x = level_db(ref_xT.square().sum(-1), (ref_xT - est_xT).square().sum(-1))
    return level_x.masked_fill(_is_silent(ref_xT), torch.nan)


@torch.no_grad()
def log_spectral_distance(est_xT: Tensor, ref_xT: Tensor) -> Tensor:
    """Return the log-spectral distance in dB of each signal, (x,); 0 is best.

    Root mean square, over bins, of the difference of the two power spectra in dB; mean over frames
    (Gray and Markel, 1976). Windows of 2048 (Hann), hop 512; power below 1e-8 counts as 1e-8, so
    that digital silence has a distance. Papers that leave out the factor 10 of the decibel (as most
    on bandwidth extension do) report a tenth of it.
    """
    ratio_xFL = _power(est_xT) / _power(ref_xT)
    return ratio_xFL.log10().mul(10).square().mean(dim=-2).sqrt().mean(dim=-1)


def _power(x_xT: Tensor) -> Tensor:
    signals_NT = x_xT.float().reshape(-1, x_xT.shape[-1])
    window = torch.hann_window(_LSD_WINDOW, device=x_xT.device)
    spectrum_NFL = torch.stft(
        signals_NT, _LSD_WINDOW, hop_length=_LSD_WINDOW // 4, window=window,
        pad_mode="constant", return_complex=True,
    )  # fmt: skip
    power_NFL = torch.view_as_real(spectrum_NFL).square().sum(dim=-1).clamp(min=_LSD_FLOOR)
    return power_NFL.reshape(*x_xT.shape[:-1], *power_NFL.shape[1:])


def _prepared(est_xT: Tensor, ref_xT: Tensor, *, joint_channels: bool) -> tuple[Tensor, Tensor]:
    est_xT, ref_xT = _centred(est_xT), _centred(ref_xT)
    return (est_xT.flatten(-2), ref_xT.flatten(-2)) if joint_channels else (est_xT, ref_xT)


def _is_silent(ref_xT: Tensor) -> Tensor:
    return ref_xT.square().sum(-1) <= SILENT_RMS**2 * ref_xT.shape[-1]


def level_db(signal_x: Tensor, error_x: Tensor) -> Tensor:
    """Return the ratio of two energies in dB, clamped to -100 to 100; no signal gives -100."""
    ratio_x = torch.where(signal_x == 0, 0.0, signal_x / error_x)
    return (10 * ratio_x.log10()).clamp(-LIMIT_DB, LIMIT_DB)


def _centred(x_xT: Tensor) -> Tensor:
    x_xT = x_xT.double()
    return x_xT - x_xT.mean(-1, keepdim=True)
