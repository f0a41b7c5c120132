"""Settings of speech recognition: the utterances, their tokens, their features."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from engine.config.text_data import TextData
from models.settings import setting


class SpeechData(TextData):
    """Speech recognition: utterances with transcripts, as log-mel frames (25 ms every 10 ms) or samples."""

    recipes: ClassVar[frozenset[str]] = frozenset({"transducer", "ctc"})
    default_loss: ClassVar[str] = "rnnt"
    instead_of_clips: ClassVar[str] = "view transcripts with `sepdash transcribe RUN FILE`"

    kind: Literal["speech"] = setting("speech", "Speech recognition: utterances with transcripts.")
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

    normalize_waveform: bool = setting(
        False,
        "Normalise each utterance to zero mean and unit variance, for models that read the waveform; as "
        "in their pre-training.",
    )
    # From here on: for models on log-mel frames.
    num_mels: int = setting(80, "Number of mel bands.", unit="bands", ge=8, le=256)
    cmvn: bool = setting(
        True,
        "Normalise each mel band to zero mean and unit variance, measured on the training audio.",
    )
    time_masks: int = setting(
        2, "SpecAugment: number of time masks per training item; 0: none.", ge=0, le=100
    )
    time_mask_frames: int = setting(
        50, "SpecAugment: maximum length of a time mask.", unit="frames", ge=1, le=1_000
    )
    time_mask_share: float = setting(
        0.2, "SpecAugment: maximum length of a time mask, as a fraction of the item.", gt=0, le=1
    )
    freq_masks: int = setting(
        2, "SpecAugment: number of frequency masks per training item; 0: none.", ge=0, le=100
    )
    freq_mask_mels: int = setting(
        27, "SpecAugment: maximum width of a frequency mask.", unit="bands", ge=1, le=256
    )

    @property
    def segment_samples(self) -> int:
        """Length of the longest training item, in audio samples."""
        return round(self.max_s * self.rate_hz)

    @model_validator(mode="after")
    def _range_is_ordered(self) -> SpeechData:
        if self.min_s >= self.max_s:
            raise ValueError(f"min_s = {self.min_s} must be below max_s = {self.max_s}")
        return self

    @model_validator(mode="after")
    def _masks_leave_something(self) -> SpeechData:
        if self.freq_masks and self.freq_mask_mels >= self.num_mels:
            raise ValueError(
                f"freq_mask_mels = {self.freq_mask_mels} can mask all of num_mels = {self.num_mels}; "
                "use a narrower mask, or set freq_masks = 0"
            )
        return self
