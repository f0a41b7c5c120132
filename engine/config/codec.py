"""Settings of the objective of the mel codec, and what it asks of its audio."""

from __future__ import annotations

from math import log2
from typing import ClassVar, Literal

from engine.config.data_settings import DataSettings
from engine.config.loss_settings import LossSettings
from engine.config.unlabelled import UnlabelledData
from models.base.settings import setting
from models.codec.settings import MelCodecConfig
from models.configs import ModelConfig


class MelCodecLoss(LossSettings):
    """Distance of a log-mel spectrogram from what is decoded of its codes."""

    recipe: ClassVar[str] = "codec"
    gives_audio: ClassVar[bool] = True
    speaks: ClassVar[bool] = True

    kind: Literal["mel_codec"] = setting(
        "mel_codec", "Mel codec: log-mel spectrograms are restored from discrete codes."
    )
    distance: Literal["l1", "l2"] = setting(
        "l1",
        "Distance of log-mel spectrograms in which each band has mean 0 and variance 1 over the training "
        "data: mean absolute (l1) or mean squared (l2) error.",
    )
    commitment: float = setting(
        0.25,
        "Weight of the mean squared distance of encoder outputs to their codes, which keeps them together; "
        "vq only, fsq has none.",
        ge=0,
        le=100,
    )

    def misfit(self, data: DataSettings, model: ModelConfig) -> str:
        """Return what keeps log-mel spectrograms from being computed, coded or heard again."""
        assert isinstance(data, UnlabelledData)
        assert isinstance(model, MelCodecConfig)
        return _data_misfit(data, model) or _transform_misfit(data.rate_hz, model)


def code_rate_text(model: MelCodecConfig, rate_hz: int) -> str:
    """Return the transform and the rate of codes in words."""
    hop, samples = model.hop_at(rate_hz), model.samples_per_code(rate_hz)
    per_s = rate_hz / samples
    return (
        f"{model.mel_bands} mel bands, window {model.n_fft_at(rate_hz)} and hop {hop} samples at {rate_hz} Hz; "
        f"{model.frames_per_code} frames per code: {per_s:.3g} codes of {model.num_codes} per second, "
        f"{per_s * log2(model.num_codes):.3g} bit/s"
    )


def _data_misfit(data: UnlabelledData, model: MelCodecConfig) -> str:
    if data.fit != "crop":
        return (
            f"data.fit = {data.fit!r} pads items, and a codec would learn codes of padding; set "
            "data.fit = 'crop'"
        )
    if data.normalize_waveform:
        return (
            "data.normalize_waveform = true would take the level of each item away, which decoded audio "
            "needs; set it to false"
        )
    if data.probe is not None:
        return "data.probe is for encoders of waveforms; remove this setting"
    least = max(model.samples_per_code(data.rate_hz), model.n_fft_at(data.rate_hz) // 2 + 1)
    if data.shortest_samples < least:
        # Crops are whole hops of the data.
        seconds = -(-least // data.hop) * data.hop / data.rate_hz
        return f"data.min_s = {data.min_s:g} is less than one code needs; raise it to at least {seconds:g}"
    return ""


def _transform_misfit(rate_hz: int, model: MelCodecConfig) -> str:
    n_fft, hop = model.n_fft_at(rate_hz), model.hop_at(rate_hz)
    low, high = model.f_min_hz, model.f_max_at(rate_hz)
    if high > rate_hz / 2:
        return (
            f"model.f_max_hz = {high:g} is above half of data.rate_hz = {rate_hz}; lower it to at most "
            f"{rate_hz / 2:g}, or leave it out"
        )
    if low >= high:
        return f"model.f_min_hz = {low:g} must be below the upper edge of {high:g} Hz"
    if 2 * hop > n_fft:
        return f"model.hop = {hop} must be at most half of model.n_fft = {n_fft}"
    most = _most_bands(rate_hz / n_fft, low, high=high)
    if model.mel_bands > most:
        return (
            f"model.mel_bands = {model.mel_bands} are more than a transform of {n_fft} samples at {rate_hz} Hz "
            f"resolves: the lowest would be empty; use at most {most}, or a larger model.n_fft"
        )
    return ""


def _most_bands(bin_hz: float, low: float, *, high: float) -> int:
    """Return how many bands there can be before those at the bottom are narrower than a bin."""
    span = _mels(high) - _mels(low)
    # The scale is linear below 1 kHz: bands are equally wide in Hz there.
    return int(span * _HZ_PER_MEL / bin_hz) - 1


# Slaney's scale: linear up to 1 kHz, logarithmic above, with 27 steps to a factor of 6.4.
_HZ_PER_MEL, _LINEAR_TO_HZ, _STEPS, _FACTOR = 200 / 3, 1_000.0, 27, 6.4


def _mels(hz: float) -> float:
    if hz <= _LINEAR_TO_HZ:
        return hz / _HZ_PER_MEL
    return _LINEAR_TO_HZ / _HZ_PER_MEL + _STEPS * log2(hz / _LINEAR_TO_HZ) / log2(_FACTOR)
