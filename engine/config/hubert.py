"""Settings of the objective of HuBERT: masked prediction of clusters."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from engine.config.loss_settings import LossSettings
from engine.config.targets import TargetSettings
from models.base.settings import setting
from models.configs import ModelConfig


class HubertLoss(LossSettings, TargetSettings):
    """Cross-entropy of the cluster of each frame, masked and not, and a penalty on local features."""

    recipe: ClassVar[str] = "hubert"
    unit: ClassVar[str] = "nats"

    kind: Literal["hubert"] = setting("hubert", "HuBERT: the clusters of masked frames.")
    masked_weight: float = setting(
        1.0, "Weight of the cross-entropy of masked frames.", ge=0, le=100
    )
    unmasked_weight: float = setting(
        0.0,
        "Weight of the cross-entropy of frames that are not masked. Values above 0 hurt BASE in early "
        "iterations; 0.1 with normalize = separate helped LARGE slightly.",
        ge=0,
        le=100,
    )
    normalize: Literal["masked", "sequence", "separate"] = setting(
        "masked",
        "What the cross-entropies of an update are divided by: both by its masked frames (torchaudio), "
        "both by all frames with a weight (fairseq), or separately, each by its own frames.",
    )
    penalty: float = setting(
        10.0,
        "Weight of the mean square of local features. Its effect on the feature extractor is this "
        "times model.feature_grad_scale: 1 in BASE, 10 in LARGE.",
        ge=0,
        le=10_000,
    )
    penalty_frames: Literal["all", "weighted"] = setting(
        "all",
        "Frames of the penalty: all, or those whose cross-entropy has a weight above 0.",
    )
    mask_prob: float = setting(
        0.8,
        "Fraction of the frames in masked spans if these did not overlap; with overlaps, 0.8 masks "
        "about 55 % of the frames of long items.",
        gt=0,
        le=1,
    )
    mask_length: int = setting(
        10, "Length of a masked span; 4 to 6 for items of 2 s.", unit="frames", ge=1, le=500
    )
    min_masks: int = setting(2, "Minimum number of masked spans per item.", ge=1, le=100)

    @model_validator(mode="after")
    def _something_is_predicted(self) -> Self:
        if not (self.masked_weight or self.unmasked_weight):
            raise ValueError(
                "masked_weight and unmasked_weight are both 0, so no cluster would be learnt; set "
                "masked_weight = 1.0"
            )
        return self

    def effect_on(self, model: ModelConfig) -> str:
        """Return the scale by which the penalty acts on the feature extractor."""
        scale = getattr(model, "feature_grad_scale", 1.0)
        return (
            f"feature penalty: loss.penalty = {self.penalty:g} x model.feature_grad_scale = {scale:g}: "
            f"effective scale {self.penalty * scale:g} on the feature extractor"
        )
