"""The interface of a trainable task: `Recipe`.

A recipe owns data, model and loss. It is independent of ranks, optimizer, schedule and sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch, Split
from engine.batching.items import MicroBatch
from engine.checkpoints.recipe_files import RecipeState
from engine.config.counters import Counters
from engine.evaluation.result import Evaluation

_START = Counters()


@dataclass(frozen=True, slots=True)
class Opening:
    """What a recipe is opened with beside its config.

    Attributes:
        folder: the run's own folder; None where no run is made (a trial, a trained model).
        needs: key of a setting that refers to another run -> the checkpoint it was resolved to. Empty
            where a trained model is loaded: what a recipe takes from another run has to be in its state.
    """

    folder: Path | None = None
    needs: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepContext:
    """Where in the run a step is made; the same whatever the device, and when the step is repeated.

    Attributes:
        counters: what was done before this update.
        update: number of the update, from 1; 0 outside of training.
        key: names the micro-batch, or the part of one that memory has room for, within the update,
            over all ranks. Torch's generators are seeded with (seed of the run, update, key).
        split: the data the batch is of.
        ahead: of every name in `LooksAhead.ahead_shapes` the sum over the whole update, float32 and
            without a gradient; empty while looking, for recipes that don't look, and where the batch is
            the whole update, so that its own sums are those.
    """

    counters: Counters = _START
    update: int = 0
    key: int = 0
    split: Split = "train"
    ahead: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step came to, before the one division of the update. Sums run over micro-batches and ranks.

    Attributes:
        loss_sum: () sum of the loss.
        weight: () what the sum over the update is divided by.
        metrics: of every name in `MeasuresTraining.training_metrics` its sum () and weight (). A point
            of the curve is the sum over its updates, divided once; NaN where that weight is 0.
        statistics: of every name in `SumsStatistics.statistics` a tensor; the sum over the update
            reaches `FollowsUpdates.after_step`.
    """

    loss_sum: Tensor
    weight: Tensor
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateMade:
    """An update whose optimizer step is over; the same on every rank.

    Attributes:
        counters: what was done before it.
        update: its number, from 1.
        skipped: () 1.0 where loss or gradient was not finite, so that weights stayed as they were,
            else 0.0; on the device.
        statistics: sums over the whole update, all micro-batches and ranks; may be NaN if skipped.
    """

    counters: Counters
    update: int
    skipped: Tensor
    statistics: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class CurvePoints:
    """Consecutive points of the training curves, in order.

    Attributes:
        updates: (N,) int64, the last update of each point.
        series: name of a curve -> (N,) float64; NaN where no update of the point was finite. All of
            training but the speed.
    """

    updates: np.ndarray
    series: Mapping[str, np.ndarray]

    def lasts(
        self,
        name: str,
        holds: Callable[[np.ndarray], np.ndarray],
        *,
        updates: int,
        after: int = 0,
    ) -> bool:
        """Return whether a condition held without a break for so many updates, anywhere in these points.

        Args:
            name: the curve.
            holds: values (N,) -> bool (N,), where the condition holds.
            updates: how long it has to hold.
            after: only updates beyond this one count.
        """
        value_N = self.series[name]
        used_N = np.isfinite(value_N) & (self.updates > after)
        number_N = self.updates[used_N]
        breaks = np.flatnonzero(~np.concatenate([[False], holds(value_N[used_N]), [False]]))
        # Between two breaks, at positions b < c of the padded array, the points b to c - 2 hold.
        return any(
            number_N[end - 2] - number_N[start] >= updates
            for start, end in pairwise(breaks.tolist())
            if end - start > 1
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """What a recipe found in its curves.

    Attributes:
        condition: its kind in lower-case words and hyphens; reported once a run.
        text: for the user: what, since when, what to do.
        ends: whether the run ends by it, as failed; checkpoints from before stay.
    """

    condition: str
    text: str
    ends: bool = False


class Recipe(Protocol):
    """A task the trainer can run."""

    @property
    def loss_unit(self) -> str:
        """Return the unit of the loss, empty where it has none."""

    def build_model(self) -> nn.Module:
        """Return the freshly initialised network, on the CPU."""

    def sizes(self, split: Split) -> np.ndarray:
        """Return (N, D) item sizes: D = 1 duration in seconds, D = 2 (duration, tokens)."""

    def manifest(self, split: Split) -> str:
        """Return a hash of the files of a split, so that a resume detects a change."""

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read and collate items on the CPU, padded to the shape of the micro-batch if it has one.

        A pure function of (config, split, micro_batch).
        """

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Run the forward pass and the loss."""

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Judge the model on the validation items; touches no training state."""

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return a synthetic batch of `count` items of `shape` (as in `MicroBatch`), or the largest."""


@runtime_checkable
class JudgesWholeFiles(Protocol):
    """A recipe that trains on parts of files, and can evaluate whole ones beside excerpts of them."""

    def evaluate_whole(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Judge whole validation files, in the order and by the metrics of `evaluate`."""


class TakesItem(Protocol):
    """Takes the signals of one item, block by block."""

    def add(self, est_SCT: np.ndarray, ref_SCT: np.ndarray) -> None:
        """Add the next block of the estimates and of the references."""

    def close(self, order: Sequence[int] = ()) -> None:
        """End the item; `order` is the estimate of each reference, where estimates have no order."""


class TakesEstimates(Protocol):
    """Takes the estimates of whole files, for metrics that are measured by other processes."""

    def open(self, item: int, shape: tuple[int, int, int]) -> TakesItem | None:
        """Return what takes the item of `shape` (S, C, T); None: it is not wanted."""


@runtime_checkable
class GivesEstimates(Protocol):
    """A recipe whose estimates are audio, so that `validation.metrics` can be measured on them."""

    def evaluate_and_keep(
        self, model: nn.Module, device: torch.device, *, taker: TakesEstimates
    ) -> Evaluation:
        """Do as `evaluate_whole`, and give the estimates of each file to `taker`, in order."""


@runtime_checkable
class MeasuresTraining(Protocol):
    """A recipe whose steps measure more than the loss: each metric is a curve of the run."""

    @property
    def training_metrics(self) -> Mapping[str, str]:
        """Return the unit of each metric in `StepOutput.metrics`, empty for a pure number.

        The names must be no others': curves of the trainer (loss, grad_norm, ...) and metrics of
        `evaluate` (call those val_<name>).
        """


@runtime_checkable
class WatchesCurves(Protocol):
    """A recipe that knows what its curves look like when training goes wrong: codes unused, a collapse."""

    @property
    def watch_updates(self) -> int:
        """Return how many updates back `watch` needs points: as long as a condition has to last."""

    def watch(self, points: CurvePoints) -> Sequence[Finding]:
        """Judge the curves; called on the first rank when points were read back, not in every update.

        `points` are the new ones and those up to `watch_updates` before them. Must follow from them
        alone: then a resumed run finds the same. `CurvePoints.lasts` says whether a condition persists.
        """


@runtime_checkable
class SumsStatistics(Protocol):
    """A recipe whose steps gather sums for `after_step`: counts of codes, sums of features."""

    @property
    def statistics(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor in `StepOutput.statistics`."""


@runtime_checkable
class MeasuresUpdates(SumsStatistics, Protocol):
    """A recipe with curves that follow from sums over a whole update, as a deviation or a perplexity does.

    A mean of those of micro-batches would depend on how the update was split.
    """

    @property
    def update_metrics(self) -> Mapping[str, str]:
        """Return the unit of each metric that `measure` returns; names as in `MeasuresTraining`."""

    def measure(self, statistics: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return () each metric of an update from its sums, on the device; NaN leaves the update out.

        A point of the curve is the mean over its updates.
        """


@runtime_checkable
class LooksAhead(Protocol):
    """A recipe whose loss needs sums over the whole update before the first gradient.

    Such as a mean code, or the weight of a second term. `look` comes before the steps, for every
    micro-batch and on every rank; what it returns is summed and handed to each `step` as
    `StepContext.ahead`. `engine.recipes.whole_update` builds terms from that. Costs what `look` costs, and
    with several ranks one small sum an update. An update of one micro-batch on one process isn't looked
    at: `step` then gets no `ahead`, and takes the sums of its batch, detached.
    """

    @property
    def ahead_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each tensor that `look` returns; empty: this run needs none."""

    def look(self, model: nn.Module, batch: Batch, *, context: StepContext) -> Mapping[str, Tensor]:
        """Return this micro-batch's share of the sums.

        Runs without gradients, under the autocast of `step`, in training mode and with torch's
        generators seeded alike, so that the first draws of both are the same. Buffers that it moves are
        set back, and when memory runs out both are repeated in smaller parts.
        """


@runtime_checkable
class FollowsUpdates(Protocol):
    """A recipe with something that moves once an update: a teacher, a codebook."""

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        """Move it, after weights and their average, unless `made.skipped` says not to.

        Every rank calls this with equal values. The flag must not be read (that waits for the
        device): write by `engine.gated`. Draws come from generators that are not seeded for this.
        """


@runtime_checkable
class KeepsState(Protocol):
    """A recipe that owns state beyond the model: a teacher, a codebook, a tokenizer.

    It is saved with every checkpoint, restored to the bit, and there when a trained model is applied.
    """

    def start_state(self, model: nn.Module, device: torch.device) -> None:
        """Make the state of a fresh run; `model` is on `device`, with the weights that it starts from."""

    def state_dict(self) -> RecipeState:
        """Return tensors (no copies) and values fit for JSON, under the same names every time."""

    def load_state_dict(self, state: RecipeState) -> None:
        """Take over a state with the names of `state_dict`; its tensors are on the CPU.

        Raises:
            ValueError: when it does not fit.
        """


class Stage:
    """Work before the first update, as a walk of steps: clusters, codes, caches.

    A step is a pure function of (config, results of earlier stages, index, state), apart from files it
    may write twice alike. So a stage goes on after a stop or a kill from wherever it was saved.
    Torch's generators are seeded before each step.

    Attributes:
        name: as people read it: lower-case letters, digits, - and _.
        save_every_s: how much work a kill may cost, in seconds.
        feeds: name of a later stage that this one is for, where what it makes stays in memory: it is
            never saved, `use` does not get it, and it is skipped where that later stage is complete.
    """

    name: str
    save_every_s: float = 30.0
    feeds: str = ""

    def num_steps(self) -> int:
        """Return the number of steps; a stop waits for the end of one, so each should take a second or less."""
        raise NotImplementedError

    def start(self) -> RecipeState:
        """Return the state before the first step."""
        return RecipeState()

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        """Return the state after step `index`, from 0; `state` may be changed, and may be on the CPU."""
        raise NotImplementedError

    def finish(self, state: RecipeState) -> RecipeState:
        """Return the result of the stage from the state after its last step."""
        return state

    def lost(self, result: RecipeState) -> str:
        """Return why files that the stage wrote can't be used any more; empty where they can.

        Asked before a result of an earlier start is used; the stage is then run again from its start.
        """
        return ""

    def notices(self, result: RecipeState) -> Sequence[tuple[Literal["info", "warning"], str]]:
        """Return what people should know of a result that was just made."""
        return ()


@runtime_checkable
class RunsStages(Protocol):
    """A recipe with stages before training; their results travel in every checkpoint.

    A trial of the batch planner runs none: `build_model`, `start_state` and `step` on `worst_batch` must
    do without. `manifest` must, too.
    """

    def stages(self) -> Sequence[Stage]:
        """Return the stages in order."""

    def use(self, stage: str, result: RecipeState) -> None:
        """Take the result of a stage, on the CPU: just made, made earlier, or that of a checkpoint.

        Comes before the next stage starts, and before `sizes` and `build_model`.
        """
