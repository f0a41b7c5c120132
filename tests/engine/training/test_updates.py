"""One update: equal to torch's own, whatever the accumulation; nothing moves when it is not finite."""

from __future__ import annotations

import pytest
import torch

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.counters import UpdateSize
from engine.config.sections import EmaConfig
from engine.training.ema import Ema
from engine.training.optimizer import FusedAdamW
from engine.training.updates import Updater

CPU = torch.device("cpu")


@pytest.fixture
def make_updater(make_config, line_recipe):
    def make(*, ema=False, poisoned=(), **sections):
        config = make_config(**sections)
        recipe = line_recipe(dropout=0.0, poisoned=poisoned)
        torch.manual_seed(0)
        model = recipe.build_model()
        optimizer = FusedAdamW(model, config.optimizer)
        average = Ema(model, config.ema, UpdateSize(1, 4, audio_seconds=4.0)) if ema else None
        updater = Updater(recipe, model, optimizer, config=config, device=CPU, ema=average)
        return updater, model, optimizer, average, recipe

    return make


def _split(recipe, epoch: int, sizes: list[int]) -> list[Batch]:
    draws = iter([ItemDraw(epoch, index) for index in range(sum(sizes))])
    return [
        recipe.fetch("train", MicroBatch(tuple(next(draws) for _ in range(size)))) for size in sizes
    ]


@pytest.mark.parametrize("clip_norm", [0.0, 0.3])
@pytest.mark.parametrize("decay_vectors", [True, False])
def test_equals_torch_adamw_with_clipping(make_updater, line_recipe, clip_norm, decay_vectors):
    updater, model, _, _, recipe = make_updater(
        optimizer={"clip_norm": clip_norm, "weight_decay": 0.5, "decay_vectors": decay_vectors}
    )
    torch.manual_seed(0)
    twin = recipe.build_model()
    vectors = [param for param in twin.parameters() if param.ndim == 1]
    matrices = [param for param in twin.parameters() if param.ndim == 2]
    groups = [
        {"params": matrices, "weight_decay": 0.5},
        {"params": vectors, "weight_decay": 0.5 if decay_vectors else 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=1e-2)
    for update in range(1, 6):
        (batch,) = _split(recipe, update, [6])
        result = updater.run(update, [batch], lr=1e-2)
        reference.zero_grad()
        loss = (twin(batch.tensors["x"]) - batch.tensors["y"]).square().mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), clip_norm or float("inf"))
        reference.step()
        assert result.loss_sum / result.weight == pytest.approx(loss.item(), rel=1e-6)
        assert result.grad_norm == pytest.approx(norm.item(), rel=1e-5)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sizes", [[3, 3], [5, 1], [1] * 6])
def test_accumulation_changes_nothing(make_updater, sizes):
    whole, model, _, _, recipe = make_updater()
    split, twin, _, _, _ = make_updater()
    for update in range(1, 4):
        a = whole.run(update, _split(recipe, update, [6]), lr=1e-2)
        b = split.run(update, _split(recipe, update, sizes), lr=1e-2)
        assert (a.weight, a.loss_sum.item()) == (b.weight, pytest.approx(b.loss_sum.item()))
        assert a.grad_norm.item() == pytest.approx(b.grad_norm.item(), rel=1e-6)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_update_that_is_not_finite_moves_nothing(make_updater, dtype):
    updater, model, optimizer, average, recipe = make_updater(
        ema=True, poisoned=[9], precision={"dtype": dtype}
    )
    updater.run(1, _split(recipe, 1, [6]), lr=1e-2)
    before = [t.clone() for t in (*model.parameters(), *optimizer.state_dict().values())]
    before += [t.clone() for t in average.state_dict().values()]
    result = updater.run(2, _split(recipe, 2, [6, 6]), lr=1e-2)
    after = [*model.parameters(), *optimizer.state_dict().values(), *average.state_dict().values()]
    assert not torch.isfinite(result.loss_sum)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    if dtype == "fp16":
        assert updater.loss_scale.value == 2.0**11
    updater.run(3, _split(recipe, 3, [6]), lr=1e-2)
    assert not torch.equal(before[0], next(model.parameters()))
    assert optimizer.state_dict()["step"] == 2


def test_fp16_scale_does_not_change_the_norm(make_updater):
    full, _, _, _, recipe = make_updater()
    half, _, _, _, _ = make_updater(precision={"dtype": "fp16"})
    a = full.run(1, _split(recipe, 1, [6]), lr=1e-2)
    b = half.run(1, _split(recipe, 1, [6]), lr=1e-2)
    assert b.grad_norm.item() == pytest.approx(a.grad_norm.item(), rel=2e-2)


def test_average_by_hand_on_both_paths():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    ema = Ema(model, EmaConfig(decay=0.999), UpdateSize(1, 1, audio_seconds=1.0))
    torch.nn.init.constant_(model.weight, 11.0)
    ema.update(1, skipped=torch.tensor(0.0))
    assert ema.state_dict()["weight"].item() == pytest.approx(9.0)
    ema.update(2, skipped=torch.tensor(1.0))
    assert ema.state_dict()["weight"].item() == pytest.approx(9.0)


def test_average_is_swapped_in_and_out_even_after_an_error():
    model = torch.nn.Linear(2, 2)
    ema = Ema(model, EmaConfig(), UpdateSize(1, 1, audio_seconds=1.0))
    average = ema.state_dict()["weight"].clone()
    torch.nn.init.constant_(model.weight, 5.0)
    seen = []

    def fail_inside() -> None:
        with ema.swapped():
            seen.append(model.weight.clone())
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert torch.equal(seen[0], average)
    assert (model.weight == 5).all()
    assert torch.equal(ema.state_dict()["weight"], average)


def test_restart_takes_the_weights():
    model = torch.nn.Linear(1, 1)
    ema = Ema(model, EmaConfig(restart_at="3 updates"), UpdateSize(1, 1, audio_seconds=1.0))
    torch.nn.init.constant_(model.weight, 7.0)
    ema.update(3, skipped=torch.tensor(0.0))
    assert ema.state_dict()["weight"].item() == 7
