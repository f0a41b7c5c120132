"""Settings of training: everything but the data and the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from engine.config.errors import nearest
from engine.config.lr_scale import GroupScales
from engine.config.span import PositiveSpan, Span
from engine.metrics.registry import default_targets, measures, target_names
from models.base.settings import Section, run_reference, setting

MOST_DEVICES = 64


def _one_of(names: Callable[[], Sequence[str]]) -> AfterValidator:
    """Check that a name is in a table, which is asked at each check."""

    def is_known(name: str) -> str:
        known = names()
        if name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}{nearest(name, known)}")
        return name

    return AfterValidator(is_known)


def _listed(names: Sequence[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(names)})


TargetMetric = Annotated[str, _one_of(target_names), _listed(target_names())]
MeasureName = Annotated[str, _one_of(measures), _listed(measures())]


class OptimizerConfig(Section):
    """AdamW and gradient clipping."""

    lr: float = setting(3e-4, "Peak learning rate.", gt=0, le=10)
    beta1: float = setting(
        0.9, "Decay rate of the running average of the gradient (Adam beta1).", ge=0, lt=1
    )
    beta2: float = setting(
        0.999, "Decay rate of the running average of the squared gradient (Adam beta2).", ge=0, lt=1
    )
    eps: float = setting(
        1e-8, "Term added to the denominator for numerical stability (Adam epsilon).", gt=0, le=1
    )
    weight_decay: float = setting(0.01, "Decoupled weight decay (AdamW).", ge=0, le=10)
    decay_vectors: bool = setting(
        True,
        "Apply weight decay to biases, norm weights and other one-dimensional parameters as well.",
    )
    decay_embeddings: bool = setting(
        True, "Apply weight decay to embedding tables, those of tokens and of positions, as well."
    )
    lr_scale: GroupScales = setting(
        (),
        "Learning rate of groups of parameters relative to lr, like 'encoder=0.1'; which groups a model has "
        "is in its documentation. A loss weight is no substitute: Adam divides a gradient by its own size, "
        "so a parameter that only one loss reaches learns as fast whatever the weight of that loss.",
        max_length=32,
    )
    eight_bit: bool = setting(
        False,
        "Keep the moments of large tensors in 8 bits, a quarter of their memory, by the kernels of bitsandbytes, "
        "an optional package (pip install 'sepdash[eight-bit]'). Made for CUDA; slow on a CPU.",
    )
    clip_norm: float = setting(
        1.0, "Gradient clipping threshold (L2 norm); 0 disables clipping.", ge=0
    )


class EmaConfig(Section):
    """Exponential moving average of the weights, with its own evaluation and best checkpoints."""

    enabled: bool = setting(
        True, "Maintain an exponential moving average of the weights and evaluate it as well."
    )
    decay: float = setting(
        0.999, "Decay of the average per step n (see ema.per); warms up as (1 + n) / (10 + n).",
        ge=0, lt=1,
    )  # fmt: skip
    per: PositiveSpan = setting(
        Span(1, "updates"), "Interval over which decay is applied once.", unit="span"
    )
    restart_at: Span | None = setting(
        None,
        "Point at which the average restarts from the current weights; empty: never.",
        unit="span",
    )


class ScheduleConfig(Section):
    """Length of the run and the learning rate over it."""

    length: PositiveSpan = setting(Span(10_000, "updates"), "Length of training.", unit="span")
    kind: Literal[
        "constant", "exponential", "linear", "cosine", "cosine_restarts", "multi_step",
        "inverse_sqrt", "hold_decay", "hold_exponential",
    ] = setting("constant", "Learning-rate schedule after warm-up; only cosine_restarts increases it again.")  # fmt: skip
    warmup: Span | None = setting(
        None, "Length of the linear warm-up from 0; empty: none.", unit="span"
    )
    gamma: float = setting(0.9998, "Decay factor of the exponential schedule.", gt=0, le=1)
    per: PositiveSpan = setting(
        Span(1, "updates"), "Interval over which gamma is applied once.", unit="span"
    )
    final_ratio: float = setting(
        0.0, "Final learning rate relative to its peak, for linear, cosine, cosine_restarts and "
        "hold_decay; minimum of hold_exponential.", ge=0, le=1,
    )  # fmt: skip
    milestones: tuple[Span, ...] = setting(
        (),
        "Points at which multi_step reduces the learning rate, like '5000 updates'.",
        unit="span",
        max_length=32,
    )
    factor: float = setting(
        0.1, "Factor applied to the learning rate at each milestone of multi_step.", gt=0, le=1
    )
    cycles: int = setting(4, "Number of cosine cycles of cosine_restarts.", ge=2, le=100)
    peaks: tuple[Annotated[float, Field(gt=0, le=1)], ...] = setting(
        (),
        "Peak of each cycle of cosine_restarts relative to optimizer.lr, like [1.0, 0.75, 0.5, 0.25]; empty: "
        "all 1. Each cycle falls to final_ratio.",
        max_length=100,
    )
    hold: float = setting(
        0.8,
        "Fraction of training after warm-up at which hold_decay starts its linear decay.",
        ge=0,
        lt=1,
    )
    hold_for: Span | None = setting(
        None,
        "Length of the constant phase of hold_exponential after warm-up; empty: none.",
        unit="span",
    )
    half_life: PositiveSpan = setting(
        Span(10_000, "updates"), "Half-life of the learning rate in hold_exponential.", unit="span"
    )

    @model_validator(mode="after")
    def _steps_are_given(self) -> ScheduleConfig:
        if self.kind == "multi_step" and not self.milestones:
            raise ValueError('multi_step requires schedule.milestones, like ["5000 updates"]')
        return self

    @model_validator(mode="after")
    def _peaks_suit_cycles(self) -> ScheduleConfig:
        if not self.peaks:
            return self
        if self.kind != "cosine_restarts":
            raise ValueError(
                f"schedule.peaks are those of cosine_restarts, but schedule.kind = {self.kind!r}; remove them, "
                "or set schedule.kind = cosine_restarts"
            )
        if len(self.peaks) != self.cycles:
            raise ValueError(
                f"schedule.peaks has {len(self.peaks)} values, but schedule.cycles = {self.cycles}; give one "
                "for each cycle"
            )
        if min(self.peaks) < self.final_ratio:
            raise ValueError(
                f"schedule.peaks has {min(self.peaks):g}, which is below schedule.final_ratio = "
                f"{self.final_ratio:g}, to which every cycle falls"
            )
        return self


class PrecisionConfig(Section):
    """Number formats and the device."""

    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Training device; auto uses the GPU if one is available."
    )
    devices: int = setting(
        1,
        "Number of training processes (data parallel): one per GPU, or all on the CPU.",
        ge=1,
        le=MOST_DEVICES,
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "fp32",
        "Number format of the forward pass (autocast); auto uses bf16 where the device computes in it, "
        "else fp32.",
    )
    tf32: bool = setting(False, "Allow TF32 for fp32 matrix products (GPU only).")
    cudnn_benchmark: bool = setting(
        False, "Let cuDNN benchmark its convolution algorithms and select the fastest."
    )
    channels_last: bool = setting(
        False,
        "Use the channels-last memory format for 2-D convolutions; 1-D convolutions are unaffected.",
    )
    compile: bool = setting(
        False,
        "Compile the network (torch.compile); adds about a minute at the start, more with many shapes.",
    )
    deterministic: bool = setting(
        False, "Use deterministic kernels only, for bit-exact reproducibility (slower on a GPU)."
    )
    threads: int = setting(
        0, "Number of CPU threads of the training process; 0: all cores.", ge=0, le=1024
    )


class ValidationConfig(Section):
    """When the model is evaluated, and on what."""

    every: PositiveSpan = setting(
        Span(1_000, "updates"), "Interval between evaluations.", unit="span"
    )
    at_start: bool = setting(True, "Also evaluate after the first update.")
    segment_s: float = setting(
        10.0, "Maximum excerpt evaluated per file; chunk length for whole files.",
        unit="s", gt=0.1,
    )  # fmt: skip
    full_files: bool = setting(
        False,
        "Also evaluate whole files (si_sdr_full, val_loss_full, ...), at the end of the run and at "
        "every full_every.",
    )
    full_every: PositiveSpan | None = setting(
        None, "Interval between evaluations of whole files; empty: at the end only.", unit="span"
    )
    metrics: tuple[MeasureName, ...] = setting(
        (),
        "Perceptual metrics of whole files (pesq_full, ...), measured by other processes while training "
        "goes on; requires full_files. See the page on metrics.",
        max_length=16,
    )
    metrics_every: PositiveSpan | None = setting(
        None, "Interval between measurements of these metrics; empty: at the end only.", unit="span"
    )
    metrics_max_s: float = setting(
        1800.0,
        "Maximum audio of one such measurement: the first validation files up to this length, at least "
        "one; 0: all.",
        unit="s", ge=0, le=1e7,
    )  # fmt: skip
    metrics_workers: int = setting(
        1, "Number of processes that measure these metrics.", ge=1, le=64
    )
    batch_items: int = setting(
        8, "Batch size of the evaluation, in excerpts.", unit="items", ge=1, le=1024
    )
    max_items: int = setting(
        0, "Maximum number of excerpts per evaluation; 0: all.", unit="items", ge=0, le=1_000_000
    )
    judge: str | None = run_reference(
        None,
        "Speech recogniser that hears what the model says: a run of transducer or ctc (NAME, NAME@last, or a "
        "folder). Its character error rate is then the headline metric (judged_cer).",
    )
    judge_items: int = setting(
        32, "Number of validation texts that the judge hears, a fixed sample; 0: all.", unit="items", ge=0, le=100_000,
    )  # fmt: skip
    training_items: int = setting(
        32,
        "Maximum number of training items that each evaluation scores as well, without augmentation, so that "
        "over-fitting shows as a gap (val_loss_train beside val_loss); at most a quarter of the validation "
        "items, or 8; 0: none.",
        unit="items", ge=0, le=100_000,
    )  # fmt: skip
    overfit_after: int = setting(
        8,
        "Minimum number of evaluations over which validation has to rise by more than it varies by itself, while "
        "training items still improve, for over-fitting to be reported.",
        unit="evaluations", ge=4, le=1_000,
    )  # fmt: skip
    clips: int = setting(
        0, "Number of excerpts saved as audio clips and spectrograms at each evaluation; 0: none.",
        unit="items", ge=0, le=1_000,
    )  # fmt: skip
    spoken: int = setting(
        8, "Number of validation texts that a voice speaks freely at each evaluation; others speak nothing.",
        unit="items", ge=0, le=10_000,
    )  # fmt: skip


class CheckpointConfig(Section):
    """Which checkpoints are kept on disk."""

    every: PositiveSpan = setting(
        Span(1_000, "updates"), "Interval between `last` checkpoints.", unit="span"
    )
    keep_last: int = setting(2, "Number of `last` checkpoints to keep.", ge=1, le=100)
    best: tuple[TargetMetric, ...] = setting(
        default_targets(),
        "Metrics for which the best checkpoint is kept; metrics of other tasks are ignored. Names with "
        "_ema require ema.enabled, names with _full require validation.full_files, perceptual ones "
        "validation.metrics.",
        max_length=64,
    )


class LoggingConfig(Section):
    """What is logged during training."""

    every: PositiveSpan = setting(
        Span(1, "updates"), "Interval between logged points of the training curves.", unit="span"
    )
    flush_s: float = setting(
        0.5, "Maximum delay before a logged point is stored.", unit="s", ge=0.05, le=60
    )
    system_every_s: float = setting(
        1.0, "Interval between measurements of GPU, CPU and memory usage.", unit="s", ge=0.1, le=600
    )
    wandb: Literal["off", "offline", "online"] = setting(
        "off", "Also log curves to Weights & Biases; offline: store them locally for a later sync."
    )
    wandb_project: str = setting("sepdash", "Name of the Weights & Biases project.", min_length=1)
