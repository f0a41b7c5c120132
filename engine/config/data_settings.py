"""What the settings of every kind of data have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import field_validator

from models.base.settings import Section, setting
from models.user_paths import expanded


class DataSettings(Section):
    """Settings of a kind of data; how it is checked and read is declared in `engine.data.kinds`.

    A subclass declares `kind` as a literal with a default. One that an installed package provides
    (entry point group `sepdash.data`) names its entry of that table in `handler`.

    Attributes:
        recipes: names of the recipes that can train on it.
        default_loss: the kind of the loss where `[loss]` names none.
        has_segments: whether training items are cut from files, rather than as long as they are.
        whole_files: whether whole validation files can be evaluated beside excerpts of them.
        keeps_clips: whether an evaluation has audio that can be kept and listened to.
        instead_of_clips: what to do where it has none.
        handler: `"package.module:name"` of a `engine.data.kinds.DataKind`; empty for built-in kinds.
    """

    recipes: ClassVar[frozenset[str]] = frozenset()
    default_loss: ClassVar[str] = ""
    has_segments: ClassVar[bool] = False
    whole_files: ClassVar[bool] = False
    keeps_clips: ClassVar[bool] = False
    instead_of_clips: ClassVar[str] = ""
    handler: ClassVar[str] = ""

    kind: str
    train: Path = setting(..., "Training data: a folder or a file.", unit="path")
    valid: Path = setting(..., "Validation data: a folder or a file.", unit="path")
    rate_hz: int = setting(16_000, "Sampling rate of the model.", unit="Hz", ge=4_000, le=192_000)

    @field_validator("*", mode="after")
    @classmethod
    def _expanded(cls, value: Any) -> Any:
        """Return a path as everything that reads it finds it: `~` is a home folder."""
        return expanded(value) if isinstance(value, Path) else value

    @property
    def segment_samples(self) -> int:
        """Length of the longest training item, in audio samples."""
        raise NotImplementedError

    @property
    def shortest_samples(self) -> int:
        """Length of the shortest training item, as it is cut for a batch, in audio samples; 0: not known."""
        return 0

    @property
    def items_differ(self) -> bool:
        """Whether training items have different lengths, which batches are planned by."""
        return not self.has_segments

    @property
    def crop_s(self) -> float:
        """Seconds to whose multiples the items of a batch are cut; 0.0: they are padded instead."""
        return 0.0

    def validates(self, duration_s: float) -> bool:
        """Return whether a validation item may be so long."""
        return True

    @property
    def folders(self) -> tuple[tuple[Path, str], ...]:
        """What is read, each with the setting that names it; a path may be named twice."""
        return (self.train, "data.train"), (self.valid, "data.valid")

    @property
    def splits_by_name(self) -> bool:
        """Whether names of files, not folders, say what is for training and what for validation."""
        return False
