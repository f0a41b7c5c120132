"""Settings of the losses of self-supervised pre-training."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from engine.config.hubert import HubertLoss
from engine.config.loss_settings import LossSettings
from models.base.settings import setting


class Wav2Vec2Loss(LossSettings):
    """wav2vec 2.0 (Baevski et al., 2020): contrastive loss over codes, diversity loss, feature penalty."""

    recipe: ClassVar[str] = "wav2vec2"
    unit: ClassVar[str] = "nats"

    kind: Literal["wav2vec2"] = setting(
        "wav2vec2",
        "wav2vec 2.0: tell the code of a masked frame from those of other masked frames.",
    )
    mask_prob: float = setting(
        0.65,
        "Expected share of masked frames if spans never overlapped; overlaps make it smaller.",
        gt=0,
        le=1,
    )
    mask_length: int = setting(10, "Length of a masked span.", unit="frames", ge=1, le=1_000)
    min_masks: int = setting(2, "Minimum number of masked spans per item.", ge=1, le=100)
    distractors: int = setting(
        100,
        "Number of distractors of each masked frame, drawn from the other masked frames of its item.",
        ge=1,
        le=1_000,
    )
    logit_temperature: float = setting(
        0.1, "Divisor of the cosine similarities that are compared.", gt=0, le=10
    )
    diversity_weight: float = setting(
        0.1, "Weight of the diversity loss, over the codes of the whole update.", ge=0, le=100
    )
    penalty: float = setting(
        10.0,
        "Weight of the mean square of the convolutional features; their gradient is also multiplied by "
        "model.feature_grad_scale.",
        ge=0,
        le=1_000,
    )
    gumbel_start: float = setting(2.0, "Gumbel-softmax temperature at the start.", gt=0, le=100)
    gumbel_end: float = setting(0.5, "Lowest Gumbel-softmax temperature.", gt=0, le=100)
    gumbel_decay: float | None = setting(
        None,
        "Factor on the Gumbel-softmax temperature per update (0.999995 as published for 400,000 updates); "
        "empty: fall to gumbel_end within gumbel_share of the run.",
        gt=0,
        le=1,
    )
    gumbel_share: float = setting(
        0.7,
        "Fraction of the run after which gumbel_end is reached, where gumbel_decay is empty.",
        gt=0,
        le=1,
    )

    @model_validator(mode="after")
    def _temperature_falls(self) -> Self:
        if self.gumbel_end > self.gumbel_start:
            raise ValueError(
                f"gumbel_end = {self.gumbel_end:g} must be at most gumbel_start = {self.gumbel_start:g}"
            )
        return self


SelfSupervisedLoss = HubertLoss | Wav2Vec2Loss
