"""Settings of the toy's loss."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.config.losses import PluginLoss
from models.settings import run_reference, setting


class ToyLoss(PluginLoss):
    """Cross-entropy of masked frames, and the distance to the teacher."""

    recipe: ClassVar[str] = "masked_toy"
    unit: ClassVar[str] = "nats"

    kind: Literal["masked_toy"] = setting("masked_toy", "Masked prediction.")
    teacher_share: float = setting(
        0.1, "How much of the weights the teacher takes each update.", gt=0, le=1
    )
    codebook_from: str | None = run_reference(
        None, "The run whose codebook is the first one here.", only_at_start=True
    )
