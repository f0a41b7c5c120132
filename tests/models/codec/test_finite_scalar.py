"""Finite scalar quantisation: by hand, exact in both directions, and its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from models.codec.finite_scalar import FiniteScalarQuantiser

LEVELS = [(8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (3,), (4, 3)]


def test_three_levels_by_hand():
    # tanh(z) * 1.001 is rounded: the borders are at tanh(z) = 0.5 / 1.001, z = 0.549.
    found = FiniteScalarQuantiser((3,))(torch.tensor([[-9.0], [-0.6], [-0.5], [0.5], [0.6], [9.0]]))
    assert found.vectors_ND.flatten().tolist() == [-1, -1, 0, 0, 1, 1]
    assert found.index_N.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.distance_N.tolist() == [0.0] * 6


def test_an_even_number_of_levels_is_moved_by_half_a_level():
    # Levels -2, -1, 0, 1 over 2: 0 stays 0, and the range is reached on both sides.
    found = FiniteScalarQuantiser((4,))(torch.tensor([[-9.0], [0.0], [9.0]]))
    assert found.vectors_ND.flatten().tolist() == [-1.0, 0.0, 0.5]
    assert found.index_N.tolist() == [0, 2, 3]


def test_an_index_counts_the_first_dimension_fastest():
    quantiser = FiniteScalarQuantiser((4, 3))
    assert quantiser.indices_to_codes(torch.tensor([0, 3, 4, 11])).tolist() == [
        [-1.0, -1.0], [0.5, -1.0], [-1.0, 0.0], [0.5, 1.0],
    ]  # fmt: skip


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_and_indices_are_exact_in_both_directions(levels):
    quantiser = FiniteScalarQuantiser(levels)
    assert quantiser.num_codes == math.prod(levels)
    every_N = torch.arange(quantiser.num_codes)
    codes_ND = quantiser.indices_to_codes(every_N)
    assert torch.equal(quantiser.codes_to_indices(codes_ND), every_N)
    assert len(torch.unique(codes_ND, dim=0)) == quantiser.num_codes
    torch.manual_seed(0)
    found = quantiser(2 * torch.randn(5, 1000, len(levels)))
    assert torch.equal(quantiser.indices_to_codes(found.index_N), found.vectors_ND)
    assert torch.equal(quantiser.codes_to_indices(found.vectors_ND), found.index_N)


def test_normal_input_uses_every_code():
    torch.manual_seed(0)
    found = FiniteScalarQuantiser((8, 5, 5, 5))(torch.randn(20_000, 4))
    assert len(torch.unique(found.index_N)) == 1000


def test_the_gradient_passes_the_rounding_and_not_the_saturation():
    z_N1 = torch.tensor([[0.3], [-1.0], [9.0]], requires_grad=True)
    FiniteScalarQuantiser((5,))(z_N1).vectors_ND.sum().backward()
    # d/dz of tanh(z) * 4 * 1.001 / 2, over 5 // 2.
    expected = [1.001 * (1 - math.tanh(z) ** 2) for z in (0.3, -1.0, 9.0)]
    assert z_N1.grad is not None
    assert z_N1.grad.flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert z_N1.grad[2] < 1e-6


def test_it_computes_in_float32_under_autocast():
    quantiser = FiniteScalarQuantiser((64,))
    z_N1 = torch.linspace(-3, 3, 500)[:, None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantiser(z_N1)
    assert found.vectors_ND.dtype == torch.float32
    assert torch.equal(found.vectors_ND, quantiser(z_N1).vectors_ND)
