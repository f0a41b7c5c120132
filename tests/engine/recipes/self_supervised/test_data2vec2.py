"""Claims about the data2vec 2.0 recipe: splitting changes nothing, the teacher follows, resume is exact."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.counters import Counters
from engine.config.data2vec2 import Data2Vec2Loss, half_life
from engine.config.errors import ConfigError
from engine.config.schema import RunConfig
from engine.recipes.base import CurvePoints, StepContext, UpdateMade
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.data2vec2 import Data2Vec2Recipe
from engine.recipes.self_supervised.data2vec2_teacher import Teacher, normalised_over_time
from engine.recipes.self_supervised.spread import (
    VARIANCES,
    deviations,
    feature_sums,
    find_collapse,
    frame_sums,
)
from engine.training.trainer import Trainer
from engine.training.watching import TrainingCollapsed
from models.self_supervised.data2vec2 import Data2Vec2
from models.self_supervised.data2vec2_settings import Data2Vec2Config
from tests.engine.recipes.self_supervised.fakes.updates import STILL

CPU = torch.device("cpu")


@pytest.fixture
def make(data2vec2_config: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny run, changed by sections given as keywords."""
    return data2vec2_config


def draws(*indices: int, epoch: int = 0) -> tuple[ItemDraw, ...]:
    return tuple(ItemDraw(epoch, index) for index in indices)


def opened(config: RunConfig) -> tuple[Data2Vec2Recipe, Data2Vec2]:
    recipe = open_recipe(config)
    assert isinstance(recipe, Data2Vec2Recipe)
    torch.manual_seed(0)
    model = recipe.build_model()
    recipe.start_state(model, CPU)
    return recipe, model


def test_masks_are_made_after_the_crop_and_count_the_same(make: Any) -> None:
    recipe, _ = opened(make())
    batch = recipe.fetch("train", MicroBatch(draws(0, 2, 4), (0.48,))).tensors
    assert batch["wave"].shape == (3, 24 * 320)
    frames = 23
    assert batch["mask"].shape == (3, 3, frames)
    assert (batch["mask"].sum(dim=2) == frames // 2).all()
    assert batch["masked"].shape == (3, 3, 11)
    assert batch["kept"].shape == (3, 3, 12)
    assert batch["num_kept"].tolist() == [12] * 3
    both = torch.cat([batch["masked"], batch["kept"]], dim=2).sort(dim=2).values
    assert (both == torch.arange(frames)).all()


def test_masks_follow_seed_epoch_item_and_length_but_no_neighbour(make: Any) -> None:
    recipe, _ = opened(make())
    pair = recipe.fetch("train", MicroBatch(draws(2, 5, epoch=1), (0.48,))).tensors
    other = recipe.fetch("train", MicroBatch(draws(5, 3, 2, epoch=1), (0.48,))).tensors
    for name in pair:
        assert torch.equal(pair[name], other[name][[2, 0]]), name
    later = recipe.fetch("train", MicroBatch(draws(2, 5, epoch=2), (0.48,))).tensors
    assert not torch.equal(pair["mask"], later["mask"])
    seeded, _ = opened(make().model_copy(update={"seed": 9}))
    assert not torch.equal(
        pair["mask"],
        seeded.fetch("train", MicroBatch(draws(2, 5, epoch=1), (0.48,))).tensors["mask"],
    )


def test_a_reader_process_reads_the_same(make: Any) -> None:
    recipe = open_recipe(make())
    sent = pickle.loads(pickle.dumps(recipe))
    ours = recipe.fetch("train", MicroBatch(draws(0, 1), (0.48,))).tensors
    theirs = sent.fetch("train", MicroBatch(draws(0, 1), (0.48,))).tensors
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


Sums = tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]


def losses_and_gradients(config: RunConfig, packs: list[Any], dtype: torch.dtype) -> Sums:
    """Return loss, weight, gradients and statistics of items packed in some way."""
    recipe, model = opened(config)
    model = model.to(dtype)
    recipe.start_state(model, CPU)
    total, weight = torch.zeros((), dtype=dtype), torch.zeros(())
    statistics: dict[str, Tensor] = {}
    for indices, shape in packs:
        batch = recipe.fetch("train", MicroBatch(draws(*indices), shape))
        batch.tensors["wave"] = batch.tensors["wave"].to(dtype)
        output = recipe.step(model, batch, context=StepContext(update=1))
        output.loss_sum.backward()
        total, weight = total + output.loss_sum.detach(), weight + output.weight
        for name, value in output.statistics.items():
            statistics[name] = statistics.get(name, 0.0) + value
    return total, weight, {n: p.grad for n, p in model.named_parameters()}, statistics


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize(
    "parts", [[(0, 1, 2), (3, 4)], [(4,), (3, 1), (0, 2)], [(0,), (1,), (2,), (3,), (4,)]]
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_any_split_by_utterance_equals_one_batch(
    make: Any, fit: str, parts: list[Any], dtype: torch.dtype, tolerance: float
) -> None:
    """The teacher and its targets are float32 in any case, so even double precision has its rounding."""
    config = make(data={"fit": fit}, model=STILL)
    shape = (0.48,) if fit == "crop" else ()
    loss, weight, grads, sums = losses_and_gradients(config, [((0, 1, 2, 3, 4), shape)], dtype)
    found = losses_and_gradients(config, [(part, shape) for part in parts], dtype)
    assert found[1] == weight > 0
    torch.testing.assert_close(found[0], loss, rtol=1e-6, atol=0)
    scale = max(float(grad.abs().max()) for grad in grads.values())
    for name, grad in grads.items():
        assert grad is not None, name
        torch.testing.assert_close(found[2][name], grad, rtol=0, atol=tolerance * scale)
    one, many = deviations(sums), deviations(found[3])
    for name in VARIANCES:
        torch.testing.assert_close(many[name], one[name], rtol=1e-5, atol=0)


def test_the_length_that_items_are_padded_to_changes_no_number(make: Any) -> None:
    config = make(data={"fit": "pad"}, model=STILL)
    items = [((0, 1, 2), ())]
    loss, weight, grads, _ = losses_and_gradients(config, items, torch.float64)
    found = losses_and_gradients(config, [((0, 1, 2), (0.98,))], torch.float64)
    assert found[1] == weight
    torch.testing.assert_close(found[0], loss, rtol=1e-6, atol=0)
    for name, grad in grads.items():
        torch.testing.assert_close(found[2][name], grad, rtol=1e-5, atol=1e-5)


def test_targets_have_mean_0_and_variance_1_over_the_time_of_an_item(make: Any) -> None:
    recipe, model = opened(make(loss={"average_layers": 1}, data={"fit": "pad"}))
    with torch.no_grad():
        # A network as narrow as this one starts with outputs that are small beside the norm's epsilon.
        recipe._teacher._network.layers[1].ffn_out.weight.mul_(100)
    batch = recipe.fetch("train", MicroBatch(draws(0, 4), (0.9,))).tensors
    local_BLD, valid_BL = model.local_features(batch["wave"], batch["length"])
    target_BLD = recipe._teacher.targets(local_BLD, valid_BL)
    for item, frames in enumerate((24, 39)):
        assert int(valid_BL[item].sum()) == frames
        real_LD = target_BLD[item, :frames]
        torch.testing.assert_close(real_LD.mean(dim=0), torch.zeros(16), rtol=0, atol=1e-5)
        var_D = real_LD.var(dim=0, unbiased=False)
        assert 0.99 < var_D.min() <= var_D.max() < 1.0001
    # The same as torch's where nothing is padded; and no padding has a target.
    alone_BLD = torch.nn.functional.instance_norm(local_BLD[:1, :24].transpose(1, 2)).transpose(
        1, 2
    )
    torch.testing.assert_close(
        normalised_over_time(local_BLD[:1, :24]), alone_BLD, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        normalised_over_time(local_BLD, valid_BL)[:1, :24], alone_BLD, rtol=1e-4, atol=1e-5
    )
    assert (target_BLD[0, 24:] == 0).all()


def test_a_target_is_the_mean_of_the_last_layers_feed_forward_outputs(make: Any) -> None:
    recipe, model = opened(make())
    local_BLD, _ = model.local_features(torch.randn(2, 320 * 20 + 80))
    network = recipe._teacher._network
    outs = [ffn for _, ffn in network.over_all(local_BLD)][1:]
    mean_BLD = torch.stack([normalised_over_time(out) for out in outs]).mean(dim=0)
    torch.testing.assert_close(recipe._teacher.targets(local_BLD), mean_BLD)
    last = Teacher(model.context, Data2Vec2Loss(average_layers=1))
    torch.testing.assert_close(last.targets(local_BLD), normalised_over_time(outs[-1]))


def test_the_teacher_follows_by_its_schedule_and_not_in_a_skipped_update(make: Any) -> None:
    recipe, model = opened(make())
    name = "teacher.layers.0.ffn_in.weight"
    start = recipe.state_dict().tensors[name].clone()
    with torch.no_grad():
        model.context.layers[0].ffn_in.weight.add_(1.0)

    def after(update: int, skipped: float = 0.0) -> Tensor:
        made = UpdateMade(
            Counters(updates=update - 1), update, skipped=torch.tensor(skipped), statistics={}
        )
        recipe.after_step(model, made)
        return recipe.state_dict().tensors[name] - start

    # Linear from 0.9 to 0.99 over 8 updates, a function of those made before.
    torch.testing.assert_close(after(1), torch.full((24, 16), 1 - 0.9))
    torch.testing.assert_close(after(2, skipped=1.0), torch.full((24, 16), 1 - 0.9))
    torch.testing.assert_close(after(5), torch.full((24, 16), 1 - 0.9 * 0.945))
    torch.testing.assert_close(after(9), torch.full((24, 16), 1 - 0.9 * 0.945 * 0.99))
    assert recipe._teacher.decay(Counters(updates=10**6)) == 0.99


def test_a_decay_of_1_freezes_the_teacher(make: Any) -> None:
    recipe, model = opened(make(loss={"teacher_end_decay": 1.0}))
    before = {name: t.clone() for name, t in recipe.state_dict().tensors.items()}
    with torch.no_grad():
        for param in model.parameters():
            param.add_(1.0)
    made = UpdateMade(Counters(updates=8), 9, skipped=torch.tensor(0.0), statistics={})
    recipe.after_step(model, made)
    assert all(torch.equal(before[n], t) for n, t in recipe.state_dict().tensors.items())


@pytest.mark.parametrize(
    ("decay", "updates"),
    [(0.999, 693), (0.9997, 2310), (0.9999, 6931), (0.99999, 69_314), (1.0, float("inf"))],
)
def test_half_lives_are_the_published_ones(decay: float, updates: float) -> None:
    assert half_life(decay) == pytest.approx(updates, abs=1)


def test_the_loss_is_the_scaled_square_over_masked_frames(make: Any) -> None:
    recipe, model = opened(make(model=STILL))
    batch = recipe.fetch("train", MicroBatch(draws(0, 1), (0.48,)))
    output = recipe.step(model, batch, context=StepContext(update=1))
    with torch.no_grad():
        # A decoder that puts out zeros: the loss is sqrt(D) times the mean square of the targets.
        model.decoder.projection.weight.zero_()
        model.decoder.projection.bias.zero_()
        zeros = recipe.step(model, batch, context=StepContext(update=1))
    assert output.weight == 2 * 3 * 11
    local_BLD, _ = model.local_features(batch.tensors["wave"])
    target_BLD = recipe._teacher.targets(local_BLD)
    mask_BML = batch.tensors["mask"]
    squares = [
        target_BLD[item][mask_BML[item, clone]].square().mean()
        for item in range(2)
        for clone in range(3)
    ]
    expected = 16**0.5 * torch.stack(squares).mean()
    torch.testing.assert_close(zeros.loss_sum / zeros.weight, expected)
    assert output.metrics["ema_decay"][0] == pytest.approx(0.9)


def test_validation_does_not_depend_on_what_is_evaluated_together(make: Any) -> None:
    found = []
    for fit, most in (("pad", 1), ("pad", 3), ("crop", 1), ("crop", 3)):
        recipe, model = opened(make(data={"fit": fit}, validation={"batch_items": most}))
        with torch.no_grad():
            found.append(recipe.evaluate(model.eval(), CPU))
    for one, other in ((found[0], found[1]), (found[2], found[3])):
        np.testing.assert_allclose(one.items["val_loss"], other.items["val_loss"], rtol=1e-5)
        assert one.metrics == pytest.approx(other.metrics, rel=1e-4)
        assert set(one.metrics) == {"val_loss", *(f"val_{name}" for name in VARIANCES)}
        assert one.num_items == 3


@pytest.mark.parametrize("asks", [3, 6])
def test_a_run_that_was_stopped_goes_on_bit_by_bit(
    make: Any,
    tmp_path: Path,
    new_recorder: Any,
    stop_after: Any,
    checkpoint_tensors: Any,
    asks: int,
) -> None:
    """Weights, moments, teacher and curves, the decay among them, with dropout and dropped layers."""
    config = make(model={"layer_drop": 0.3})

    def train(folder: Path, updates: float, recorder: Any) -> None:
        Trainer(
            config,
            open_recipe(config),
            folder=folder,
            observers=[recorder],
            control=stop_after(updates),
        ).fit()

    whole, parts = new_recorder(), new_recorder()
    train(tmp_path / "whole", float("inf"), whole)
    train(tmp_path / "parts", asks, parts)
    assert max(parts.curve("loss")) == asks
    train(tmp_path / "parts", float("inf"), parts)
    for name in ("loss", "ema_decay", *VARIANCES):
        assert parts.curve(name) == whole.curve(name), name
        assert sorted(whole.curve(name)) == list(range(1, 11))
    assert len(set(whole.curve("ema_decay").values())) == 9
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000010")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert any("teacher.layers.0.ffn_in.weight" in name for name in one), sorted(one)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_curves_show_all_three_deviations_alive(
    make: Any, tmp_path: Path, recorder: Any, stop_after: Any
) -> None:
    config = make()
    recipe = open_recipe(config)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    for name in VARIANCES:
        assert min(recorder.curve(name).values()) > 0.05, name


def test_utterances_too_short_for_a_mask_are_refused_with_a_duration_that_will_do(
    make: Any,
) -> None:
    with pytest.raises(
        ConfigError, match=r"data.min_s allows utterances of 0.04 s, .* at least 0.065"
    ):
        make(data={"min_s": 0.05})
    make(data={"min_s": 0.065})
    recipe, model = opened(make(data={"min_s": 0.065}, model=STILL))
    output = recipe.step(model, recipe.worst_batch(2, (0.06,)), context=StepContext(update=1))
    assert output.weight == 2 * 3
    assert output.loss_sum.isfinite()


def test_layers_that_are_asked_for_and_missing_are_refused(make: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"loss.average_layers = 3, but the model has only model.layers = 2"
    ):
        make(loss={"average_layers": 3})


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ({"mask_prob": 0.8, "mask_prob_adjust": 0.3}, "mask_prob_adjust = 0.3 is too large"),
        ({"teacher_decay": 0.99, "teacher_end_decay": 0.9}, "must not be below teacher_decay"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    make: Any, loss: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        make(loss=loss)


def test_a_constant_extractor_is_seen_in_the_features_and_not_in_the_targets(make: Any) -> None:
    """As in fairseq#5239: the position of a frame still tells frames apart, so the published guards see nothing."""
    recipe, model = opened(make(model=STILL))
    healthy = recipe.fetch("train", MicroBatch(draws(0, 1, 2), (0.48,)))
    alive = deviations(recipe.step(model, healthy, context=StepContext(update=1)).statistics)
    with torch.no_grad():
        model.feature_projection.weight.zero_()
    dead = deviations(recipe.step(model, healthy, context=StepContext(update=1)).statistics)
    assert alive["feature_var"] > 0.1
    assert dead["feature_var"] < 0.002
    assert dead["target_var"] > 0.1


@pytest.mark.parametrize("part", ["extractor", "none"])
def test_a_collapsed_encoder_ends_the_run_with_the_reason_and_a_healthy_one_does_not(
    make: Any, tmp_path: Path, recorder: Any, stop_after: Any, part: str
) -> None:
    config = make(schedule={"length": "40 updates"}, loss={"guard_after": 10})
    recipe = open_recipe(config)
    built = recipe.build_model

    def build() -> Any:
        model = built()
        if part == "extractor":
            # A constant for every waveform, which no gradient can change.
            model.feature_projection.weight.detach_().zero_()
            model.feature_projection.weight.requires_grad_(False)
        return model

    recipe.build_model = build  # type: ignore[method-assign]
    trainer = Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after())
    if part == "none":
        assert trainer.fit().outcome == "finished"
        return
    with pytest.raises(
        TrainingCollapsed, match=r"local features of different utterances are nearly all alike"
    ):
        trainer.fit()
    assert 30 <= max(recorder.curve("loss")) <= 40


@pytest.mark.parametrize(
    ("name", "low", "healthy"),
    [("target_var", 0.09, 0.11), ("prediction_var", 0.009, 0.011), ("feature_var", 0.01, 0.03)],
)
def test_each_deviation_has_its_limit_which_has_to_last(
    name: str, low: float, healthy: float
) -> None:
    settings = Data2Vec2Loss(guard_after=100)
    updates = np.arange(1, 201)

    def found(values: np.ndarray) -> list[Any]:
        series = {other: np.ones(200) for other in VARIANCES} | {name: values}
        return find_collapse(CurvePoints(updates, series), settings)

    def from_to(first: int, last: int) -> np.ndarray:
        return np.where((updates >= first) & (updates <= last), low, healthy)

    (finding,) = found(from_to(150, 200))
    assert finding.ends
    assert f"{name} = {low}" in finding.text
    assert found(from_to(1, 100)) == found(from_to(190, 200)) == found(from_to(1, 115)) == []
    assert found(np.full(200, np.nan)) == []
    free = Data2Vec2Loss(guard_after=100, **{f"min_{name}": 0.0})
    series = {other: np.ones(200) for other in VARIANCES} | {name: from_to(1, 200)}
    assert find_collapse(CurvePoints(updates, series), free) == []


def test_deviations_are_those_over_all_masked_frames_and_between_items() -> None:
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randn(2, 4, 6, 5, generator=generator)
    used = torch.rand(4, 6, generator=generator) < 0.7
    local = torch.randn(7, 40, 5, generator=generator)
    sums = frame_sums(pred, target, used_NQ=used) | feature_sums(local, None, step=2)
    found = deviations(sums)
    torch.testing.assert_close(
        found["target_var"], target[used].std(dim=0).mean(), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        found["prediction_var"], pred[used].std(dim=0).mean(), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        found["feature_var"], local[:, :32:2].std(dim=0).mean(), rtol=1e-4, atol=0
    )
    one = frame_sums(pred, target, used_NQ=used) | feature_sums(local[:1], None, step=2)
    assert deviations(one)["feature_var"].isnan()


def test_base_settings_are_the_published_ones() -> None:
    model, loss = Data2Vec2Config(), Data2Vec2Loss()
    assert (model.layers, model.dim, model.heads, model.ffn) == (12, 768, 12, 3072)
    assert (loss.clones, loss.mask_prob, loss.mask_prob_adjust, loss.mask_length) == (
        8,
        0.5,
        0.05,
        5,
    )
    assert (loss.average_layers, loss.teacher_decay, loss.teacher_end_decay) == (8, 0.999, 0.99999)
    assert not loss.inverse_mask
