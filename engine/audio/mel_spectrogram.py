"""Log-mel spectrograms that audio can be made of again: for codecs and voices.

Owns the transform in both directions, with one STFT: centred Hann windows, magnitudes or (as TorToiSe) their
squares, filters with Slaney's norm, natural logarithm of at least 1e-5; back by the pseudo-inverse of the filters and Griffin-Lim from phase 0, so that the same frames give the same audio. Frames for recognition are
those of `engine.audio.log_mel`. Letters: B batch, T samples, L frames, F mel bands, K bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

_FLOOR = 1e-5
# Far above any audio; a codec that has gone astray still gives finite samples.
_LOUDEST = 30.0
_ITERATIONS, _MOMENTUM = 32, 0.99
# Nepers of magnitude, which these logarithms are in, to decibels.
DB_PER_NEPER = 8.685889638065037


@dataclass(frozen=True, slots=True, repr=False)
class MelSpectrogram:
    """A transform; frame l is centred on sample `l * hop`.

    Attributes:
        rate_hz: sampling rate.
        n_fft: window and transform length.
        hop: samples between frames.
        num_mels: F.
        f_min_hz: lower edge of the first band.
        f_max_hz: upper edge of the last band.
        power: exponent of the magnitudes that the bands sum.
        mel_scale: of the bands.
    """

    rate_hz: int
    n_fft: int
    hop: int
    num_mels: int
    f_min_hz: float
    f_max_hz: float
    power: int = 1
    mel_scale: Literal["slaney", "htk"] = "slaney"

    def __repr__(self) -> str:
        """Name every number; stored hashes hold this, so what was added later is left out at its default."""
        shown = ["rate_hz", "n_fft", "hop", "num_mels", "f_min_hz", "f_max_hz"]
        shown += ["power"] if self.power != 1 else []
        shown += ["mel_scale"] if self.mel_scale != "slaney" else []
        return f"MelSpectrogram({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    @property
    def name(self) -> str:
        """All that fixes its frames, and the audio that is made of them."""
        return f"{self!r} floor {_FLOOR:g} griffin-lim {_ITERATIONS} {_MOMENTUM:g}"

    def frames_of(self, samples: int) -> int:
        """Return L for a waveform of so many samples; 0 where it is too short to be transformed."""
        return samples // self.hop if samples > self.n_fft // 2 else 0

    def log_mel(self, wave_BT: Tensor) -> Tensor:
        """Return (B, F, L) float32, L = T // hop; T must exceed `n_fft // 2`. Computed on the device."""
        with torch.autocast(wave_BT.device.type, enabled=False):
            window = _window(self.n_fft, wave_BT.device)
            spectrum_BKL = torch.stft(
                wave_BT.float(), self.n_fft, self.hop, window=window, center=True,
                pad_mode="reflect", return_complex=True,
            )  # fmt: skip
            frames = wave_BT.shape[-1] // self.hop
            powers_BKL = spectrum_BKL[..., :frames].abs() ** self.power
            mel_BFL = self._filters(wave_BT.device).T @ powers_BKL
        return mel_BFL.clamp(min=_FLOOR).log()

    def waveform(self, mel_BFL: Tensor, *, iterations: int = _ITERATIONS) -> Tensor:
        """Return (B, L * hop) float32 audio whose log-mel frames are about those given (Griffin-Lim)."""
        from torchaudio.functional import griffinlim

        frames = mel_BFL.shape[-1]
        if not frames:
            return mel_BFL.new_zeros(len(mel_BFL), 0, dtype=torch.float32)
        with torch.autocast(mel_BFL.device.type, enabled=False):
            # The last half hop belongs to a frame that was not kept; and a window must have something to reflect.
            least = self.n_fft // 2 // self.hop + 1
            more = 1 + max(0, least - frames)
            last_BFL = mel_BFL[..., -1:].expand(-1, -1, more)
            mel_BFL = torch.cat([mel_BFL, last_BFL], dim=-1).float()
            powers_BKL = (
                self._inverse(mel_BFL.device).T @ mel_BFL.clamp(max=_LOUDEST).exp()
            ).clamp(min=0.0)
            magnitude_BKL = powers_BKL ** (1 / self.power)
            wave_BT: Tensor = griffinlim(
                magnitude_BKL, window=_window(self.n_fft, mel_BFL.device), n_fft=self.n_fft,
                hop_length=self.hop, win_length=self.n_fft, power=1.0, n_iter=iterations,
                momentum=_MOMENTUM, length=(mel_BFL.shape[-1] - 1) * self.hop, rand_init=False,
            )  # fmt: skip
        return wave_BT[..., : frames * self.hop]

    def _filters(self, device: torch.device) -> Tensor:
        """Return (K, F)."""
        return _filters(self, device)

    def _inverse(self, device: torch.device) -> Tensor:
        """Return (F, K), the pseudo-inverse of the filters."""
        return _inverse(self, device)


@cache
def _window(length: int, device: torch.device) -> Tensor:
    return torch.hann_window(length, device=device)


@cache
def _filters(transform: MelSpectrogram, device: torch.device) -> Tensor:
    from torchaudio.functional import melscale_fbanks

    filters_KF: Tensor = melscale_fbanks(
        transform.n_fft // 2 + 1, transform.f_min_hz, transform.f_max_hz, transform.num_mels,
        transform.rate_hz, norm="slaney", mel_scale=transform.mel_scale,
    )  # fmt: skip
    return filters_KF.to(device)


@cache
def _inverse(transform: MelSpectrogram, device: torch.device) -> Tensor:
    filters_KF = _filters(transform, torch.device("cpu")).double()
    inverse_FK: Tensor = torch.linalg.pinv(filters_KF)
    return inverse_FK.float().to(device)
