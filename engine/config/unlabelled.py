"""Settings of audio without texts, for self-supervised pre-training and codecs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from engine.config.data_settings import DataSettings
from models.base.settings import setting

# Crops begin and end on this grid, which is that of the encoders' frames: 320 samples at 16 kHz.
_GRID_S = 0.02


class UnlabelledData(DataSettings):
    """Audio without texts: a folder, or a manifest whose texts, if any, are ignored."""

    recipes: ClassVar[frozenset[str]] = frozenset({"hubert", "wav2vec2", "data2vec2", "codec"})
    default_loss: ClassVar[str] = "hubert"
    instead_of_clips: ClassVar[str] = "judge the features with `sepdash probe RUN`"

    kind: Literal["unlabelled"] = setting(
        "unlabelled", "Audio without texts, for self-supervised pre-training and codecs."
    )
    train: Path = setting(
        ...,
        "Training audio: a folder (subfolders included) or a manifest (.jsonl, or .tsv as of fairseq).",
        unit="path",
    )
    valid: Path = setting(
        ...,
        "Validation audio: a folder (subfolders included) or a manifest (.jsonl, or .tsv as of fairseq).",
        unit="path",
    )
    rate_hz: int = setting(
        16_000, "Sampling rate of the model; other files are resampled.", unit="Hz",
        ge=4_000, le=48_000,
    )  # fmt: skip
    min_s: float = setting(
        2.0, "Minimum duration of an utterance; shorter ones are skipped and counted.",
        unit="s", ge=0.05, le=3_600,
    )  # fmt: skip
    max_s: float = setting(
        15.6, "Maximum duration of an item; longer utterances are cut into equal pieces.",
        unit="s", gt=0.1, le=3_600,
    )  # fmt: skip
    join_s: float = setting(
        0.0, "Join utterances shorter than this with others of their folder to items of at least "
        "this duration, so that a folder of single words can be trained on; 0: off.",
        unit="s", ge=0, le=1_800,
    )  # fmt: skip
    normalize_waveform: bool = setting(
        False, "Normalise each item to zero mean and unit variance, before it is cropped or padded."
    )
    fit: Literal["crop", "pad"] = setting(
        "crop",
        "Items of unequal length in an update: crop all to the shortest, at random places (an "
        "encoder with group norm requires it), or pad with zeros.",
    )

    probe: Path | None = setting(
        None, "Labelled recordings that every evaluation probes frozen features with: a manifest with "
        "speaker and text or words, or a folder of <speaker>/<label>_<take>.<extension>; empty: no "
        "probe, and no headline metric.", unit="path",
    )  # fmt: skip

    @property
    def segment_samples(self) -> int:
        """Length of the longest training item, in audio samples."""
        return round(self.max_s * self.rate_hz)

    @property
    def shortest_samples(self) -> int:
        """Length of the shortest training item, in whole hops."""
        return round(self.min_s * self.rate_hz) // self.hop * self.hop

    @property
    def hop(self) -> int:
        """Samples between two places where a crop may begin or end."""
        return round(_GRID_S * self.rate_hz)

    @property
    def crop_s(self) -> float:
        """The same in seconds; 0.0 where items are padded."""
        return self.hop / self.rate_hz if self.fit == "crop" else 0.0

    @model_validator(mode="after")
    def _durations_are_ordered(self) -> UnlabelledData:
        if self.min_s > self.max_s / 2:
            raise ValueError(
                f"min_s = {self.min_s:g} must be at most half of max_s = {self.max_s:g}, so that the "
                "pieces of a long utterance are long enough"
            )
        if 0 < self.join_s < self.min_s:
            raise ValueError(
                f"join_s = {self.join_s:g} must be 0 or at least min_s = {self.min_s:g}; shorter items "
                "would be skipped again"
            )
        if self.join_s > self.max_s / 2:
            raise ValueError(
                f"join_s = {self.join_s:g} must be at most half of max_s = {self.max_s:g}, so that "
                "joined items don't exceed it"
            )
        return self
