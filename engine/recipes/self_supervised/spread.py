"""How much targets, predictions and local features vary: what tells a collapse from a falling loss.

Deviations over a whole update follow from sums, which add up over micro-batches and ranks. Those of
targets and predictions are over all masked frames (fairseq's `target_var` and `pred_var`). They miss a
collapsed feature extractor, since the position of a frame still tells frames apart (fairseq#5239), so
local features are compared between items at the same place in time.

Letters: B batch, L frames, N masks of all items, Q masked frames, D channels, P places.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from engine.config.data2vec2 import Data2Vec2Loss
from engine.recipes.base import CurvePoints, Finding

NUM_PLACES = 16
COLLAPSE_UPDATES = 20
VARIANCES = ("target_var", "prediction_var", "feature_var")
_EPS = 1e-6


def spread_shapes(dim: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the sums, by name."""
    frames = {
        f"{of}_{what}": (dim,) for of in ("target", "prediction") for what in ("sum", "square")
    }
    places = {f"feature_{what}": (NUM_PLACES, dim) for what in ("sum", "square")}
    return {**frames, "frame_count": (), **places, "feature_count": (NUM_PLACES,)}


@torch.no_grad()
def frame_sums(pred_NQD: Tensor, target_NQD: Tensor, *, used_NQ: Tensor) -> dict[str, Tensor]:
    """Return the sums of targets and predictions over masked frames; `used_NQ` says which are some."""
    used_NQ1 = used_NQ[..., None]
    sums: dict[str, Tensor] = {"frame_count": used_NQ.sum().float()}
    for of, x_NQD in (("target", target_NQD), ("prediction", pred_NQD)):
        x_NQD = x_NQD.float() * used_NQ1
        sums[f"{of}_sum"] = x_NQD.sum(dim=(0, 1))
        sums[f"{of}_square"] = x_NQD.square().sum(dim=(0, 1))
    return sums


@torch.no_grad()
def feature_sums(local_BLD: Tensor, valid_BL: Tensor | None, *, step: int) -> dict[str, Tensor]:
    """Return the sums of local features over items, at every `step`-th frame from the first one."""
    end = NUM_PLACES * step
    x_BPD = local_BLD[:, :end:step].float()
    count_BP = torch.ones_like(x_BPD[..., 0])
    if valid_BL is not None:
        count_BP = valid_BL[:, :end:step].float()
    x_BPD = x_BPD * count_BP[..., None]
    missing = NUM_PLACES - x_BPD.shape[1]
    sums = {
        "feature_sum": x_BPD.sum(dim=0),
        "feature_square": x_BPD.square().sum(dim=0),
        "feature_count": count_BP.sum(dim=0),
    }
    if not missing:
        return sums
    return {
        name: torch.cat([value, value.new_zeros(missing, *value.shape[1:])])
        for name, value in sums.items()
    }


def deviations(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return () of each of `VARIANCES`: the mean over channels of the standard deviation.

    NaN for fewer than two frames, or two items at every place.
    """
    found = {
        f"{of}_var": _deviation(
            sums[f"{of}_sum"], sums[f"{of}_square"], count=sums["frame_count"]
        ).mean()
        for of in ("target", "prediction")
    }
    count_P1 = sums["feature_count"][:, None]
    spread_PD = _deviation(sums["feature_sum"], sums["feature_square"], count=count_P1)
    return {**found, "feature_var": spread_PD.nanmean()}


def _deviation(total: Tensor, square: Tensor, *, count: Tensor) -> Tensor:
    var = (square - total.square() / count) / (count - 1)
    deviation = (var.clamp(min=0) + _EPS).sqrt()
    return torch.where(count > 1, deviation, torch.nan)


def find_collapse(points: CurvePoints, settings: Data2Vec2Loss) -> list[Finding]:
    """Return what ends the run: a deviation that was below its limit for `COLLAPSE_UPDATES` updates."""
    limits = {
        "target_var": (settings.min_target_var, "the targets"),
        "prediction_var": (settings.min_prediction_var, "the predictions"),
        "feature_var": (settings.min_feature_var, "the local features of different utterances"),
    }
    findings = []
    for name, (limit, what) in limits.items():

        def is_low(value_N: np.ndarray, limit: float = limit) -> np.ndarray:
            return value_N < limit

        updates, after = COLLAPSE_UPDATES, settings.guard_after
        if limit and points.lasts(name, is_low, updates=updates, after=after):
            last = points.series[name][-1]
            text = (
                f"training has collapsed by update {points.updates[-1]}: {what} are nearly all alike "
                f"({name} = {last:.3g}, below loss.min_{name} = {limit:g} for {updates} updates). Lower "
                "optimizer.lr, lengthen schedule.warmup or raise loss.teacher_decay, and start a new run"
            )
            findings.append(Finding("collapse", text, ends=True))
    return findings
