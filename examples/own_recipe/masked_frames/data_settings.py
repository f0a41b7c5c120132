"""The settings of the data: folders of audio, as the built-in kinds have them."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.config.data import AudioData
from models.settings import setting


class FramesData(AudioData):
    """Segments of audio files, without any target."""

    recipes: ClassVar[frozenset[str]] = frozenset({"masked_frames"})
    default_loss: ClassVar[str] = "masked_frames"
    whole_files: ClassVar[bool] = False
    keeps_clips: ClassVar[bool] = False
    handler: ClassVar[str] = "masked_frames.data_kind:KIND"

    kind: Literal["frames"] = setting("frames", "Audio files for self-supervised training.")
    rate_hz: int = setting(16_000, "Sampling rate of the model.", unit="Hz", ge=4_000, le=48_000)
    short_files: Literal["pad"] = setting("pad", "Files shorter than a segment are padded.")

    @property
    def source_names(self) -> tuple[str, ...]:
        """None: nothing is separated."""
        return ()
