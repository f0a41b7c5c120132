"""Whether the encoder of another run fits a run that starts from it. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.schema import RunConfig
from models.self_supervised.data2vec2_settings import Data2Vec2EncoderSettings
from models.self_supervised.settings import WaveformEncoderSettings
from models.speech_configs import CtcData2Vec2Config, CtcEncoderConfig

# What shapes or computes the frames; dropout and the like may differ.
_CONVOLUTIONS = ("conv_channels", "conv_kernels", "conv_strides", "extractor_norm", "conv_bias")
_SAME: Mapping[type[Any], tuple[str, ...]] = {
    WaveformEncoderSettings: (
        *_CONVOLUTIONS, "layers", "dim", "heads", "ffn", "layer_norm_first", "pos_conv_kernel",
        "pos_conv_groups",
    ),
    Data2Vec2EncoderSettings: (
        *_CONVOLUTIONS, "layers", "prenet_layers", "dim", "heads", "ffn", "pos_conv_layers",
        "pos_conv_width", "pos_conv_groups",
    ),
}  # fmt: skip
_KINDS: Mapping[type[Any], str] = {
    WaveformEncoderSettings: CtcEncoderConfig().kind,
    Data2Vec2EncoderSettings: CtcData2Vec2Config().kind,
}


def gives_encoder(model: object) -> bool:
    """Return whether a model has an encoder of waveforms that recognisers can start from."""
    # wav2vec 2.0 may have Conformer layers instead.
    return isinstance(model, tuple(_SAME)) and (
        getattr(model, "encoder", "transformer") == "transformer"
    )


def encoder_misfit(config: RunConfig, trained: RunConfig) -> str:
    """Return why the encoder of `trained` does not fit `config`; empty if it does.

    It says all settings that differ, and what to set them to.
    """
    family = next(cls for cls in _SAME if isinstance(trained.model, cls))
    if not isinstance(config.model, family):
        return f"another encoder (to start from it, set model.kind = {_KINDS[family]!r} and its settings)"
    pairs = [
        (f"model.{name}", getattr(config.model, name), getattr(trained.model, name))
        for name in _SAME[family]
    ]
    pairs += [
        (f"data.{name}", getattr(config.data, name, None), getattr(trained.data, name, None))
        for name in ("rate_hz", "normalize_waveform")
    ]
    differing = [
        f"{key} = {_shown(theirs)}" for key, ours, theirs in pairs if _shown(ours) != _shown(theirs)
    ]
    if not differing:
        return ""
    return f"an encoder with other settings (to start from it, set {', '.join(differing)})"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
