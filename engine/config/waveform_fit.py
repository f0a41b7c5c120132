"""What encoders of waveforms ask of the audio that they are pre-trained on."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from engine.config.data_settings import DataSettings
from models.configs import ModelConfig
from models.self_supervised.plugin_settings import PluginWaveformEncoder
from models.self_supervised.settings import ConvStackSettings


@runtime_checkable
class Waveforms(Protocol):
    """Settings of audio that is cropped or padded, and may be normalised, before it is encoded."""

    rate_hz: int
    normalize_waveform: bool
    fit: str

    @property
    def hop(self) -> int:
        """Samples between two places where a crop may begin or end."""


def waveform_misfit(data: DataSettings, model: ModelConfig) -> str:
    """Return what an encoder asks of its waveforms, and what to set instead; empty when all fits."""
    if isinstance(data, Waveforms) and isinstance(model, PluginWaveformEncoder):
        return _plugin_misfit(data, model)
    if not (isinstance(data, Waveforms) and isinstance(model, ConvStackSettings)):
        return ""
    if model.hop != data.hop:
        return (
            f"model.conv_strides = {list(model.conv_strides)} make a frame every {model.hop} samples, but "
            f"crops and labels of {data.rate_hz} Hz audio lie on a grid of {data.hop} samples (20 ms); "
            "choose strides whose product is that"
        )
    if model.extractor_norm == "layer_norm" and not data.normalize_waveform:
        return (
            "model.extractor_norm = 'layer_norm' leaves the level of a recording in its frames, so it "
            "was only ever trained on waveforms of unit variance; set data.normalize_waveform = true, or "
            "model.extractor_norm = 'group_norm'"
        )
    if model.extractor_norm == "group_norm" and data.fit == "pad":
        return (
            "model.extractor_norm = 'group_norm' normalises over time, so the padding of data.fit = 'pad' "
            "would change every frame; set data.fit = 'crop', or model.extractor_norm = 'layer_norm' and "
            "data.normalize_waveform = true"
        )
    return ""


def _plugin_misfit(data: Waveforms, model: PluginWaveformEncoder) -> str:
    if model.hop != data.hop:
        return (
            f"model.kind = {model.kind!r} makes a frame every {model.hop} samples with these settings, but "
            f"crops and labels of {data.rate_hz} Hz audio lie on a grid of {data.hop} samples (20 ms); "
            "change the settings of [model] or data.rate_hz"
        )
    if data.fit == "pad" and not model.takes_padding:
        return f"model.kind = {model.kind!r} takes no padded items, but data.fit = 'pad'; set data.fit = 'crop'"
    return ""
