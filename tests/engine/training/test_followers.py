"""What a recipe has beyond the loss: training metrics on curves, sums for what moves after the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.counters import Counters, UpdateSize
from engine.config.sections import LoggingConfig
from engine.config.span import Span
from engine.evaluation.result import Evaluation
from engine.events import PointsRecorded
from engine.gated import assign_unless, lerp_unless
from engine.recipes.base import StepContext, StepOutput, UpdateMade
from engine.training.curves import Telemetry
from engine.training.optimizer import FusedAdamW
from engine.training.out_of_memory import UpdateTorn
from engine.training.trainer import Trainer
from engine.training.updates import Updater

CPU = torch.device("cpu")


class CountingRecipe:
    """Items are their own number; the loss fits a weight to 1; metrics and statistics count items.

    Metrics: `mean_item` over all items, `mean_odd` over odd ones only. Statistics: how often an item
    was seen, and the sum of all. `fits` items have room in memory, `poisoned` ones are not finite.
    """

    loss_unit = ""
    training_metrics: Mapping[str, str] = {"mean_item": "", "mean_odd": "%"}
    statistics: Mapping[str, tuple[int, ...]] = {"seen": (2, 4), "total": ()}

    def __init__(self, *, fits: int = 100, poisoned: tuple[int, ...] = ()) -> None:
        self.fits = fits
        self.poisoned = poisoned
        self.teacher = torch.zeros(())
        self.seen = torch.zeros(2, 4)
        self.made: list[tuple[int, Counters, float, float]] = []
        self.contexts: list[StepContext] = []

    def build_model(self) -> nn.Module:
        return nn.Linear(1, 1, bias=False)

    def sizes(self, split: Split) -> np.ndarray:
        return np.ones((8, 1))

    def manifest(self, split: Split) -> str:
        return "counting"

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        return Batch({"item": torch.tensor([draw.index for draw in micro_batch.draws])})

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        item_B = batch.tensors["item"]
        if len(item_B) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.contexts.append(context)
        loss_B = (model(torch.ones(len(item_B), 1)) - 1).square()
        for item in self.poisoned:
            loss_B = torch.where((item_B == item)[:, None], math.nan, loss_B)
        odd_B, weight = item_B % 2, torch.tensor(float(len(item_B)))
        return StepOutput(
            loss_B.sum(), weight,
            metrics={"mean_odd": ((item_B * odd_B).sum(), odd_B.sum()), "mean_item": (item_B.sum(), weight)},
            statistics={
                "total": item_B.sum(),
                "seen": torch.bincount(item_B, minlength=8).view(2, 4),
            },
        )  # fmt: skip

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        (weight,) = model.parameters()
        lerp_unless(made.skipped, [self.teacher], towards=[weight.detach()[0, 0]], share=0.5)
        values = [self.seen + made.statistics["seen"] / (1 - made.skipped)]
        assign_unless(made.skipped, [self.seen], values=values)
        self.made.append(
            (made.update, made.counters, made.skipped.item(), made.statistics["total"].item())
        )

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        return Evaluation({"val_loss": 0.0}, 1, num_excluded=0)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        raise NotImplementedError


def batch(*items: int) -> Batch:
    draws = tuple(ItemDraw(0, item) for item in items)
    return CountingRecipe().fetch("train", MicroBatch(draws))


@pytest.fixture
def make(make_config) -> Any:
    def build(recipe: Any) -> tuple[Updater, nn.Module]:
        config = make_config()
        torch.manual_seed(0)
        model = recipe.build_model()
        optimizer = FusedAdamW(model, config.optimizer)
        return Updater(recipe, model, optimizer, config=config, device=CPU, ema=None), model

    return build


class DeviatingRecipe(CountingRecipe):
    """Measures the deviation of the items of an update, NaN for one of them."""

    statistics: Mapping[str, tuple[int, ...]] = {"sums": (3,)}
    update_metrics: Mapping[str, str] = {"deviation": "items"}

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        output = super().step(model, batch, context=context)
        item_B = batch.tensors["item"].float()
        sums = torch.stack([output.weight, item_B.sum(), item_B.square().sum()])
        return replace(output, statistics={"sums": sums})

    def measure(self, statistics: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        count, total, square = statistics["sums"]
        return {"deviation": ((square - total**2 / count) / (count - 1)).sqrt()}

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        pass


@pytest.mark.parametrize("fits", [100, 2, 1])
def test_what_an_update_measures_does_not_depend_on_its_pieces(make, fits):
    updater, _ = make(DeviatingRecipe(fits=fits))
    assert list(updater.extras.units.items())[-1] == ("deviation", "items")
    result = updater.run(1, [batch(0, 1, 2), batch(5, 7)], lr=0.1)
    assert result.metrics[:4].tolist() == [15, 5, 13, 3]
    deviation = float(np.std([0, 1, 2, 5, 7], ddof=1))
    assert result.metrics[4:].tolist() == pytest.approx([deviation, 1.0])


def test_an_update_that_can_not_be_measured_is_left_out_of_its_curve(make):
    updater, _ = make(DeviatingRecipe())
    results = [updater.run(n + 1, [batch(*some)], lr=0.1) for n, some in enumerate([(4,), (0, 2)])]
    seen: list[PointsRecorded] = []
    telemetry = Telemetry(
        LoggingConfig(every=Span(2, "updates")), UpdateSize(1, 1, 1.0), loss_unit="", emit=seen.append,
        metrics=updater.extras.units,
    )  # fmt: skip
    for result in results:
        telemetry.add(result, 0.1, UpdateSize(1, 1, 1.0))
    telemetry.flush()
    assert seen[0].series["deviation"].tolist() == pytest.approx([2**0.5])


@pytest.mark.parametrize("fits", [100, 2, 1])
def test_sums_over_micro_batches_and_pieces_of_them(make, fits):
    recipe = CountingRecipe(fits=fits)
    updater, model = make(recipe)
    before = Counters(6, 7, items=8, audio_seconds=9.0)
    result = updater.run(7, [batch(0, 1, 2), batch(5, 7)], lr=0.1, counters=before)
    # In the order of the declaration: 0 + 1 + 2 + 5 + 7 over 5 items, 1 + 5 + 7 over 3 odd ones.
    assert result.metrics.tolist() == [15, 5, 13, 3]
    assert recipe.made == [(7, before, 0.0, 15.0)]
    assert recipe.seen.tolist() == [[1, 1, 1, 0], [0, 1, 0, 1]]
    assert recipe.teacher == pytest.approx(model.weight.item() / 2)
    assert {(c.update, c.counters, c.split) for c in recipe.contexts} == {(7, before, "train")}
    made = recipe.contexts[-result.num_pieces :]
    assert len({context.key for context in made}) == result.num_pieces


def test_a_skipped_update_leaves_teacher_and_codebook_untouched(make):
    recipe = CountingRecipe(poisoned=(3,))
    updater, _ = make(recipe)
    updater.run(1, [batch(0, 1)], lr=0.1)
    teacher, seen = recipe.teacher.clone(), recipe.seen.clone()
    updater.run(2, [batch(2), batch(3)], lr=0.1)
    assert [entry[2] for entry in recipe.made] == [0.0, 1.0]
    assert torch.equal(teacher, recipe.teacher)
    assert torch.equal(seen, recipe.seen)
    updater.run(3, [batch(2)], lr=0.1)
    assert not torch.equal(teacher, recipe.teacher)
    assert recipe.seen.sum() == seen.sum() + 1


class OnGpu(Tensor):
    is_cpu = False


@pytest.mark.parametrize("skipped", [0.0, 1.0])
def test_flag_on_another_device_is_not_read_and_does_the_same(skipped):
    """The writes of a GPU, on a tensor that says it is not on the CPU."""
    flag = torch.tensor(skipped)
    answers = []
    for one in (flag, flag.as_subclass(OnGpu)):
        averages, codes = [torch.ones(3), torch.ones(2)], [torch.ones(2)]
        lerp_unless(one, averages, towards=[torch.zeros(3), torch.full((2,), 3.0)], share=0.25)
        value = torch.tensor([math.nan, 2.0]) if skipped else torch.tensor([4.0, 2.0])
        assign_unless(one, codes, values=[value])
        answers.append([x.tolist() for x in (*averages, *codes)])
    expected = [[1] * 3, [1] * 2, [1] * 2] if skipped else [[0.75] * 3, [1.5] * 2, [4, 2]]
    assert answers == [expected, expected]


def test_memory_that_runs_out_after_the_step_tears_the_update(make, monkeypatch):
    recipe = CountingRecipe()
    updater, _ = make(recipe)

    def fails(model: nn.Module, made: UpdateMade) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(recipe, "after_step", fails)
    with pytest.raises(UpdateTorn, match="update 1: out of memory after the step"):
        updater.run(1, [batch(0)], lr=0.1)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"training_metrics": {}}, "the metrics of the recipe's step differ .* in: mean_item, mean_odd"),
        ({"training_metrics": {"mean_item": "", "other": ""}}, "differ .* in: mean_odd, other"),
        ({"statistics": {}}, "the statistics of the recipe's step differ .* in: seen, total"),
        ({"statistics": {"seen": (8,), "total": ()}}, r"'seen' has shape \(2, 4\), but .* \(8,\)"),
        ({"training_metrics": {}, "statistics": {}}, "the metrics of the recipe's step"),
    ],
)  # fmt: skip
def test_steps_give_what_the_recipe_declares(make, monkeypatch, declared, message):
    for name, value in declared.items():
        monkeypatch.setattr(CountingRecipe, name, value)
    updater, _ = make(CountingRecipe())
    with pytest.raises(ValueError, match=message):
        updater.run(1, [batch(0)], lr=0.1)


def fit(config, recipe, folder, recorder, control) -> None:
    Trainer(config, recipe, folder=folder, observers=[recorder], control=control).fit()


def sections(**more: Any) -> dict[str, Any]:
    return {
        "batch": {"items": 2, "micro_batch": 1}, "schedule": {"length": "12 updates"},
        "checkpoint": {"best": []}, "logging": {"every": "3 updates"}, **more,
    }  # fmt: skip


def test_curves_are_sums_over_the_updates_of_a_point(
    make_config, new_recorder, stop_after, tmp_path, monkeypatch
):
    """Worked out from the items of each update; poisoned updates are in no sum."""
    recipe, recorder = CountingRecipe(poisoned=(4,)), new_recorder()
    results: list[Tensor] = []
    run = Updater.run

    def noting(self: Updater, *args: Any, **more: Any) -> Any:
        result = run(self, *args, **more)
        good = bool(torch.isfinite(result.loss_sum))
        results.append(result.metrics if good else torch.zeros(4))
        return result

    monkeypatch.setattr(Updater, "run", noting)
    fit(make_config(**sections()), recipe, tmp_path, recorder, stop_after())
    sums = torch.stack(results).double().view(4, 3, 4).sum(1)
    assert sums[:, 1].tolist() != [6, 6, 6, 6]
    assert recorder.curve("mean_item") == {
        3 * point + 3: float(sums[point, 0] / sums[point, 1]) for point in range(4)
    }
    (units,) = {tuple(block.units.items()) for block in recorder.of(PointsRecorded)}
    assert {("mean_item", ""), ("mean_odd", "%")} < set(units)


def test_a_point_without_weight_has_no_value(make_config, new_recorder, stop_after, tmp_path):
    recipe, recorder = CountingRecipe(), new_recorder()
    recipe.fetch = lambda split, micro_batch: batch(*(2 for _ in micro_batch.draws))
    fit(make_config(**sections()), recipe, tmp_path, recorder, stop_after())
    assert list(recorder.curve("mean_item").values()) == [2.0] * 4
    assert all(math.isnan(value) for value in recorder.curve("mean_odd").values())


@pytest.mark.parametrize("stop_at", [1, 4, 8])
def test_a_resume_in_the_middle_of_a_point_keeps_its_sums(
    make_config, new_recorder, stop_after, tmp_path, stop_at
):
    config = make_config(**sections())
    whole, parts = new_recorder(), new_recorder()
    fit(config, CountingRecipe(), tmp_path / "whole", whole, stop_after())
    fit(config, CountingRecipe(), tmp_path / "parts", parts, stop_after(stop_at))
    fit(config, CountingRecipe(), tmp_path / "parts", parts, stop_after())
    for name in ("mean_item", "mean_odd"):
        assert list(whole.curve(name)) == [3, 6, 9, 12]
        assert parts.curve(name) == whole.curve(name)


def test_names_of_curves_are_not_taken_twice(make_config, new_recorder, stop_after, tmp_path):
    recipe = CountingRecipe()
    recipe.evaluate = lambda model, device: Evaluation({"mean_odd": 0.0}, 1, num_excluded=0)
    with pytest.raises(ValueError, match="rename the latter to val_mean_odd"):
        fit(make_config(**sections()), recipe, tmp_path, new_recorder(), stop_after())


def test_names_of_the_trainers_curves_are_taken(make_config, monkeypatch):
    with pytest.raises(ValueError, match="training metric 'lr' has the name of a built-in curve"):
        Telemetry(
            make_config().logging, None, loss_unit="", emit=print, metrics={"lr": "", "x": ""}
        )
