"""The spectrogram U-Net: a band of the short-time Fourier transform goes through a 2-D U-Net.

Owns the transform and the bypass of the other bins. Letters in names: B batch, S sources,
C channels, T samples, F bins, L frames, N signals (B * S * C), W samples of a window.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from models.configs import SpecUNetConfig
from models.unet import Shape, UNet


class SpecUNet(UNet):
    """U-Net on real and imaginary parts of a band of bins; takes any length and keeps it.

    The change of the band is transformed back and added to the input, for each source, so the other
    bins pass through exactly, without a transform. With `prediction = "clean"` the network outputs
    the band itself, with "difference" its change.
    """

    window: Tensor

    def __init__(self, config: SpecUNetConfig, *, channels: int, sources: int) -> None:
        adds_input = config.prediction == "difference"
        shape = Shape(
            config.width, config.strides, units=config.residual_units, norm=config.norm,
            dims=2, dilation_base=1,
        )  # fmt: skip
        outputs = 2 * sources * channels
        super().__init__(shape, inputs=2 * channels, outputs=outputs, quiet=adds_input)
        self.n_fft = config.n_fft
        self.hop = config.hop_length
        self.band = config.band
        self.multiple = prod(config.strides)
        self.sources = sources
        self.adds_input = adds_input
        self.register_buffer("window", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, mix_BCT: Tensor) -> Tensor:
        """Return the estimates (B, S, C, T) of a mixture (B, C, T), T >= 1."""
        start, stop = self.band
        with torch.autocast(mix_BCT.device.type, enabled=False):
            band_BCFL = self._spectrum(mix_BCT)[..., start:stop, :]
        out_BSCFL = self._network(band_BCFL)
        change = out_BSCFL if self.adds_input else out_BSCFL - band_BCFL.unsqueeze(1)
        with torch.autocast(mix_BCT.device.type, enabled=False):
            return mix_BCT.unsqueeze(1) + self._signal(change, mix_BCT.shape[-1])

    def _network(self, band_BCFL: Tensor) -> Tensor:
        """Run the U-Net; parts of a channel lie side by side: real, imaginary, real, ..."""
        batch, channels, bins, frames = band_BCFL.shape
        parts = torch.view_as_real(band_BCFL).permute(0, 1, 4, 2, 3).flatten(1, 2)
        padded = F.pad(parts, (0, -frames % self.multiple, 0, -bins % self.multiple))
        out = self.run(padded)[..., :bins, :frames].to(parts.dtype)
        out = out.reshape(batch, self.sources, channels, 2, bins, frames)
        return torch.view_as_complex(out.permute(0, 1, 2, 4, 5, 3).contiguous())

    def _spectrum(self, x_BCT: Tensor) -> Tensor:
        """Return (B, C, F, L) with a frame centred on every multiple of the hop, to the end."""
        batch, channels, length = x_BCT.shape
        padded_NT = F.pad(x_BCT, (0, -length % self.hop)).flatten(0, 1)
        spectrum_NFL = torch.stft(
            padded_NT, self.n_fft, self.hop, window=self.window,
            pad_mode="constant", return_complex=True,
        )  # fmt: skip
        return spectrum_NFL.reshape(batch, channels, *spectrum_NFL.shape[1:])

    def _signal(self, band_BSCFL: Tensor, length: int) -> Tensor:
        """Return (B, S, C, T): the inverse, with zeros in the bins outside the band.

        `torch.istft` would do, but it waits for the device at each call, to look at the envelope.
        """
        start, _ = self.band
        outside = self.n_fft // 2 + 1 - start - band_BSCFL.shape[-2]
        spectrum_NFL = F.pad(band_BSCFL.flatten(0, 2), (0, 0, start, outside))
        frames_NWL = torch.fft.irfft(spectrum_NFL, n=self.n_fft, dim=1)
        frames_NWL = frames_NWL * self.window.unsqueeze(-1)
        envelope_WL = self.window.square().unsqueeze(-1).expand(-1, frames_NWL.shape[-1])
        start_T, end_T = self.n_fft // 2, self.n_fft // 2 + length
        signal_NT = self._overlap_add(frames_NWL)[:, start_T:end_T]
        envelope_NT = self._overlap_add(envelope_WL.unsqueeze(0))[:, start_T:end_T]
        return (signal_NT / envelope_NT).reshape(*band_BSCFL.shape[:3], length)

    def _overlap_add(self, frames_NWL: Tensor) -> Tensor:
        total = self.n_fft + self.hop * (frames_NWL.shape[-1] - 1)
        summed = F.fold(frames_NWL, (1, total), (1, self.n_fft), stride=(1, self.hop))
        return summed.flatten(1)
