"""`RunConfig`: everything that defines a run, checked as a whole.

Owns the assembly of the sections, the rules that span several of them, and the fingerprint.
Presets, overrides and problem reports live beside it in this package.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import model_validator

from engine.config.batch import BatchConfig
from engine.config.counters import UpdateSize
from engine.config.data import AudioData
from engine.config.fine_tuning import FineTuningConfig, tuning_misfit
from engine.config.kinds import AnyData, AnyLoss, AnyModel, misfit
from engine.config.losses import SpectralLoss
from engine.config.lr_scale import scale_problem
from engine.config.sections import (
    CheckpointConfig,
    EmaConfig,
    LoggingConfig,
    OptimizerConfig,
    PrecisionConfig,
    ScheduleConfig,
    ValidationConfig,
)
from engine.config.stop_when import StopConfig, missing_setting, stop_metric, stop_misfits
from engine.metrics.measures import rate_problem
from engine.metrics.registry import metric_of
from models.base.settings import Section, run_reference, setting
from models.configs import AudioUNetConfig


class RunConfig(Section):
    """The complete config of one training run: equal configs and inputs give equal runs."""

    data: AnyData = setting(..., "Dataset and task.")
    model: AnyModel = setting(AudioUNetConfig(), "Network.")
    batch: BatchConfig = setting(BatchConfig(), "Batch sizes and data loading.")
    loss: AnyLoss = setting(SpectralLoss(), "Training loss.")
    optimizer: OptimizerConfig = setting(OptimizerConfig(), "Optimizer.")
    fine_tuning: FineTuningConfig = setting(FineTuningConfig(), "Fine-tuning of an encoder.")
    schedule: ScheduleConfig = setting(ScheduleConfig(), "Training length and learning rate.")
    ema: EmaConfig = setting(EmaConfig(), "Exponential moving average of the weights.")
    precision: PrecisionConfig = setting(PrecisionConfig(), "Number formats and device.")
    validation: ValidationConfig = setting(ValidationConfig(), "Evaluation.")
    stop_when: StopConfig = setting(StopConfig(), "Early stopping.")
    checkpoint: CheckpointConfig = setting(CheckpointConfig(), "Checkpoints.")
    logging: LoggingConfig = setting(LoggingConfig(), "Logging.")
    init_from: str | None = run_reference(
        None,
        "Start from the trained weights of another run: NAME for its best checkpoint, NAME@last, "
        "NAME@si_sdr, or a folder. Only the weights are loaded.",
        only_at_start=True,
    )
    init_strict: bool = setting(
        True,
        "Require all weights to match the model in name and shape; false loads the matching ones and "
        "logs the others.",
    )
    codec: str | None = run_reference(
        None,
        "Trained codec that a voice speaks by: a run of the recipe codec (NAME, NAME@last, NAME@mel_distance, or "
        "a folder), or a voice run, whose codec is taken. Empty: that of init_from.",
        only_at_start=True,
    )
    seed: int = setting(0, "Random seed of the whole run.", ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _data_suit_model(self) -> RunConfig:
        if problem := misfit(self.data, self.model, loss=self.loss):
            raise ValueError(problem)
        low, high = self.model.rates_hz
        if not low <= self.data.rate_hz <= high:
            raise ValueError(
                f"data.rate_hz = {self.data.rate_hz}, but the model {self.model.kind!r} "
                f"supports {low} to {high} Hz"
            )
        return self

    @model_validator(mode="after")
    def _model_can_be_tuned(self) -> RunConfig:
        if problem := tuning_misfit(
            self.fine_tuning, self.model, kind=self.model.kind, data=self.data
        ):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _codec_is_of_use(self) -> RunConfig:
        if self.loss.uses_codec and self.codec is None and self.init_from is None:
            raise ValueError(
                "codec names no run, and this run learns the codes of a trained codec; set codec to a run of the "
                "recipe codec (`sepdash enqueue codec/small` trains one), or init_from to a run that has one"
            )
        if self.codec is not None and not self.loss.uses_codec:
            raise ValueError(
                f"codec = {self.codec!r}, but loss.kind = {self.loss.kind!r} uses no codec; remove this setting"
            )
        return self

    @model_validator(mode="after")
    def _rates_are_of_groups(self) -> RunConfig:
        groups = self.model.parameter_groups
        if problem := scale_problem(self.optimizer.lr_scale, groups, kind=self.model.kind):
            raise ValueError(problem)
        return self

    @model_validator(mode="after")
    def _validation_suits_data(self) -> RunConfig:
        validation = self.validation
        if validation.full_files and not self.data.whole_files:
            raise ValueError(
                f"validation.full_files = true, but data.kind = {self.data.kind!r} is always evaluated "
                "on whole files; remove this setting"
            )
        if validation.clips and not (self.data.keeps_clips or self.loss.gives_audio):
            instead = self.data.instead_of_clips
            raise ValueError(
                f"validation.clips = {validation.clips}, but data.kind = {self.data.kind!r} produces no "
                f"audio; remove this setting{f', and {instead}' if instead else ''}"
            )
        if validation.judge is not None and not self.loss.speaks:
            raise ValueError(
                f"validation.judge = {validation.judge!r}, but loss.kind = {self.loss.kind!r} makes no speech for "
                "it to hear; remove this setting"
            )
        if validation.full_every is not None and not validation.full_files:
            raise ValueError(
                f"validation.full_every = {str(validation.full_every)!r}, but validation.full_files = "
                "false: no whole files would be evaluated; set it to true, or set full_every to none"
            )
        return self

    @model_validator(mode="after")
    def _stop_rules_suit_run(self) -> RunConfig:
        if lines := "; ".join(stop_misfits(self)):
            raise ValueError(lines)
        name = stop_metric(self)
        if self.stop_when.is_active and (why := missing_setting(name, self)):
            raise ValueError(f"stop_when reads the metric {name!r}: {why}, or stop_when.metric")
        return self

    @model_validator(mode="after")
    def _metrics_can_be_measured(self) -> RunConfig:
        validation = self.validation
        asked = validation.metrics
        if asked and not self.data.whole_files:
            raise ValueError(
                f"validation.metrics = {list(asked)}, but data.kind = {self.data.kind!r} produces no audio to "
                "measure; remove this setting"
            )
        if asked and not validation.full_files:
            raise ValueError(
                f"validation.metrics = {list(asked)} are measured on whole files, but validation.full_files = "
                "false; set it to true"
            )
        if validation.metrics_every is not None and not asked:
            raise ValueError(
                f"validation.metrics_every = {str(validation.metrics_every)!r}, but validation.metrics is "
                "empty; name the metrics, or set metrics_every to none"
            )
        if problem := rate_problem(asked, self.data.rate_hz):
            raise ValueError(problem)
        for name in self.checkpoint.best:
            measure = metric_of(name).measure
            if measure and measure not in asked:
                raise ValueError(
                    f"checkpoint.best has {name!r}, which is not measured: add {measure!r} to "
                    "validation.metrics"
                )
        return self

    @model_validator(mode="after")
    def _every_process_has_items(self) -> RunConfig:
        batch, devices = self.batch, self.precision.devices
        if batch.mode == "exact" and batch.seconds is None and batch.items < devices:
            raise ValueError(
                f"precision.devices = {devices}, but batch.items = {batch.items}: some processes would "
                "never receive an item; raise batch.items or lower precision.devices"
            )
        return self

    @property
    def recipe(self) -> str:
        """Name of the recipe that trains this run: that of its loss."""
        return self.loss.recipe

    @property
    def audio_data(self) -> AudioData:
        """The data of a separation run: segments of audio."""
        assert isinstance(self.data, AudioData), f"{self.data.kind!r} has no segments"
        return self.data

    @property
    def num_sources(self) -> int:
        """Number of output signals of the model."""
        return len(self.audio_data.source_names)

    @property
    def segment_s(self) -> float:
        """Audio seconds of one training item, of the longest one where they differ."""
        return self.data.segment_samples / self.data.rate_hz

    @property
    def update_size(self) -> UpdateSize:
        """What one update adds to each counter; `engine.data.update_size` computes it for items of different lengths."""
        items = self.batch.items
        return UpdateSize(
            -(-items // self.batch.micro_batch), items, audio_seconds=items * self.segment_s
        )

    def to_json(self) -> str:
        """Return the canonical JSON text: sorted keys, no spaces, every field."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that name this config (SHA-256 of `to_json`)."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as a preset would hold them."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values


def thawed(config: RunConfig) -> RunConfig:
    """Return a run as it is once everything is trained that ever is: its updates take the most memory."""
    tuning = config.fine_tuning
    later: dict[str, Any] = {"freeze_encoder_until": None, "thaw_extractor_at": None}
    if tuning.thaw_extractor_at is not None:
        later["freeze_extractor"] = False
    return config.model_copy(update={"fine_tuning": tuning.model_copy(update=later)})
