"""Claims about the building blocks: lengths, edges, gradients, fresh weights."""

import pytest
import torch
import torch.nn.functional as F

from models.layers.blocks import DownConv, ResidualUnit, SameConv, UpConv, group_norm, pad_edges


def test_edges_are_repeated_by_hand_made_answer():
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert pad_edges(x, 2, right=1).tolist() == [[[1, 1, 1, 2, 3, 3]]]
    assert pad_edges(x, 0, right=0) is x


def test_padding_equals_torchs_replicate_in_value_and_gradient():
    mine = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    weights = torch.randn(2, 3, 16, dtype=torch.float64)
    (pad_edges(mine, 4, right=5) * weights).sum().backward()
    (F.pad(theirs, (4, 5), mode="replicate") * weights).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_padding_works_longer_than_the_signal():
    assert pad_edges(torch.ones(1, 1, 1), 9, right=9).shape == (1, 1, 19)


@pytest.mark.parametrize("stride", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_down_and_up_change_the_length_by_the_stride(stride, frames):
    down, up = DownConv(2, 3, stride=stride), UpConv(3, 2, stride=stride)
    low = down(torch.randn(2, 2, frames * stride))
    assert low.shape == (2, 3, frames)
    assert up(low).shape == (2, 2, frames * stride)


@pytest.mark.parametrize("stride", [1, 2, 3, 8])
def test_up_conv_of_a_constant_has_no_edge(stride):
    """Away from and at the ends a constant input meets the same two taps, one period apart."""
    torch.manual_seed(0)
    y = UpConv(2, 2, stride=stride)(torch.ones(1, 2, 5)).reshape(2, 5, stride)
    torch.testing.assert_close(y, y[:, :1].expand_as(y))


@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_residual_unit_keeps_one_sample_signals(dilation):
    assert ResidualUnit(4, dilation=dilation)(torch.randn(1, 4, 1)).shape == (1, 4, 1)


def test_weight_norm_counts_a_size_for_each_output_channel():
    same, up = SameConv(4, 6, kernel=3, norm="weight"), UpConv(4, 6, stride=2, norm="weight")
    assert same.conv.parametrizations.weight.original0.shape == (6, 1, 1)
    assert up.conv.parametrizations.weight.original0.shape == (1, 6, 1)


@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (48, 3), (256, 16), (24, 1), (4, 1)])
def test_group_norm_holds_sixteen_channels_a_group(channels, groups):
    assert group_norm(channels, "group").num_groups == groups


def test_fresh_residual_units_keep_the_level_of_a_signal_through_depth():
    torch.manual_seed(0)
    y = torch.randn(1, 64, 2048)
    for _ in range(12):
        y = ResidualUnit(64, dilation=1)(y)
    assert 0.5 < y.std().item() < 2.0


def test_edges_are_repeated_in_two_dimensions_by_hand_made_answer():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert pad_edges(x, 1, right=0, dims=2).tolist() == [[[[1, 1, 2], [1, 1, 2], [3, 3, 4]]]]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_two_dimensional_blocks_change_both_sizes_by_the_stride(stride):
    down = DownConv(2, 3, stride=stride, dims=2)
    up = UpConv(3, 2, stride=stride, norm="weight", dims=2)
    low = down(torch.randn(2, 2, 5 * stride, 3 * stride))
    assert low.shape == (2, 3, 5, 3)
    assert up(low).shape == (2, 2, 5 * stride, 3 * stride)
    assert up.conv.parametrizations.weight.original0.shape == (1, 2, 1, 1)


def test_fresh_two_dimensional_units_keep_the_level_of_a_signal_through_depth():
    torch.manual_seed(0)
    y = torch.randn(1, 32, 40, 40)
    for _ in range(8):
        y = ResidualUnit(32, dilation=1, norm="weight", dims=2)(y)
    assert 0.5 < y.std().item() < 2.0
