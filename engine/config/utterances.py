"""Settings of utterances with texts, whatever is learnt of them: recognition or speech."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import model_validator

from engine.config.text_data import TextData
from models.base.settings import setting


class UtteranceData(TextData):
    """What every kind of data of utterances has in common; items are whole utterances.

    Attributes:
        limits_validation: whether validation keeps to `min_s` and `max_s`, too.
    """

    limits_validation: ClassVar[bool] = False

    train: Path = setting(
        ..., "Training utterances: a manifest (.jsonl) or a LibriSpeech folder.", unit="path"
    )
    valid: Path = setting(
        ..., "Validation utterances: a manifest (.jsonl) or a LibriSpeech folder.", unit="path"
    )
    rate_hz: int = setting(
        16_000, "Sampling rate of the model; other files are resampled.", unit="Hz",
        ge=4_000, le=48_000,
    )  # fmt: skip
    min_s: float = setting(
        0.3,
        "Minimum duration of a training utterance; shorter ones are skipped and counted.",
        unit="s",
        ge=0.05,
        le=3_600,
    )
    max_s: float = setting(
        20.0, "Maximum duration of a training utterance; longer ones are skipped and counted.",
        unit="s", gt=0.05, le=3_600,
    )  # fmt: skip
    share: float = setting(
        1.0,
        "Fraction of the training utterances that are used, for low-resource experiments; a smaller one is "
        "part of a larger one. Set data.vocabulary as well, so that it is the same for all.",
        gt=0,
        le=1,
    )
    share_seed: int = setting(0, "Random seed of the selection by data.share.", ge=0, le=2**31 - 1)

    @property
    def segment_samples(self) -> int:
        """Length of the longest training item, in audio samples."""
        return round(self.max_s * self.rate_hz)

    def validates(self, duration_s: float) -> bool:
        """Return whether a validation item may be so long."""
        return not self.limits_validation or self.min_s <= duration_s <= self.max_s

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.min_s >= self.max_s:
            raise ValueError(f"min_s = {self.min_s} must be below max_s = {self.max_s}")
        return self
