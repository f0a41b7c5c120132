"""Settings of training: everything but the data and the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema, model_validator

from engine.config.errors import nearest
from engine.config.span import PositiveSpan, Span
from engine.metrics.registry import default_targets, target_names
from models.settings import Section, setting


def _is_target(name: str) -> str:
    names = target_names()
    if name not in names:
        raise ValueError(f"expected one of {', '.join(names)}{nearest(name, names)}")
    return name


TargetMetric = Annotated[
    str,
    AfterValidator(_is_target),
    WithJsonSchema({"type": "string", "enum": list(target_names())}),
]


class OptimizerConfig(Section):
    """AdamW and gradient clipping."""

    lr: float = setting(3e-4, "Peak learning rate.", gt=0, le=10)
    beta1: float = setting(0.9, "Decay of the gradient average.", ge=0, lt=1)
    beta2: float = setting(0.999, "Decay of the squared-gradient average.", ge=0, lt=1)
    eps: float = setting(1e-8, "Added to the denominator.", gt=0, le=1)
    weight_decay: float = setting(0.01, "Decoupled weight decay.", ge=0, le=10)
    clip_norm: float = setting(1.0, "Largest gradient norm; 0 switches clipping off.", ge=0)


class EmaConfig(Section):
    """Exponential moving average of the weights, with its own evaluation and best checkpoints."""

    enabled: bool = setting(True, "Keep an average of the weights and evaluate it.")
    decay: float = setting(
        0.999, "Share of the old average kept at each count; warms up as (1 + n) / (10 + n).",
        ge=0, lt=1,
    )  # fmt: skip
    per: PositiveSpan = setting(
        Span(1, "updates"), "Span over which decay applies once.", unit="span"
    )
    restart_at: Span | None = setting(
        None, "Start the average again from the current weights at this count.", unit="span"
    )


class ScheduleConfig(Section):
    """Length of the run and the learning rate over it."""

    length: PositiveSpan = setting(Span(10_000, "updates"), "When training ends.", unit="span")
    kind: Literal[
        "constant", "exponential", "linear", "cosine", "cosine_restarts", "multi_step",
        "inverse_sqrt", "hold_decay", "hold_exponential",
    ] = setting("constant", "Learning rate after warm-up; only cosine_restarts ever rises again.")  # fmt: skip
    warmup: Span | None = setting(None, "Linear rise of the learning rate from 0.", unit="span")
    gamma: float = setting(0.9998, "Factor of the exponential schedule.", gt=0, le=1)
    per: PositiveSpan = setting(
        Span(1, "updates"), "Span over which gamma applies once.", unit="span"
    )
    final_ratio: float = setting(
        0.0, "Learning rate at the end, over its peak: linear, both cosines, hold_decay; the lowest of "
        "hold_exponential.", ge=0, le=1,
    )  # fmt: skip
    milestones: tuple[Span, ...] = setting(
        (), "Counts at which multi_step falls, like '5000 updates'.", unit="span", max_length=32
    )
    factor: float = setting(0.1, "Factor of multi_step at each milestone.", gt=0, le=1)
    cycles: int = setting(4, "Number of equal falls of cosine_restarts.", ge=2, le=100)
    hold: float = setting(
        0.8,
        "Share of the way from warm-up to the end at which hold_decay begins its straight fall.",
        ge=0,
        lt=1,
    )
    hold_for: Span | None = setting(
        None, "Span after warm-up over which hold_exponential stays at its peak.", unit="span"
    )
    half_life: PositiveSpan = setting(
        Span(10_000, "updates"), "Span over which hold_exponential halves once.", unit="span"
    )

    @model_validator(mode="after")
    def _steps_are_given(self) -> ScheduleConfig:
        if self.kind == "multi_step" and not self.milestones:
            raise ValueError('multi_step needs milestones, like ["5000 updates"]')
        return self


class PrecisionConfig(Section):
    """Number formats and the device."""

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Where to train; auto takes the GPU when there is one."
    )
    devices: int = setting(
        1, "Processes that train together, one per GPU or on the CPU.", ge=1, le=64
    )
    dtype: Literal["fp32", "bf16", "fp16"] = setting("fp32", "Format of the forward pass.")
    tf32: bool = setting(False, "Allow TF32 matrix products in fp32 (GPU only).")
    cudnn_benchmark: bool = setting(False, "Let cuDNN time its kernels and keep the fastest.")
    channels_last: bool = setting(
        False, "Keep 2-D convolutions with their channels innermost; 1-D ones stay as they are."
    )
    compile: bool = setting(
        False,
        "Compile the network for training; takes a minute at the start, more with many shapes.",
    )
    deterministic: bool = setting(
        False, "Use only deterministic kernels, for bit-exact repeats (slower on a GPU)."
    )
    threads: int = setting(0, "CPU threads of the training process; 0: all cores.", ge=0, le=1024)


class ValidationConfig(Section):
    """When and on what the model is judged."""

    every: PositiveSpan = setting(
        Span(1_000, "updates"), "Interval between evaluations.", unit="span"
    )
    at_start: bool = setting(True, "Evaluate once after the first update, too.")
    segment_s: float = setting(
        10.0, "Longest excerpt of a file that is used; of whole files, the part in memory at once.",
        unit="s", gt=0.1,
    )  # fmt: skip
    full_files: bool = setting(
        False,
        "Judge the whole files, too, beside the excerpts: si_sdr_full, val_loss_full, ... at the end "
        "of the run, and by full_every.",
    )
    full_every: PositiveSpan | None = setting(
        None, "Interval between evaluations of whole files; empty: at the end alone.", unit="span"
    )
    batch_items: int = setting(8, "Excerpts on the device at once.", unit="items", ge=1, le=1024)
    max_items: int = setting(
        0, "Most excerpts of an evaluation; 0: all.", unit="items", ge=0, le=1_000_000
    )
    clips: int = setting(
        0, "Excerpts whose audio and spectrogram are written at each evaluation; 0: none.",
        unit="items", ge=0, le=1_000,
    )  # fmt: skip


class CheckpointConfig(Section):
    """What is kept on disk."""

    every: PositiveSpan = setting(
        Span(1_000, "updates"), "Interval between saves of `last`.", unit="span"
    )
    keep_last: int = setting(2, "How many `last` checkpoints are kept.", ge=1, le=100)
    best: tuple[TargetMetric, ...] = setting(
        default_targets(),
        "Metrics whose best checkpoint is kept, on the measured weights, those that the task has; _ema "
        "needs ema.enabled, _full validation.full_files.",
        max_length=64,
    )


class LoggingConfig(Section):
    """What is reported while training."""

    every: PositiveSpan = setting(
        Span(1, "updates"), "Interval between points of a curve.", unit="span"
    )
    flush_s: float = setting(
        0.5, "Longest time a point waits before it is written.", unit="s", ge=0.05, le=60
    )
    system_every_s: float = setting(
        1.0, "Interval between samples of GPU, CPU and memory.", unit="s", ge=0.1, le=600
    )
    wandb: Literal["off", "offline", "online"] = setting(
        "off", "Also send curves to Weights & Biases; offline writes files for a later sync."
    )
    wandb_project: str = setting("sepdash", "Weights & Biases project.", min_length=1)
