"""Claims about the network of data2vec 2.0: only kept frames are seen, padding and packing change nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.self_supervised.data2vec2 import Data2Vec2, Masks, alibi_slopes
from models.self_supervised.data2vec2_settings import Data2Vec2Config
from models.self_supervised.features import GivesLayerFeatures

TINY: dict[str, Any] = {
    "conv_channels": (8, 8, 8, 8, 8, 8, 8), "layers": 2, "dim": 16, "heads": 2, "ffn": 24,
    "pos_conv_layers": 2, "pos_conv_width": 7, "pos_conv_groups": 4, "decoder_layers": 2,
    "decoder_dim": 8, "decoder_kernel": 3, "decoder_groups": 4,
}  # fmt: skip
B, M, SAMPLES = 3, 2, 320 * 20 + 80  # 20 frames


class Identity(nn.Module):
    """A decoder that changes nothing."""

    def forward(self, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
        return x_NLD

    def project(self, x_NLD: Tensor) -> Tensor:
        return x_NLD


def network(**changes: Any) -> Data2Vec2:
    torch.manual_seed(0)
    return Data2Vec2(Data2Vec2Config(**{**TINY, **changes})).double()


def masks_of(mask_BML: Tensor, frames_B: Tensor | None = None) -> Masks:
    """The same as lists of places, built by hand: every row of an item masks equally many frames."""
    frames_B = torch.full((len(mask_BML),), mask_BML.shape[2]) if frames_B is None else frames_B
    inside_BML = (torch.arange(mask_BML.shape[2]) < frames_B[:, None])[:, None]
    lists = []
    for flag_BML in (~mask_BML & inside_BML, mask_BML):
        most = int(flag_BML.sum(2).max())
        places = torch.zeros(*mask_BML.shape[:2], most, dtype=torch.int64)
        for item, rows in enumerate(flag_BML):
            for clone, row in enumerate(rows):
                found = row.nonzero()[:, 0]
                places[item, clone, : len(found)] = found
        lists.append((places, flag_BML[:, 0].sum(1)))
    (kept, num_kept), (masked, num_masked) = lists
    return Masks(mask_BML, kept, masked, num_kept_B=num_kept, num_masked_B=num_masked)


def random_masks(frames: int = 20, masked: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    order = torch.rand(B, M, frames, generator=generator).argsort(dim=2)
    return torch.zeros(B, M, frames, dtype=torch.bool).scatter(2, order[..., :masked], True)


@pytest.fixture
def wave_BT() -> Tensor:
    return torch.randn(B, SAMPLES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_alibi_slopes_of_twelve_heads_are_the_published_ones() -> None:
    expected = [
        0.5,
        0.25,
        0.125,
        0.0625,
        0.0313,
        0.0156,
        0.0078,
        0.0039,
        0.7071,
        0.3536,
        0.1768,
        0.0884,
    ]
    assert alibi_slopes(12) == pytest.approx(expected, abs=6e-5)
    assert alibi_slopes(2) == [2**-4, 2**-8]


def test_masked_frames_reach_the_encoder_in_no_way(wave_BT: Tensor) -> None:
    """A local feature that every mask of an item hides has no gradient from its predictions."""
    model = network().eval()
    local_BLD, _ = model.local_features(wave_BT)
    local_BLD = local_BLD.detach().requires_grad_()
    mask_BML = random_masks()
    model.predict(local_BLD, masks_of(mask_BML)).square().sum().backward()
    moved_BL = local_BLD.grad.abs().amax(dim=2) > 0
    assert torch.equal(moved_BL, (~mask_BML).any(dim=1))
    assert mask_BML.all(dim=1).any(), "no frame was hidden by all masks: the test shows nothing"


def test_without_masks_the_student_is_the_teacher(wave_BT: Tensor) -> None:
    """With p = 0 and a decoder that changes nothing, predictions are the last layer of its own copy."""
    model = network().eval()
    teacher = copy.deepcopy(model.context)
    local_BLD, _ = model.local_features(wave_BT)
    last_BLD = list(teacher.over_all(local_BLD))[-1][0]
    masks = masks_of(torch.zeros(B, M, 20, dtype=torch.bool))
    # All frames are asked for, though none is masked.
    masks = replace(masks, masked_BMQ=masks.kept_BMK, num_masked_B=masks.num_kept_B)
    model.decoder = Identity()
    pred_NLD = model.predict(local_BLD, masks)
    torch.testing.assert_close(
        pred_NLD, last_BLD.repeat_interleave(M, dim=0), rtol=1e-12, atol=1e-12
    )


def test_clones_see_only_their_own_mask(wave_BT: Tensor) -> None:
    """All masks of all items at once come to what one mask of one item at a time comes to."""
    model = network().eval()
    local_BLD, _ = model.local_features(wave_BT)
    mask_BML = random_masks()
    together = model.predict(local_BLD, masks_of(mask_BML)).unflatten(0, (B, M))
    for item in range(B):
        for clone in range(M):
            alone = model.predict(
                local_BLD[item : item + 1],
                masks_of(mask_BML[item : item + 1, clone : clone + 1]),
            )
            torch.testing.assert_close(alone[0], together[item, clone], rtol=1e-10, atol=1e-10)


def test_padding_changes_no_prediction_and_no_feature(wave_BT: Tensor) -> None:
    model = network().eval()
    lengths = torch.tensor([SAMPLES, 320 * 11 + 80 + 57, 320 * 15 + 80])
    frames = torch.tensor([model.frames_of(int(length)) for length in lengths])
    assert frames.tolist() == [20, 11, 15]
    padded_BT = wave_BT.clone()
    for row, length in zip(padded_BT, lengths, strict=True):
        row[length:] = 1e3
    mask_BML = torch.zeros(B, M, 20, dtype=torch.bool)
    for item, count in enumerate(frames.tolist()):
        for clone in range(M):
            mask_BML[item, clone, clone:count:3][: count // 4] = True
    local_BLD, valid_BL = model.local_features(padded_BT, lengths)
    masks = masks_of(mask_BML, frames)
    together = model.predict(local_BLD, masks, valid_BL=valid_BL).unflatten(0, (B, M))
    features = model.layer_features(padded_BT, lengths)
    for item, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        wave_1T = wave_BT[item : item + 1, :length]
        own = masks_of(mask_BML[item : item + 1, :, :count])
        alone = model.predict(model.local_features(wave_1T)[0], own)
        found = together[item, :, : alone.shape[1]]
        torch.testing.assert_close(found, alone, rtol=1e-10, atol=1e-10)
        for one, many in zip(model.layer_features(wave_1T), features, strict=True):
            torch.testing.assert_close(many[item, :count], one[0], rtol=1e-10, atol=1e-10)


def test_layer_features_are_those_of_evaluation_and_leave_the_mode(wave_BT: Tensor) -> None:
    model = network(prenet_layers=1).train()
    assert isinstance(model, GivesLayerFeatures)
    first, again = model.layer_features(wave_BT), model.layer_features(wave_BT)
    assert model.training
    assert len(first) == model.num_layers + 1 == 4
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert first[0].shape == (B, model.frames_of(SAMPLES), 16)
    assert not any(feature.requires_grad for feature in first)


def test_a_layer_gives_its_feed_forward_output_before_the_residual(wave_BT: Tensor) -> None:
    model = network().eval()
    local_BLD, _ = model.local_features(wave_BT)
    outputs = list(model.context.over_all(local_BLD))
    layer = model.context.layers[1]
    caught: list[Tensor] = []
    layer.ffn_out.register_forward_hook(lambda module, args, out: caught.append(out))
    list(model.context.over_all(local_BLD))
    out_BLD, ffn_BLD = outputs[2]
    assert torch.equal(ffn_BLD, caught[0])
    # Post-LN: the output has mean 0 and variance 1 in every frame, the feed-forward output has not.
    torch.testing.assert_close(
        out_BLD.mean(dim=2), torch.zeros(B, 20, dtype=torch.float64), rtol=0, atol=1e-9
    )
    assert ffn_BLD.var(dim=2).max() < 0.5


def test_dropped_layers_are_left_out(wave_BT: Tensor) -> None:
    model = network().eval()
    local_BLD, _ = model.local_features(wave_BT)
    masks = masks_of(random_masks())
    one_less = copy.deepcopy(model)
    one_less.context.layers = nn.ModuleList([model.context.layers[1]])
    dropped = model.predict(local_BLD, masks, keep_layers=[False, True])
    torch.testing.assert_close(dropped, one_less.predict(local_BLD, masks))
    assert not torch.allclose(dropped, model.predict(local_BLD, masks))


def test_attention_is_biased_by_the_distance_of_the_original_frames() -> None:
    model = network().eval()
    place_NK = torch.tensor([[0, 3, 10]])
    bias = model.context._bias(place_NK, None)
    assert bias.shape == (1, 2, 3, 3)
    assert bias[0, 0, 0].tolist() == pytest.approx([0, -3 / 16, -10 / 16])
    with torch.no_grad():
        model.context.alibi_scale.copy_(torch.tensor([2.0, -1.0]))
    bias = model.context._bias(place_NK, None)
    assert bias[0, 0, 0].tolist() == pytest.approx([0, -6 / 16, -20 / 16])
    assert bias[0, 1].abs().max() == 0


def saved_bytes(items: int, clones: int, masked: int, *, frames: int = 40) -> int:
    """Return what a forward pass keeps for the backward pass, each tensor once; that is its memory."""
    model = network(dim=32, ffn=128, layers=4).float().train()
    order = torch.rand(items, clones, frames).argsort(dim=2)
    mask_BML = torch.zeros(items, clones, frames, dtype=torch.bool)
    masks = masks_of(mask_BML.scatter(2, order[..., :masked], True))
    own = {param.untyped_storage().data_ptr() for param in model.parameters()}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        local_BLD, _ = model.local_features(torch.randn(items, 320 * frames + 80))
        model.predict(local_BLD, masks).sum().backward()
    return sum(t.untyped_storage().nbytes() for key, t in held.items() if key not in own)


def test_memory_is_that_of_clones_times_kept_frames() -> None:
    """Affine in the items, whatever clones and frames are: so the memory law of the planner holds."""
    two, four, nine = (saved_bytes(items, 3, 20) for items in (2, 4, 9))
    assert nine == pytest.approx(four + 5 / 2 * (four - two), rel=1e-3)
    one, twice, thrice = (saved_bytes(2, clones, 20) for clones in (1, 2, 3))
    clone = twice - one
    assert thrice - twice == pytest.approx(clone, rel=1e-3)
    # The convolutions over the waveform run once for all clones.
    assert 0 < clone < one
    # A clone of 36 kept frames needs more than one of 20, by the Transformer's share of it.
    assert saved_bytes(2, 2, 4) - saved_bytes(2, 1, 4) > 1.25 * clone


def test_parts_that_are_compiled_are_there_and_called() -> None:
    model = network(prenet_layers=1).eval().float()
    called: set[str] = set()
    for name in model.compiled_parts:
        part = model.get_submodule(name)
        part.register_forward_hook(lambda module, args, out, name=name: called.add(name))
    model.predict(model.local_features(torch.randn(B, SAMPLES))[0], masks_of(random_masks()))
    assert called == set(model.compiled_parts)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"heads": 3}, "dim = 16 must be a multiple of heads = 3"),
        ({"decoder_dim": 10}, "decoder_dim = 10 must be a multiple of decoder_groups = 4"),
        ({"extractor_norm": "group_norm"}, "layer_norm"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Data2Vec2Config(**{**TINY, **changes})


def test_base_has_the_published_size() -> None:
    """94 million parameters, as counted in fairseq's checkpoint without the teacher: see the comment."""
    with torch.device("meta"):
        model = Data2Vec2(Data2Vec2Config())
    count = sum(param.numel() for param in model.parameters())
    context = sum(param.numel() for param in model.context.parameters())
    # Convolutions 4.2 M, projection 0.4 M, 12 layers of 7.1 M, positions 5 x 0.7 M, decoder 1.1 M.
    assert 93e6 < count < 96e6
    assert 88e6 < context < 90e6
