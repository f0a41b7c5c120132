"""How good an estimate is: scale-invariant signal-to-distortion ratio and its improvement.

Evaluation only: computed in float64 and without gradients. Letters in names: S sources, C channels,
T samples; x stands for any leading dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

LIMIT_DB = 100.0
SILENT_RMS = 1e-8


@torch.no_grad()
def si_sdr(est_xT: Tensor, ref_xT: Tensor, *, joint_channels: bool = False) -> Tensor:
    """Return the SI-SDR in dB of each signal, float64, (x,).

    Zero-mean form of Le Roux et al. (2019), "SDR - half-baked or well done?": with the means
    removed, the target is the projection of the estimate on the reference, the rest is distortion.

    Args:
        est_xT: estimates; the last dimension is time.
        ref_xT: references; their leading dimensions broadcast with those of the estimates.
        joint_channels: the last two dimensions (C, T) form one signal: the mean of each channel is
            removed, then the channels are laid end to end. Their balance thus counts.

    Returns:
        Values within -100 and 100 dB (an exact copy gives 100, a silent estimate -100); NaN where
        the reference is silent, which callers leave out and count.
    """
    est_xT, ref_xT = _centred(est_xT), _centred(ref_xT)
    if joint_channels:
        est_xT, ref_xT = est_xT.flatten(-2), ref_xT.flatten(-2)
    ref_energy_x = ref_xT.square().sum(-1)
    silent_x = ref_energy_x <= SILENT_RMS**2 * ref_xT.shape[-1]
    scale_x = (est_xT * ref_xT).sum(-1) / ref_energy_x
    target_xT = scale_x.unsqueeze(-1) * ref_xT
    target_x = target_xT.square().sum(-1)
    error_x = (est_xT - target_xT).square().sum(-1)
    ratio_x = torch.where(target_x == 0, 0.0, target_x / error_x)
    level_x = (10 * ratio_x.log10()).clamp(-LIMIT_DB, LIMIT_DB)
    return level_x.masked_fill(silent_x, torch.nan)


def si_sdr_improvement(
    est_xT: Tensor, ref_xT: Tensor, mix_xT: Tensor, *, joint_channels: bool = False
) -> Tensor:
    """Return SI-SDR of the estimate minus that of the unprocessed mixture, in dB, (x,).

    Args:
        est_xT: estimates, as in `si_sdr`.
        ref_xT: references.
        mix_xT: mixtures; leading dimensions broadcast: (B, 1, C, T) with (B, S, C, T), for example.
        joint_channels: as in `si_sdr`.
    """
    after_x = si_sdr(est_xT, ref_xT, joint_channels=joint_channels)
    return after_x - si_sdr(mix_xT, ref_xT, joint_channels=joint_channels)


def _centred(x_xT: Tensor) -> Tensor:
    x_xT = x_xT.double()
    return x_xT - x_xT.mean(-1, keepdim=True)
