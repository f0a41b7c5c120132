"""Warnings about a config that is allowed but hardly meant, before its run starts. Free of torch."""

from __future__ import annotations

from engine.config.counters import UpdateSize
from engine.config.schema import RunConfig
from engine.training.schedule_preview import schedule_warnings


def run_warnings(config: RunConfig, *, size: UpdateSize | None = None) -> list[str]:
    """Return warnings about a run, one sentence each.

    Args:
        config: the run.
        size: of its updates; what the config alone says of it where left out.
    """
    return [*schedule_warnings(config, size=size), *_precision_warnings(config)]


def overflows_in_fp16(config: RunConfig) -> bool:
    """Return whether a network is known to overflow in float16: HuBERT, wav2vec 2.0 without biases."""
    return getattr(config.model, "conv_bias", None) is False


def _precision_warnings(config: RunConfig) -> list[str]:
    if config.precision.dtype != "fp16" or not overflows_in_fp16(config):
        return []
    return [
        "precision.dtype = fp16 with model.conv_bias = false: without a bias, the convolutions on the "
        "waveform are known to overflow in float16, so losses become NaN and updates are skipped; use "
        "precision.dtype = auto or bf16, or set model.conv_bias = true"
    ]
