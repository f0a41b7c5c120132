"""Settings of the objective of data2vec 2.0."""

from __future__ import annotations

from math import inf, log
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from engine.config.data_settings import DataSettings
from engine.config.loss_settings import LossSettings
from engine.config.span import PositiveSpan, Span
from models.base.settings import setting
from models.configs import ModelConfig
from models.self_supervised.data2vec2_settings import Data2Vec2Config


class Data2Vec2Loss(LossSettings):
    """Distance of predicted masked frames to those of a teacher, the average of the student (Baevski et al., 2023)."""

    recipe: ClassVar[str] = "data2vec2"

    kind: Literal["data2vec2"] = setting(
        "data2vec2", "data2vec 2.0: masked frames are predicted as an averaged teacher sees them."
    )
    clones: int = setting(
        8, "Number of masks of each item; its targets are computed once for all of them.",
        unit="masks", ge=1, le=64,
    )  # fmt: skip
    mask_prob: float = setting(
        0.5, "Fraction of the frames that are masked, exact to one frame.", gt=0, lt=1
    )
    mask_prob_adjust: float = setting(
        0.05,
        "Added to mask_prob for the number of blocks drawn, since blocks overlap.",
        ge=0,
        lt=1,
    )
    mask_length: int = setting(5, "Length of a masked block.", unit="frames", ge=1, le=512)
    inverse_mask: bool = setting(
        False,
        "Draw the blocks that are kept instead of those that are masked (the published configs for "
        "images do, those for audio do not).",
    )
    average_layers: int = setting(
        8,
        "Number of last layers of the teacher whose feed-forward outputs are averaged into the target.",
        unit="layers", ge=1, le=96,
    )  # fmt: skip
    smooth_beta: float = setting(
        0.0, "Distance below which the loss is quadratic and above it linear (smooth L1); 0: always quadratic.",
        ge=0, le=100,
    )  # fmt: skip
    teacher_decay: float = setting(
        0.999,
        "Decay of the teacher per update at the start: its half-life is 693 updates at 0.999, 69 at 0.99.",
        ge=0, lt=1,
    )  # fmt: skip
    teacher_end_decay: float = setting(
        0.99999,
        "Decay of the teacher after teacher_anneal, linear in between; 1 freezes it. Its half-life should "
        "stay well below the length of the run: 693 updates at 0.999, 6931 at 0.9999.",
        ge=0, le=1,
    )  # fmt: skip
    teacher_anneal: PositiveSpan = setting(
        Span(75_000, "updates"),
        "Span over which the decay of the teacher goes from its start to its end value.",
        unit="span",
    )
    guard_after: int = setting(
        5_000, "Number of updates after which a collapse ends the run.", unit="updates", ge=0
    )
    min_target_var: float = setting(
        0.1, "Deviation of the targets below which the run has collapsed; 0: no limit.", ge=0, le=10
    )
    min_prediction_var: float = setting(
        0.01, "Deviation of the predictions below which the run has collapsed; 0: no limit.",
        ge=0, le=10,
    )  # fmt: skip
    min_feature_var: float = setting(
        0.02,
        "Deviation of local features between utterances below which the feature extractor has collapsed; "
        "0: no limit.",
        ge=0, le=10,
    )  # fmt: skip

    @model_validator(mode="after")
    def _blocks_fit(self) -> Self:
        drawn = (
            1 - self.mask_prob if self.inverse_mask else self.mask_prob
        ) + self.mask_prob_adjust
        if drawn > 1:
            raise ValueError(
                f"mask_prob_adjust = {self.mask_prob_adjust:g} is too large: blocks would be drawn for "
                f"{drawn:g} of the frames, and 1 is all of them"
            )
        if self.teacher_end_decay < self.teacher_decay:
            raise ValueError(
                f"teacher_end_decay = {self.teacher_end_decay:g} must not be below teacher_decay = "
                f"{self.teacher_decay:g}"
            )
        return self

    def misfit(self, data: DataSettings, model: ModelConfig) -> str:
        """Return what is asked of layers that the model does not have."""
        layers = getattr(model, "layers", self.average_layers)
        if self.average_layers > layers:
            return (
                f"loss.average_layers = {self.average_layers}, but the model has only model.layers = "
                f"{layers} whose outputs can be averaged; lower it to at most {layers}"
            )
        samples = data.shortest_samples
        if samples and isinstance(model, Data2Vec2Config) and model.frames_of(samples) < 2:
            least = (model.receptive_field + 2 * model.hop) / data.rate_hz
            return (
                f"data.min_s allows utterances of {samples / data.rate_hz:g} s, which is less than two frames: "
                f"none could be masked and another kept; raise it to at least {least:.3g}"
            )
        return ""

    def decay_at(self, progress: float) -> float:
        """Return the decay after a share of `teacher_anneal`, 0 or more."""
        share = min(1.0, progress)
        return self.teacher_end_decay + (self.teacher_decay - self.teacher_end_decay) * (1 - share)


def half_life(decay: float) -> float:
    """Return after how many updates half of an average is new; infinite for a decay of 1."""
    if decay >= 1:
        return inf
    return log(0.5) / log(decay) if decay > 0 else 0.0
