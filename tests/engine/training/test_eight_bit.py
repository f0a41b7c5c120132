"""Claims about moments in 8 bits: those of bitsandbytes, near those in 32, resumed exactly; skipped without the package."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import nn

from engine.config.errors import ConfigError
from engine.config.sections import OptimizerConfig
from engine.measuring.required import require_optimizer
from engine.recipes.separation.recipe import SeparationRecipe
from engine.recipes.weights import ParameterGroup
from engine.training.eight_bit import EightBitAdamW
from engine.training.optimizer import FusedAdamW
from engine.training.trainer import Trainer

ONE, NO = torch.ones(()), torch.zeros(())
CONFIG = OptimizerConfig(weight_decay=0.1, decay_vectors=False)


@pytest.fixture
def bitsandbytes() -> Any:
    return pytest.importorskip("bitsandbytes")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64))


def give_gradients(model: nn.Module, number: int) -> None:
    torch.manual_seed(number)
    for param in model.parameters():
        param.grad = torch.randn_like(param) * 0.1


def test_large_tensors_are_those_of_bitsandbytes_and_small_ones_those_of_the_fused_kernel(
    bitsandbytes,
):
    ours, theirs, fused = network(), network(), network()
    optimizer = EightBitAdamW(ours, CONFIG)
    plain = FusedAdamW(fused, CONFIG)
    weights = [param for param in theirs.parameters() if param.ndim > 1]
    other = bitsandbytes.optim.AdamW8bit(
        weights, lr=1e-2, betas=(CONFIG.beta1, CONFIG.beta2), eps=CONFIG.eps, weight_decay=0.1
    )
    for number in range(20):
        for model in (ours, theirs, fused):
            give_gradients(model, number)
        optimizer.step(lr=1e-2, divisor=ONE, skipped=NO)
        plain.step(lr=1e-2, divisor=ONE, skipped=NO)
        other.step()
    for (name, one), two, three in zip(
        ours.named_parameters(), theirs.parameters(), fused.parameters(), strict=True
    ):
        assert torch.equal(one, two if one.ndim > 1 else three), name
        # Eight bits are enough to go the same way.
        torch.testing.assert_close(one, three, atol=0.02, rtol=0)


def test_it_learns_what_32_bits_learn(bitsandbytes):
    def loss_after(kind: Any) -> float:
        model = network()
        optimizer = kind(model, OptimizerConfig(weight_decay=0.0))
        torch.manual_seed(1)
        x, y = torch.randn(32, 64), torch.randn(32, 64)
        for _ in range(150):
            optimizer.clear_gradients()
            loss = (model(x) - y).square().mean()
            loss.backward()
            optimizer.step(lr=3e-3, divisor=ONE, skipped=NO)
        return float(loss)

    assert loss_after(EightBitAdamW) == pytest.approx(loss_after(FusedAdamW), rel=0.25, abs=0.02)


def test_a_skipped_update_changes_nothing_and_the_divisor_divides(bitsandbytes):
    model, other = network(), network()
    optimizer, divided = EightBitAdamW(model, CONFIG), EightBitAdamW(other, CONFIG)
    give_gradients(model, 0)
    before = {name: t.clone() for name, t in optimizer.state_dict().items()}
    start = [param.detach().clone() for param in model.parameters()]
    optimizer.step(lr=1e-2, divisor=ONE, skipped=ONE)
    assert all(torch.equal(before[name], t) for name, t in optimizer.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))
    give_gradients(other, 0)
    for param in other.parameters():
        param.grad.mul_(4.0)
    optimizer.step(lr=1e-2, divisor=ONE, skipped=NO)
    divided.step(lr=1e-2, divisor=torch.tensor(4.0), skipped=NO)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_groups_have_their_rates_and_state_is_a_quarter(bitsandbytes):
    model = network()
    groups = [
        ParameterGroup("low", ["0.weight", "0.bias"], 0.5),
        ParameterGroup("high", ["2.weight", "2.bias"]),
    ]
    optimizer = EightBitAdamW(model, OptimizerConfig(weight_decay=0.0), groups=groups)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for param in model.parameters():
        param.grad = torch.full_like(param, 0.3)
    optimizer.step(lr=0.1, divisor=ONE, skipped=NO)
    for name, param in model.named_parameters():
        moved = (before[name] - param.detach()).flatten()
        expected = 0.05 if name.startswith("0.") else 0.1
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=0.02, atol=0)
    size, full = (
        sum(t.nbytes for t in one.state_dict().values())
        for one in (optimizer, FusedAdamW(model, CONFIG))
    )
    assert size < 0.3 * full
    assert {"step.low", "step8.low", "step.high", "step8.high"} <= optimizer.state_dict().keys()


def test_a_run_stopped_and_resumed_is_bit_identical(
    bitsandbytes, tmp_path, make_config, recorder, stop_after, checkpoint_tensors
):
    config = make_config(
        optimizer={"eight_bit": True}, model={"width": 16, "strides": [2, 2]},
        schedule={"length": "8 updates"},
    )  # fmt: skip

    def fit(name: str, control: Any) -> Any:
        Trainer(
            config, SeparationRecipe(config), folder=tmp_path / name, observers=[recorder],
            control=control,
        ).fit()  # fmt: skip
        return tmp_path / name / "checkpoints"

    whole = fit("whole", stop_after())
    fit("parts", stop_after(3))
    parts = fit("parts", stop_after())
    one, other = (checkpoint_tensors(place / "last-000008") for place in (whole, parts))
    assert any("exp_avg_code" in name for name in one)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_the_package_a_run_is_refused_in_one_line(monkeypatch, make_config):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    config = OptimizerConfig(eight_bit=True)
    for refused in (lambda: require_optimizer(config), lambda: EightBitAdamW(network(), config)):
        with pytest.raises(ConfigError) as found:
            refused()
        text = str(found.value)
        assert "pip install 'sepdash[eight-bit]'" in text
        assert "\n" not in text
    require_optimizer(OptimizerConfig())
