"""Warnings about a config that is allowed but hardly meant, before its run starts. Free of torch."""

from __future__ import annotations

from engine.config.counters import EpochsUnknown, UpdateSize
from engine.config.errors import ConfigError
from engine.config.schema import RunConfig
from engine.metrics.registry import PROBE
from engine.recipes.specs import spec_of
from engine.training.run_length import length_warnings
from engine.training.schedule_preview import schedule_curve, schedule_warnings

HIGH_LR = 1e-4
# A rate that keeps more than this share of its peak to the end does not decay.
_DECAYED = 0.5
# Of TorToiSe's fine-tuning recipe, and of the reports of its users on small voices.
PUBLISHED_RATES = (
    "Published fine-tunes of a voice start at 1e-5 and halve it seven times (after 2, 4, 9, 18, 25, 33 and 50 "
    "epochs), with few clips at 1e-7"
)


def run_warnings(config: RunConfig, *, size: UpdateSize | None = None) -> list[str]:
    """Return warnings about a run, one sentence each.

    Args:
        config: the run.
        size: of its updates; what the config alone says of it where left out.
    """
    return [
        *schedule_warnings(config, size=size),
        *length_warnings(config, size or config.update_size),
        *_fine_tuning_warnings(config, size=size),
        *_precision_warnings(config),
        *_probe_warnings(config),
    ]


def overflows_in_fp16(config: RunConfig) -> bool:
    """Return whether a network is known to overflow in float16: HuBERT, wav2vec 2.0 without biases."""
    return getattr(config.model, "conv_bias", None) is False


def _fine_tuning_warnings(config: RunConfig, *, size: UpdateSize | None) -> list[str]:
    """Warn where trained weights would be trained on at a high rate that hardly decays."""
    peak = config.optimizer.lr
    if config.init_from is None or peak < HIGH_LR:
        return []
    try:
        last = schedule_curve(config, size=size, points=2).lr[-1]
    except EpochsUnknown:
        # Whether it decays is then known of one kind alone.
        last = peak if config.schedule.kind == "constant" else 0.0
    if last < _DECAYED * peak:
        return []
    return [
        f"optimizer.lr = {peak:g} with schedule.kind = {config.schedule.kind} may fry your fine-tune: at a high "
        f"rate that does not decay, the weights of init_from are soon overwritten. {PUBLISHED_RATES}; lower "
        "optimizer.lr, or set schedule.kind = multi_step, cosine or hold_decay"
    ]


def _probe_warnings(config: RunConfig) -> list[str]:
    if getattr(config.data, "probe", None) is None:
        return []
    try:
        if spec_of(config.recipe).gives_features:
            return []
    except ConfigError:
        # Refused when it is queued, with the reason.
        return []
    return [
        f"data.probe is set, but the recipe {config.recipe} does not say that it measures it "
        f"(`RecipeSpec.gives_features`): there may be no {PROBE} in its evaluations"
    ]


def _precision_warnings(config: RunConfig) -> list[str]:
    if config.precision.dtype != "fp16" or not overflows_in_fp16(config):
        return []
    return [
        "precision.dtype = fp16 with model.conv_bias = false: without a bias, the convolutions on the "
        "waveform are known to overflow in float16, so losses become NaN and updates are skipped; use "
        "precision.dtype = auto or bf16, or set model.conv_bias = true"
    ]
