"""Settings of the toy's data. Each part is declared in a module of its own, free of torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.config.data_settings import DataSettings
from models.settings import setting

NUM_ITEMS = {"train": 40, "valid": 6}


class ToyData(DataSettings):
    """Frames that are made up; the folders are there and empty."""

    recipes: ClassVar[frozenset[str]] = frozenset({"masked_toy"})
    default_loss: ClassVar[str] = "masked_toy"
    has_segments: ClassVar[bool] = True
    handler: ClassVar[str] = "masked_toy.kind:KIND"

    kind: Literal["masked_toy"] = setting("masked_toy", "Made-up frames.")

    @property
    def segment_samples(self) -> int:
        return self.rate_hz
