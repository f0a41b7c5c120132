"""The settings of the data: those of audio without texts, read from tar files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from engine.config.unlabelled import UnlabelledData
from models.settings import setting


class TarShards(UnlabelledData):
    """Recordings in tar files; recipes, cutting, joining and cropping are those of `unlabelled`."""

    handler: ClassVar[str] = "tar_shards.data_kind:KIND"

    # Every kind has a name of its own, so this one replaces `unlabelled`.
    kind: Literal["tar_shards"] = setting(  # type: ignore[assignment]
        "tar_shards", "Audio in tar shards, as of WebDataset, for self-supervised pre-training."
    )
    train: Path = setting(
        ..., "Training audio: a folder of .tar files, or one of them.", unit="path"
    )
    valid: Path = setting(
        ..., "Validation audio: a folder of .tar files, or one of them.", unit="path"
    )
