"""Claims about groups of parameters: own rates, own clocks, and the same optimizer where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.config.sections import OptimizerConfig
from engine.recipes.weights import ParameterGroup
from engine.training.optimizer import FusedAdamW

ONE, NO = torch.ones(()), torch.zeros(())
CONFIG = OptimizerConfig(weight_decay=0.0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def groups(**ratios):
    return [
        ParameterGroup("low", ["0.weight", "0.bias"], ratios.get("low", 1.0)),
        ParameterGroup("high", ["1.weight", "1.bias"], ratios.get("high", 1.0)),
    ]


def give_gradients(model, number, *, names=("0", "1")):
    torch.manual_seed(number)
    for name, param in model.named_parameters():
        grad = torch.randn_like(param)
        param.grad = grad if name.split(".")[0] in names else None


def test_groups_alike_are_one_optimizer():
    one, two = network(), network()
    plain, grouped = FusedAdamW(one, CONFIG), FusedAdamW(two, CONFIG, groups=groups())
    for number in range(5):
        for model, optimizer in ((one, plain), (two, grouped)):
            give_gradients(model, number)
            optimizer.step(lr=0.1, divisor=ONE, skipped=torch.tensor(float(number == 3)))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert float(plain.state_dict()["step"]) == float(grouped.state_dict()["step.low"]) == 4


def test_a_group_has_its_own_rate():
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    give_gradients(model, 0)
    FusedAdamW(model, CONFIG, groups=groups(low=0.25)).step(lr=0.1, divisor=ONE, skipped=NO)
    # The first step of Adam is the rate, whatever the gradient.
    moved = {name: (p.detach() - before[name]).abs() for name, p in model.named_parameters()}
    assert moved["0.weight"].flatten().tolist() == pytest.approx([0.025] * 12, rel=1e-4)
    assert moved["1.weight"].flatten().tolist() == pytest.approx([0.1] * 8, rel=1e-4)


def test_a_group_that_joins_late_starts_like_a_new_optimizer():
    model, fresh = network(), network()
    optimizer = FusedAdamW(model, CONFIG, groups=groups())
    start = model[0].weight.detach().clone()
    for number in range(50):
        give_gradients(model, number, names=("1",))
        optimizer.step(lr=0.1, divisor=ONE, skipped=NO)
    assert torch.equal(model[0].weight, start)
    new = FusedAdamW(fresh, CONFIG)
    for number in range(50, 60):
        for net, optim in ((model, optimizer), (fresh, new)):
            give_gradients(net, number)
            optim.step(lr=0.1, divisor=ONE, skipped=NO)
    assert torch.equal(model[0].weight, fresh[0].weight)
    state = optimizer.state_dict()
    assert (float(state["step.low"]), float(state["step.high"])) == (10, 60)


def test_the_state_of_groups_is_restored():
    model, other = network(), network()
    optimizer = FusedAdamW(model, CONFIG, groups=groups(low=0.5))
    give_gradients(model, 0, names=("1",))
    optimizer.step(lr=0.1, divisor=ONE, skipped=NO)
    copy = FusedAdamW(other, CONFIG, groups=groups(low=0.5))
    copy.load_state_dict(optimizer.state_dict())
    assert all(torch.equal(copy.state_dict()[n], t) for n, t in optimizer.state_dict().items())
    with pytest.raises(ValueError, match="different parameters"):
        FusedAdamW(other, CONFIG).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(
    "names", [["0.weight", "0.bias"], ["0.weight", "0.bias", "1.weight", "1.bias", "1.bias"]]
)
def test_groups_hold_every_parameter_once(names):
    with pytest.raises(ValueError, match="each trainable parameter once"):
        FusedAdamW(network(), CONFIG, groups=[ParameterGroup("all", names)])
