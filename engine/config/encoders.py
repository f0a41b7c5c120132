"""Whether the encoder of a self-supervised run fits a run that starts from it. Free of torch."""

from __future__ import annotations

from engine.config.schema import RunConfig
from models.self_supervised.settings import SelfSupervisedConfig, WaveformEncoderSettings

# What shapes or computes the frames; dropout and the like may differ.
_SAME = (
    "conv_channels", "conv_kernels", "conv_strides", "extractor_norm", "conv_bias", "layers", "dim",
    "heads", "ffn", "layer_norm_first", "pos_conv_kernel", "pos_conv_groups",
)  # fmt: skip


def gives_encoder(model: object) -> bool:
    """Return whether a model has an encoder that recognisers can start from."""
    if not (isinstance(model, SelfSupervisedConfig) and isinstance(model, WaveformEncoderSettings)):
        return False
    # wav2vec 2.0 may have Conformer layers instead.
    return getattr(model, "encoder", "transformer") == "transformer"


def encoder_misfit(config: RunConfig, trained: RunConfig) -> str:
    """Return why the encoder of `trained` does not fit `config`; empty if it does.

    It says all settings that differ, and what to set them to.
    """
    pairs = [
        (f"model.{name}", getattr(config.model, name), getattr(trained.model, name))
        for name in _SAME
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
