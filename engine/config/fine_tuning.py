"""Settings of fine-tuning: what of a pre-trained encoder is trained, from when on, and how fast."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from engine.config.data_settings import DataSettings
from engine.config.span import PositiveSpan
from models.base.settings import Section, setting
from models.speech_configs import TunedEncoder


class FineTuningConfig(Section):
    """Which parts of a waveform encoder are trained; everything is, unless it says otherwise."""

    freeze_extractor: bool = setting(
        False, "Keep the convolutions of the encoder as they are at the start of the run."
    )
    thaw_extractor_at: PositiveSpan | None = setting(
        None,
        "Point from which frozen convolutions are trained as well; empty: never.",
        unit="span",
    )
    freeze_encoder_until: PositiveSpan | None = setting(
        None,
        "Point up to which only what follows the encoder is trained; empty: the encoder is trained from "
        "the start.",
        unit="span",
    )
    layer_lr_decay: float = setting(
        1.0,
        "Learning rate of each encoder layer relative to the layer above it; 1: the same for all.",
        gt=0,
        le=1,
    )

    @property
    def is_used(self) -> bool:
        """Whether any setting changes anything."""
        return self != FineTuningConfig()

    @model_validator(mode="after")
    def _only_what_is_frozen_thaws(self) -> Self:
        if self.thaw_extractor_at is not None and not self.freeze_extractor:
            raise ValueError(
                "thaw_extractor_at requires freeze_extractor = true; set it, or set thaw_extractor_at to "
                "none"
            )
        return self


def tuning_misfit(tuning: FineTuningConfig, model: object, *, kind: str, data: DataSettings) -> str:
    """Return why a model can't be trained this way on such data; empty if it can."""
    if (
        isinstance(model, TunedEncoder)
        and model.extractor_norm == "layer_norm"
        and not getattr(data, "normalize_waveform", True)
    ):
        return (
            "model.extractor_norm = 'layer_norm' leaves the level of a recording in its frames, so it is "
            "trained on waveforms of unit variance; set data.normalize_waveform = true, or "
            "model.extractor_norm = 'group_norm'"
        )
    if tuning.is_used and not isinstance(model, TunedEncoder):
        return (
            f"fine_tuning is for encoders of waveforms, but model.kind = {kind!r} has none; remove the "
            "section, or set model.kind to ctc_encoder or waveform_rnnt"
        )
    return ""
