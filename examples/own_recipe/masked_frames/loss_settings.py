"""The settings of the loss. A loss belongs to one recipe, and so chooses how a run is trained."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.config.losses import PluginLoss
from models.settings import setting


class MaskedFramesLoss(PluginLoss):
    """Mean squared error of the hidden frames."""

    recipe: ClassVar[str] = "masked_frames"

    kind: Literal["masked_frames"] = setting(
        "masked_frames", "Mean squared error of hidden frames."
    )
    hidden_share: float = setting(0.5, "Fraction of the frames that are hidden.", gt=0, lt=1)
    norm_rate: float = setting(
        0.1, "How far mean and variance of the bands move in each update.", gt=0, le=1
    )
