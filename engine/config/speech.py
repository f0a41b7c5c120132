"""Settings of speech recognition: the utterances, their tokens, their features."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from engine.config.utterances import UtteranceData
from models.base.settings import setting


class SpeechData(UtteranceData):
    """Speech recognition: utterances with transcripts, as log-mel frames (25 ms every 10 ms) or samples."""

    recipes: ClassVar[frozenset[str]] = frozenset({"transducer", "ctc"})
    default_loss: ClassVar[str] = "rnnt"
    instead_of_clips: ClassVar[str] = "view transcripts with `sepdash transcribe RUN FILE`"

    kind: Literal["speech"] = setting("speech", "Speech recognition: utterances with transcripts.")
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

    @model_validator(mode="after")
    def _masks_leave_something(self) -> SpeechData:
        if self.freq_masks and self.freq_mask_mels >= self.num_mels:
            raise ValueError(
                f"freq_mask_mels = {self.freq_mask_mels} can mask all of num_mels = {self.num_mels}; "
                "use a narrower mask, or set freq_masks = 0"
            )
        return self
