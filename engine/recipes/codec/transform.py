"""The transform that a codec works on, from its settings."""

from __future__ import annotations

from engine.audio.mel_spectrogram import MelSpectrogram
from models.codec.settings import MelCodecConfig


def transform_of(model: MelCodecConfig, rate_hz: int) -> MelSpectrogram:
    """Return the transform that a codec of audio at a rate works on."""
    return MelSpectrogram(
        rate_hz,
        n_fft=model.n_fft_at(rate_hz),
        hop=model.hop_at(rate_hz),
        num_mels=model.mel_bands,
        f_min_hz=model.f_min_hz,
        f_max_hz=model.f_max_at(rate_hz),
        power=model.power,
        mel_scale=model.mel_scale,
    )
