"""The hybrid: a spectrogram U-Net, then an audio U-Net on its waveforms.

Letters in names: B batch, S sources, C channels, K intermediate waveforms of a channel, T samples.
"""

from __future__ import annotations

from typing import Any, TypeVar

from torch import Tensor, nn

from models.audio_unet import AudioUNet
from models.configs import AudioUNetConfig, HybridConfig, SpecUNetConfig
from models.spec_unet import SpecUNet

Part = TypeVar("Part", SpecUNetConfig, AudioUNetConfig)


class Hybrid(nn.Module):
    """Both U-Nets in series; the only input of the second is the output of the first.

    With `prediction = "difference"` each of them adds to its input: the first to the mixture, once
    for each intermediate waveform, the second to the mean of these. So gradients bypass the second
    on their way to the first, for any number of intermediate waveforms.
    """

    def __init__(self, config: HybridConfig, *, channels: int, sources: int) -> None:
        super().__init__()
        spec = _part(SpecUNetConfig, config, strides=config.spec_strides)
        audio = _part(AudioUNetConfig, config)
        copies = config.intermediate_channels
        self.spec = SpecUNet(spec, channels=channels, sources=copies)
        self.audio = AudioUNet(audio, channels=channels, sources=sources, copies=copies)

    def forward(self, mix_BCT: Tensor) -> Tensor:
        """Return the estimates (B, S, C, T) of a mixture (B, C, T), T >= 1."""
        between_BKCT = self.spec(mix_BCT)
        est_BSCT: Tensor = self.audio(between_BKCT.flatten(1, 2))
        return est_BSCT


def _part(kind: type[Part], config: HybridConfig, **own: Any) -> Part:
    """Return the settings of one of the two networks: those both know, and its `own`."""
    shared = (kind.model_fields.keys() & HybridConfig.model_fields.keys()) - {"kind"}
    return kind.model_validate({**{name: getattr(config, name) for name in shared}, **own})
