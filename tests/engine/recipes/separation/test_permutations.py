"""Orders of interchangeable sources, against answers made by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from engine.config.losses import L1Loss, LossConfig, SiSdrLoss, SpectralLoss
from engine.metrics.signal import si_sdr
from engine.recipes.separation.losses import build_loss
from engine.recipes.separation.permutations import (
    best_order,
    continued,
    in_order,
    permutation_invariant,
)

NAN = float("nan")


def speech(batch: int = 3, sources: int = 3, channels: int = 1, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, sources, channels, 400, generator=generator)


@pytest.mark.parametrize(
    ("score", "order"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1]),
        ([[0.0, 1.0], [1.0, 0.0]], [1, 0]),
        # Both references like estimate 0 best; the sum decides: 9 + 1 < 8 + 5.
        ([[9.0, 8.0], [5.0, 1.0]], [1, 0]),
        # The second reference is silent: it takes what is left.
        ([[3.0, NAN], [7.0, NAN]], [1, 0]),
        ([[NAN, NAN], [NAN, NAN]], [0, 1]),
        # A cycle: estimate 0 is reference 1, 1 is 2, 2 is 0.
        ([[0.0, 5.0, 0.0], [0.0, 0.0, 5.0], [5.0, 0.0, 0.0]], [2, 0, 1]),
    ],
)
def test_best_order_by_hand(score: list[list[float]], order: list[int]) -> None:
    assert best_order(torch.tensor([score])).tolist() == [order]


def test_each_item_has_its_own_order() -> None:
    score = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    order = best_order(score)
    assert order.tolist() == [[0, 1], [1, 0]]
    estimates = torch.tensor([[10.0, 20.0], [30.0, 40.0]]).reshape(2, 2, 1, 1)
    assert in_order(estimates, order).flatten().tolist() == [10, 20, 40, 30]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_shuffled_estimates_come_back(order: tuple[int, ...]) -> None:
    ref = speech()
    est = ref[:, list(order)]
    score = si_sdr(est.unsqueeze(2), ref.unsqueeze(1), joint_channels=True)
    assert torch.equal(in_order(est, best_order(score)), ref)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize(
    "config",
    [
        SiSdrLoss(),
        L1Loss(),
        SpectralLoss(windows=(64, 16)),
        SpectralLoss(windows=(64, 16), reduction="sum"),
    ],
)
def test_loss_is_the_smallest_over_all_orders(config: LossConfig, order: tuple[int, ...]) -> None:
    loss = build_loss(config)
    ref, noise = speech(channels=2), speech(channels=2, seed=1)
    est = (ref + 0.5 * noise)[:, list(order)]
    by_hand = torch.stack([loss(est[:, list(p)], ref) for p in permutations(range(3))])
    invariant = permutation_invariant(loss, total=config.adds_sources)
    torch.testing.assert_close(invariant(est, ref), by_hand.amin(dim=0))
    torch.testing.assert_close(invariant(est, ref), loss(ref + 0.5 * noise, ref))


def test_gradient_is_that_of_the_chosen_order() -> None:
    loss = build_loss(SiSdrLoss())
    ref = speech(sources=2)
    est = (ref + 0.3 * speech(sources=2, seed=1)).flip(1).requires_grad_()
    plain = est.detach().clone().requires_grad_()
    permutation_invariant(loss, total=False)(est, ref).sum().backward()
    loss(plain.flip(1), ref).sum().backward()
    torch.testing.assert_close(est.grad, plain.grad)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_sources_of_the_next_chunk_go_on_with_those_before(order: tuple[int, ...]) -> None:
    before = speech(batch=1)[0].numpy()
    after = (before + 0.1)[list(order)].astype(np.float32)
    np.testing.assert_array_equal(after[continued(before, after)], before + np.float32(0.1))
