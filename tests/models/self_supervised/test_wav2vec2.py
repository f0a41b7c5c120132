"""wav2vec 2.0: padding changes no number, the quantiser chooses as published, the Conformer is torchaudio's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchaudio.models.conformer import ConformerLayer

from models.layers.conformer import conformer_layer
from models.self_supervised.quantiser import GumbelQuantiser
from models.self_supervised.wav2vec2 import Masked, Sampling, Wav2Vec2
from models.self_supervised.wav2vec2_settings import Wav2Vec2Config

TINY: dict[str, Any] = {
    "conv_channels": (8,) * 7, "layers": 2, "dim": 16, "heads": 2, "ffn": 24, "pos_conv_kernel": 8,
    "pos_conv_groups": 2, "extractor_norm": "layer_norm", "code_entries": 6, "code_dim": 8, "final_dim": 12,
}  # fmt: skip
ENCODERS = ["transformer", "conformer"]


def tiny(**more: Any) -> Wav2Vec2:
    torch.manual_seed(0)
    return Wav2Vec2(Wav2Vec2Config(**{**TINY, **more}))


def masked(places: list[list[int]], frames: int) -> Masked:
    places_BM = torch.tensor(places)
    mask_BL = torch.zeros(len(places), frames, dtype=torch.bool)
    return Masked(mask_BL.scatter(1, places_BM, True), places_BM)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_changes_no_number(encoder: str) -> None:
    model = tiny(encoder=encoder).eval()
    long, short = 8_000, 4_400
    wave_BT = torch.randn(2, long, generator=torch.Generator().manual_seed(1))
    wave_BT[1, short:] = 1e3
    frames, few = model.frames_of(long), model.frames_of(short)
    places = [[1, 2, 3, 20], [1, 4, 5, few - 1]]
    together = model(wave_BT, torch.tensor([long, short]), masked=masked(places, frames))
    alone = model(wave_BT[1:, :short], None, masked=masked(places[1:], few))
    for name in ("context_BMF", "target_BMF"):
        of_batch, of_item = getattr(together, name)[1:], getattr(alone, name)
        torch.testing.assert_close(of_batch, of_item, rtol=1e-5, atol=1e-5)
    assert together.frame_lengths_B is not None
    assert together.frame_lengths_B.tolist() == [frames, few]
    torch.testing.assert_close(
        together.quantised.logits_NGV[1:], alone.quantised.logits_NGV, rtol=1e-5, atol=1e-5
    )
    # The same of gradients: nothing flows in from the padding.
    grads = []
    for output, row in ((together, 1), (alone, 0)):
        model.zero_grad()
        (output.context_BMF[row].square().sum() + output.quantised.logits_NGV[row].sum()).backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_features_of_layers(encoder: str) -> None:
    model = tiny(encoder=encoder).train()
    wave_BT = torch.randn(1, 8_000)
    features = model.layer_features(wave_BT)
    assert len(features) == model.num_layers + 1
    assert all(x.shape == (1, model.frames_of(8_000), 16) for x in features)
    assert torch.equal(features[-1], model.layer_features(wave_BT)[-1])
    assert model.training
    assert not features[-1].requires_grad
    # A layer that is left out changes nothing of what comes in.
    x_BLD = model.encoder.project(
        model.encoder.normalised(model.encoder.local_features(wave_BT)[0])
    )
    outputs = list(model.eval().encoder.layer_outputs(x_BLD, keep_layers=[False, True]))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[2])


def test_conformer_layer_is_that_of_torchaudio() -> None:
    torch.manual_seed(0)
    layer = ConformerLayer(16, 24, 2, 7, use_group_norm=True).eval()
    x_TBD = torch.randn(9, 3, 16)
    theirs = layer(x_TBD, None)
    padded_BT = torch.zeros(3, 9, dtype=torch.bool)
    for padding in (None, padded_BT):
        torch.testing.assert_close(conformer_layer(layer, x_TBD, padded_BT=padding), theirs)


def test_dropouts_of_the_conformer_are_those_of_the_settings() -> None:
    model = tiny(encoder="conformer", dropout=0.11, attention_dropout=0.22, activation_dropout=0.33)
    layer: Any = model.encoder.encoder.transformer.layers[0]
    assert layer.self_attn.dropout == 0.22
    assert [layer.ffn1.sequential[3].p, layer.ffn1.sequential[5].p] == [0.33, 0.11]
    assert layer.self_attn_dropout.p == 0.11


def test_look_sees_the_logits_of_the_pass() -> None:
    """Dropout of the quantised features is the first draw of both."""
    model = tiny(feature_dropout=0.5).train()
    wave_BT = torch.randn(2, 8_000)
    there = masked([[1, 2, 3], [4, 5, 6]], model.frames_of(8_000))
    torch.manual_seed(5)
    logits = model.code_logits(wave_BT, None, masked=there)
    torch.manual_seed(5)
    assert torch.equal(model(wave_BT, None, masked=there).quantised.logits_NGV, logits)
    assert not torch.equal(model.code_logits(wave_BT, None, masked=there), logits)


def test_choice_is_hard_and_its_gradient_soft() -> None:
    torch.manual_seed(0)
    quantiser = GumbelQuantiser(5, groups=2, entries=4, dim=6).double()
    x_NC = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    noise_NGV = torch.randn(7, 2, 4, dtype=torch.float64)
    out = quantiser(x_NC, temperature=0.7, noise_NGV=noise_NGV)
    wanted_NG = (out.logits_NGV + noise_NGV).argmax(-1)
    assert torch.equal(out.codes_NG, wanted_NG)
    entries = [quantiser.codebook[g, wanted_NG[:, g]] for g in range(2)]
    assert torch.equal(out.vectors_ND, torch.cat(entries, dim=1))
    (grad,) = torch.autograd.grad(out.vectors_ND.square().sum(), x_NC)

    def soft(x_NC: torch.Tensor) -> torch.Tensor:
        soft_NGV = ((quantiser.logits(x_NC) + noise_NGV) / 0.7).softmax(-1)
        soft_ND = torch.einsum("ngv,gvd->ngd", soft_NGV, quantiser.codebook).flatten(1)
        return (2 * out.vectors_ND.detach() * soft_ND).sum()

    torch.testing.assert_close(grad, torch.autograd.grad(soft(x_NC), x_NC)[0])


def test_without_noise_the_likeliest_entry_is_taken() -> None:
    quantiser = GumbelQuantiser(5, groups=2, entries=4, dim=6)
    out = quantiser(torch.randn(3, 2, 5))
    assert torch.equal(out.codes_NG, out.logits_NGV.argmax(-1))
    assert out.vectors_ND.shape == (3, 2, 6)


def test_start_of_the_quantiser_is_the_published_one() -> None:
    torch.manual_seed(0)
    quantiser = GumbelQuantiser(512, groups=2, entries=320, dim=256)
    assert quantiser.to_logits.weight.std().item() == pytest.approx(1.0, abs=0.01)
    assert not quantiser.to_logits.bias.any()
    assert 0 <= quantiser.codebook.min() < 0.01
    assert 0.99 < quantiser.codebook.max() <= 1
    x_NC = torch.nn.functional.layer_norm(torch.randn(200, 512), (512,))
    assert quantiser.logits(x_NC).std().item() == pytest.approx(512**0.5, rel=0.05)


def test_logits_stay_in_float32_under_autocast() -> None:
    quantiser = GumbelQuantiser(64, groups=2, entries=8, dim=8)
    x_NC = torch.randn(10, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantiser(x_NC, temperature=1.0, noise_NGV=torch.zeros(10, 2, 8))
    assert out.logits_NGV.dtype == out.vectors_ND.dtype == torch.float32
    assert torch.equal(out.logits_NGV, quantiser.logits(x_NC))


def test_published_sizes() -> None:
    with torch.device("meta"):
        base = Wav2Vec2(Wav2Vec2Config())
    # "95M parameters" (Baevski et al., 2020, section 4.2).
    assert sum(p.numel() for p in base.parameters()) == pytest.approx(95e6, rel=5e-3)


def test_noise_reaches_the_codes_of_the_pass() -> None:
    model = tiny().eval()
    wave_BT = torch.randn(1, 8_000)
    there = masked([[1, 2, 3]], model.frames_of(8_000))
    noise_BMGV = torch.zeros(1, 3, 2, 6)
    noise_BMGV[0, :, :, 4] = 1e3
    out = model(wave_BT, None, masked=there, sampling=Sampling(1.0, noise_BMGV))
    assert (out.quantised.codes_NG == 4).all()
