"""wav2vec 2.0 as a recipe: one batch and its parts are one, runs resume to the bit, collapses are reported."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.events import Evaluated, Noticed, RunStarted
from engine.metrics.built_in import MAX_CODE_GROUPS
from engine.recipes.base import CurvePoints, Opening, StepContext
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.wav2vec2 import Wav2Vec2Recipe, open_wav2vec2
from engine.recipes.self_supervised.wav2vec2_watch import LASTS_UPDATES, findings
from engine.training.trainer import Trainer
from models.self_supervised.wav2vec2_settings import Wav2Vec2Config

RATE = 16_000
CPU = torch.device("cpu")


def opened(config: RunConfig) -> Wav2Vec2Recipe:
    recipe = open_recipe(config)
    assert isinstance(recipe, Wav2Vec2Recipe)
    return recipe


def double(batch: Batch) -> Batch:
    return Batch({n: t.double() if t.is_floating_point() else t for n, t in batch.tensors.items()})


def one_update(
    config: RunConfig, splits: Sequence[Sequence[int]], *, look: bool = True
) -> dict[str, Any]:
    """Return loss, metrics and gradients of an update of micro-batches of items, in float64."""
    recipe = opened(config)
    torch.manual_seed(0)
    model = recipe.build_model().double().train()
    batches = [
        double(
            recipe.fetch("train", MicroBatch(tuple(ItemDraw(2, index) for index in split), (1.3,)))
        )
        for split in splits
    ]
    ahead: dict[str, Tensor] = {}
    if look:
        with torch.no_grad():
            for batch in batches:
                for name, value in recipe.look(model, batch, context=StepContext(update=3)).items():
                    ahead[name] = ahead.get(name, 0) + value
    outputs = [recipe.step(model, b, context=StepContext(update=3, ahead=ahead)) for b in batches]
    loss_sum = torch.stack([out.loss_sum for out in outputs]).sum()
    weight = torch.stack([out.weight for out in outputs]).sum()
    (loss_sum / weight).backward()
    names = list(outputs[0].metrics)
    return {
        "loss": (loss_sum / weight).item(), "weight": weight.item(),
        "metrics": {
            n: (sum(o.metrics[n][0] for o in outputs) / sum(o.metrics[n][1] for o in outputs)).item()
            for n in names
        },
        "gradients": {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
    }  # fmt: skip


def differences(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference of gradients, metrics and loss, each relative to its scale."""
    scale = max(g.abs().max().item() for g in one["gradients"].values())
    found = [
        (one["gradients"][n] - other["gradients"][n]).abs().max().item() / scale
        for n in one["gradients"]
    ]
    found += [abs(one["metrics"][n] - other["metrics"][n]) for n in one["metrics"]]
    return max(*found, abs(one["loss"] - other["loss"]), abs(one["weight"] - other["weight"]))


SPLITS = [[[0, 1, 2], [3, 4, 5]], [[5], [3, 1, 0, 2], [4]], [[i] for i in range(6)]]


@pytest.mark.parametrize("encoder", ["transformer", "conformer"])
@pytest.mark.parametrize("splits", SPLITS, ids=["even", "ragged", "one each"])
def test_parts_of_an_update_sum_to_one_batch(
    wav2vec2_config: Any, encoder: str, splits: Any
) -> None:
    """Loss, diversity, penalty, noise of the codes and curves: with padding, and Gumbel noise on."""
    config = wav2vec2_config(model={"encoder": encoder}, loss={"diversity_weight": 3.0})
    whole = one_update(config, [range(6)])
    assert whole["metrics"]["code_perplexity"] > 2.5
    assert whole["metrics"]["penalty"] > 0
    assert differences(whole, one_update(config, splits)) < 1e-6


def test_a_batch_that_is_the_update_needs_no_look(wav2vec2_config: Any) -> None:
    config = wav2vec2_config()
    assert (
        differences(one_update(config, [range(6)]), one_update(config, [range(6)], look=False))
        < 1e-9
    )


def test_without_the_look_the_diversity_of_parts_is_another(wav2vec2_config: Any) -> None:
    """What the look is good for: the same micro-batches, each with its own mean code."""
    config = wav2vec2_config(loss={"diversity_weight": 3.0})
    whole = one_update(config, [range(6)])
    assert differences(whole, one_update(config, SPLITS[2], look=False)) > 1e-3


def test_gradient_of_diversity_is_that_of_the_definition(wav2vec2_config: Any) -> None:
    config = wav2vec2_config(loss={"diversity_weight": 3.0})
    found = one_update(config, [range(6)])
    recipe = opened(config)
    torch.manual_seed(0)
    model = recipe.build_model().double().train()
    draws = tuple(ItemDraw(2, index) for index in range(6))
    batch = double(recipe.fetch("train", MicroBatch(draws, (1.3,))))
    terms = recipe._terms(model, batch, temperature=2.0)
    mean_GV = terms.soft_GV / terms.masked_B.sum()
    entropy_G = -(mean_GV * mean_GV.log()).sum(-1)
    spread = 1 - entropy_G.exp().sum() / 16
    loss = terms.contrastive_B.sum() / terms.masked_B.sum() + 3.0 * spread
    loss = loss + 10.0 * terms.penalty_B.sum() / terms.frames_B.sum()
    assert loss.item() == pytest.approx(found["loss"], rel=1e-9)
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                parameter.grad, found["gradients"][name], rtol=1e-7, atol=1e-9
            )


def test_draws_are_those_of_the_item(wav2vec2_config: Any) -> None:
    """Whatever it is batched with: masks, distractors and noise."""
    recipe = opened(wav2vec2_config())
    together = recipe.fetch("train", MicroBatch(tuple(ItemDraw(1, i) for i in (4, 7, 2)))).tensors
    alone = recipe.fetch("train", MicroBatch((ItemDraw(1, 7),))).tensors
    count, frames = int(alone["masked"][0]), int(alone["frames"][0])
    assert together["masked"][1] == count > 2
    assert together["noise"][1] == alone["noise"][0]
    assert torch.equal(together["mask"][1, :frames], alone["mask"][0])
    assert not together["mask"][1, frames:].any()
    for name in ("place", "distractor"):
        assert torch.equal(together[name][1, :count], alone[name][0, :count])
    places = together["place"][1, :count]
    assert torch.equal(places, together["mask"][1].nonzero().flatten())
    # Distractors are masked frames of the item, never the frame itself.
    assert alone["distractor"].max() < count
    assert not (alone["distractor"][0] == torch.arange(count)[:, None]).any()
    other = recipe.fetch("train", MicroBatch((ItemDraw(2, 7),))).tensors
    assert not torch.equal(other["mask"], alone["mask"])
    assert other["noise"][0] != alone["noise"][0]


def test_rows_are_not_cut_down_to_the_smallest(wav2vec2_config: Any) -> None:
    recipe = opened(wav2vec2_config())
    batch = recipe.fetch("train", MicroBatch(tuple(ItemDraw(0, i) for i in range(12)))).tensors
    assert len(set(batch["masked"].tolist())) > 3
    for mask_L, frames in zip(batch["mask"], batch["frames"].tolist(), strict=True):
        runs = np.diff(np.flatnonzero(np.diff(np.pad(mask_L[:frames].numpy().astype(int), 1))))[::2]
        # Every run is a whole span at least; only the end of an item may cut one.
        assert (runs[:-1] >= 3).all()


def test_validation_draws_depend_on_no_seed(wav2vec2_config: Any) -> None:
    batches = [
        opened(load_config({**wav2vec2_config().to_dict(), "seed": seed})).fetch(
            "valid", MicroBatch((ItemDraw(0, 1), ItemDraw(0, 3)))
        )
        for seed in (0, 5)
    ]
    for name, value in batches[0].tensors.items():
        assert torch.equal(value, batches[1].tensors[name])


def test_evaluation_is_that_of_the_whole_set(wav2vec2_config: Any) -> None:
    """Batches of an evaluation change nothing, and perplexities are not means of theirs."""
    found = []
    for items in (1, 2, 5):
        recipe = opened(wav2vec2_config(validation={"batch_items": items}))
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(recipe.evaluate(recipe.build_model().eval(), CPU))
    metrics = found[0].metrics
    for other in found[1:]:
        assert other.items_key == found[0].items_key
        for name, value in metrics.items():
            assert other.metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert set(metrics) == {
        "val_loss", "val_contrastive_loss", "val_diversity_loss", "val_penalty",
        "val_contrastive_accuracy", "val_code_perplexity", "val_code_perplexity_1",
        "val_code_perplexity_2",
    }  # fmt: skip
    total = metrics["val_contrastive_loss"] + 0.1 * metrics["val_diversity_loss"]
    assert metrics["val_loss"] == pytest.approx(total + 10 * metrics["val_penalty"], rel=1e-6)
    # By hand, from the network itself.
    recipe = opened(wav2vec2_config())
    torch.manual_seed(0)
    model = recipe.build_model().eval()
    codes, losses, counts = [], 0.0, 0
    for index in range(5):
        batch = recipe.fetch("valid", MicroBatch((ItemDraw(0, index),)))
        with torch.no_grad():
            terms = recipe._terms(model, batch)
        codes.append(terms.hard_GV)
        losses += terms.contrastive_B.item()
        counts += int(batch.tensors["masked"].sum())
    share_GV = torch.stack(codes).sum(0) / counts
    wanted_G = torch.exp(-torch.xlogy(share_GV, share_GV).sum(-1))
    assert metrics["val_contrastive_loss"] == pytest.approx(losses / counts, rel=1e-4)
    assert metrics["val_code_perplexity"] == pytest.approx(wanted_G.sum().item(), rel=1e-4)
    assert metrics["val_code_perplexity_2"] == pytest.approx(wanted_G[1].item(), rel=1e-4)


def test_an_item_that_is_not_finite_counts_as_worst(wav2vec2_config: Any, monkeypatch: Any) -> None:
    recipe = opened(wav2vec2_config())
    model = recipe.build_model().eval()
    fetch = recipe.fetch

    def poisoned(split: Any, micro_batch: MicroBatch) -> Batch:
        batch = fetch(split, micro_batch)
        for row, draw in enumerate(micro_batch.draws):
            if draw.index == 1:
                batch.tensors["wave"][row] = torch.nan
        return batch

    monkeypatch.setattr(recipe, "fetch", poisoned)
    with torch.no_grad():
        found = recipe.evaluate(model, CPU)
    assert found.metrics["val_loss"] == float("inf")
    assert found.items["non_finite"].tolist() == [0, 1, 0, 0, 0]
    assert np.isfinite(found.metrics["val_code_perplexity"])


def trained(config: RunConfig, folder: Path, observer: Any, control: Any, **more: Any) -> Any:
    recipe = opened(config)
    trainer = Trainer(config, recipe, folder=folder, observers=[observer], control=control)
    return trainer.fit()


@pytest.mark.parametrize("encoder", ["transformer", "conformer"])
def test_killed_and_resumed_is_bit_identical(
    wav2vec2_config: Any, tmp_path: Path, new_recorder: Any, stop_after: Any, checkpoint_tensors: Any,
    monkeypatch: pytest.MonkeyPatch, encoder: str,
) -> None:  # fmt: skip
    """Dropouts, layer drop and noise on; the process is lost in update 5, its last checkpoint is of 3."""
    alive = {"dropout": 0.1, "feature_dropout": 0.1, "projection_dropout": 0.1, "layer_drop": 0.3}
    config = wav2vec2_config(
        model={**alive, "layers": 2, "encoder": encoder}, batch={"items": 4, "micro_batch": 2}
    )
    whole, first, second = new_recorder(), new_recorder(), new_recorder()
    trained(config, tmp_path / "whole", whole, stop_after())
    step = Wav2Vec2Recipe.step

    def dies(self: Any, model: Any, batch: Batch, *, context: StepContext) -> Any:
        if context.update == 5 and context.key:
            raise KeyboardInterrupt
        return step(self, model, batch, context=context)

    monkeypatch.setattr(Wav2Vec2Recipe, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        trained(config, tmp_path / "parts", first, stop_after())
    monkeypatch.setattr(Wav2Vec2Recipe, "step", step)
    trained(config, tmp_path / "parts", second, stop_after())
    assert second.of(RunStarted)[0].resumed_from == 3
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000006")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    for name in ("loss", "grad_norm", "contrastive_loss", "code_perplexity", "temperature"):
        curve = whole.curve(name)
        assert second.curve(name) == {update: curve[update] for update in (4, 5, 6)}
    assert whole.of(Evaluated)[-1].metrics == second.of(Evaluated)[-1].metrics


def test_a_split_run_is_the_run(
    wav2vec2_config: Any, tmp_path: Path, new_recorder: Any, stop_after: Any
) -> None:
    """By the trainer: micro-batches of six, of four and of one item, and memory that runs out."""
    curves = []
    for micro_batch in (6, 4, 1):
        config = wav2vec2_config(
            batch={"micro_batch": micro_batch}, schedule={"length": "3 updates"}
        )
        recorder = new_recorder()
        trained(config, tmp_path / str(micro_batch), recorder, stop_after())
        curves.append({name: recorder.curve(name) for name in opened(config).training_metrics})
    for other in curves[1:]:
        for name, curve in curves[0].items():
            assert curve.keys() == {1, 2, 3}
            # Adam divides by the root of the second moment, which amplifies rounding from update 2 on.
            for update, rel in ((1, 1e-6), (2, 2e-4), (3, 2e-4)):
                assert other[name][update] == pytest.approx(curve[update], rel=rel, abs=1e-6), name


def test_crops_need_no_lengths(wav2vec2_config: Any) -> None:
    """BASE: group norm, equal crops."""
    config = wav2vec2_config(
        model={"extractor_norm": "group_norm"}, data={"fit": "crop", "normalize_waveform": False}
    )
    recipe = opened(config)
    model = recipe.build_model()
    batch = recipe.fetch("train", MicroBatch((ItemDraw(0, 0), ItemDraw(0, 1)), (0.5,)))
    output = recipe.step(model, batch, context=StepContext(update=1))
    assert torch.isfinite(output.loss_sum)
    assert output.metrics["penalty"][1] == 2 * model.frames_of(8_000)
    with torch.no_grad():
        found = recipe.evaluate(model.eval(), CPU)
    assert np.isfinite(found.metrics["val_loss"])


def test_worst_batch_is_the_longest(wav2vec2_config: Any) -> None:
    recipe = opened(wav2vec2_config())
    batch = recipe.worst_batch(3)
    longest = recipe.sizes("train").max()
    assert batch.tensors["wave"].shape == (3, round(longest * RATE))
    output = recipe.step(recipe.build_model(), batch, context=StepContext())
    assert torch.isfinite(output.loss_sum)
    assert recipe.worst_batch(2, (0.7,)).tensors["wave"].shape == (2, 11_200)


def curves(updates: int, **series: Any) -> CurvePoints:
    numbers = np.arange(1, updates + 1)
    base = {"code_perplexity": 20.0, "contrastive_loss": 3.0, "lr": 1e-3}
    return CurvePoints(
        numbers,
        {n: np.broadcast_to(np.asarray(v, float), updates) for n, v in (base | series).items()},
    )


def found_in(points: CurvePoints) -> list[str]:
    found = findings(points, groups=2, entries=320, distractors=100)
    return [finding.condition for finding in found]


def test_conditions_and_how_long_they_last() -> None:
    chance = log(101)
    warmup = np.minimum(np.arange(1, 501) / 300, 1.0)
    assert found_in(curves(500)) == []
    assert found_in(curves(500, code_perplexity=3.9)) == ["codes-collapsed"]
    assert found_in(curves(500, code_perplexity=4.1)) == []
    assert found_in(curves(200, code_perplexity=3.9)) == []
    assert found_in(curves(201, code_perplexity=3.9)) == ["codes-collapsed"]
    # One update with more codes starts the count anew.
    once = np.where(np.arange(1, 401) == 201, 5.0, 3.9)
    assert found_in(curves(400, code_perplexity=once)) == []
    assert found_in(curves(500, contrastive_loss=chance + 0.009)) == ["loss-at-chance"]
    assert found_in(curves(500, contrastive_loss=chance + 0.011)) == []
    assert found_in(curves(500, contrastive_loss=chance, lr=warmup)) == []
    assert found_in(curves(502, contrastive_loss=chance, lr=[*warmup, 1.0, 1.0])) == [
        "loss-at-chance"
    ]
    assert LASTS_UPDATES == 200


def collapsing(recipe: Wav2Vec2Recipe) -> Wav2Vec2Recipe:
    build = recipe.build_model

    def one_code() -> Any:
        model = build()
        with torch.no_grad():
            model.quantiser.to_logits.weight.zero_()
            model.quantiser.to_logits.bias[::8] = 100.0
        return model

    recipe.build_model = one_code  # type: ignore[method-assign]
    return recipe


@pytest.mark.slow
@pytest.mark.parametrize("collapses", [True, False])
def test_a_collapse_is_reported_and_a_normal_run_is_not(
    wav2vec2_config: Any, tmp_path: Path, new_recorder: Any, stop_after: Any, collapses: bool
) -> None:
    config = wav2vec2_config(
        schedule={"length": "230 updates", "warmup": "20 updates"}, batch={"items": 3, "micro_batch": 3},
        validation={"every": "1000 updates", "at_start": False}, ema={"enabled": False},
    )  # fmt: skip
    recipe = opened(config)
    if collapses:
        recipe = collapsing(recipe)
    recorder = new_recorder()
    ended = Trainer(
        config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()
    ).fit()
    assert ended.outcome == "finished"
    kinds = [event.kind for event in recorder.of(Noticed)]
    assert kinds.count("codes-collapsed") == int(collapses)
    assert "loss-at-chance" not in kinds
    if collapses:
        # All distractors have the frame's own code: no loss, and yet nothing is right.
        assert recorder.curve("contrastive_loss")[200] == 0
        assert recorder.curve("contrastive_accuracy")[200] == 0
        assert recorder.curve("code_perplexity")[200] == pytest.approx(2.0)


def test_the_recipe_is_opened_by_its_name(wav2vec2_config: Any) -> None:
    assert isinstance(open_wav2vec2(wav2vec2_config(), opening=Opening()), Wav2Vec2Recipe)
    most = next(
        m.le for m in Wav2Vec2Config.model_fields["code_groups"].metadata if hasattr(m, "le")
    )
    assert most == MAX_CODE_GROUPS
