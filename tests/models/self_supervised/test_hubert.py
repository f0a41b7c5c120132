"""Claims about HuBERT's network: logits of torchaudio on the same weights and masks, in one product."""

import pytest
import torch
from torchaudio.models import hubert_pretrain_model

from models.registry import count_parameters
from models.self_supervised.hubert import TEMPERATURE, Hubert
from models.self_supervised.settings import HubertConfig

STACK = {
    "conv_channels": (8, 8, 8, 8, 8, 12, 12), "layers": 2, "dim": 16, "heads": 2, "ffn": 24,
    "pos_conv_kernel": 6, "pos_conv_groups": 4, "feature_grad_scale": 0.5, "final_dim": 10,
    "dropout": 0.0, "attention_dropout": 0.0, "projection_dropout": 0.0, "layer_drop": 0.0,
}  # fmt: skip
BASE_LIKE = HubertConfig(**STACK)
LARGE_LIKE = HubertConfig(**STACK, extractor_norm="layer_norm", layer_norm_first=True)
BOTH = pytest.mark.parametrize("config", [BASE_LIKE, LARGE_LIKE])
CLUSTERS = 7


def torchaudios(config, model, mask):
    """Return torchaudio's model with the weights of `model`, whose masks are always `mask`."""
    c = config
    shapes = list(zip(c.conv_channels, c.conv_kernels, c.conv_strides, strict=True))
    theirs = hubert_pretrain_model(
        c.extractor_norm, shapes, c.conv_bias, c.dim, 0.0, c.pos_conv_kernel, c.pos_conv_groups,
        c.layers, c.heads, 0.0, c.ffn, 0.0, 0.0, c.layer_norm_first, 0.0, 0.8, "static", 0.0, 10,
        False, 1, 0.0, "static", 0.0, 10, False, 1, False, False, CLUSTERS, c.final_dim,
        c.feature_grad_scale,
    )  # fmt: skip
    names = {
        "mask_embedding": "mask_generator.mask_embedding",
        "label_embeddings": "logit_generator.label_embeddings",
        "final_proj.weight": "logit_generator.final_proj.weight",
        "final_proj.bias": "logit_generator.final_proj.bias",
    }
    theirs.load_state_dict(
        {names.get(name, f"wav2vec2.{name}"): w for name, w in model.state_dict().items()}
    )
    embedding = theirs.mask_generator.mask_embedding

    class Given(torch.nn.Module):
        def forward(self, x, padding):
            return torch.where(mask[..., None], embedding, x), mask

    theirs.mask_generator = Given()
    return theirs


@BOTH
def test_logits_loss_and_gradients_are_those_of_torchaudio(config):
    torch.manual_seed(1)
    model = Hubert(config, clusters=CLUSTERS)
    wave, label = torch.randn(3, 4000), torch.randint(CLUSTERS, (3, 12))
    mask = torch.rand(3, 12) < 0.5
    theirs = torchaudios(config, model, mask)
    masked, unmasked, penalty = theirs(wave, label)
    frames = model.frames(wave, mask_BL=mask)
    assert frames.lengths is None
    losses = []
    for logits, chosen in ((masked, mask), (unmasked, ~mask)):
        ours = model.logits(frames.context[chosen])
        # Their first column is the logit of the label, which is then cut out of the others.
        expected = torch.where(
            logits[:, 1:].isinf(), logits[:, :1].expand(-1, CLUSTERS), logits[:, 1:]
        )
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
        loss = torch.nn.functional.cross_entropy(ours, label[chosen], reduction="sum")
        other = torch.nn.functional.cross_entropy(
            logits, torch.zeros(len(logits), dtype=torch.int64), reduction="sum"
        )
        torch.testing.assert_close(loss, other, rtol=1e-5, atol=1e-5)
        losses.append((loss, other))
    torch.testing.assert_close(frames.local.square().mean(), penalty, rtol=1e-5, atol=1e-6)
    (losses[0][0] + losses[1][0] + frames.local.square().mean()).backward()
    (losses[0][1] + losses[1][1] + penalty).backward()
    weight = model.feature_extractor.conv_layers[0].conv.weight.grad
    other = theirs.wav2vec2.feature_extractor.conv_layers[0].conv.weight.grad
    torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        model.label_embeddings.grad,
        theirs.logit_generator.label_embeddings.grad,
        rtol=1e-4,
        atol=1e-6,
    )


def test_logits_stay_float32_under_autocast():
    model = Hubert(BASE_LIKE, clusters=CLUSTERS)
    context = torch.randn(50, 16)
    expected = model.logits(context)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.logits(context)
    assert logits.dtype == torch.float32
    assert logits.abs().max() <= 1 / TEMPERATURE + 1e-4
    # The projection is bfloat16, which has 8 bits; the product isn't.
    torch.testing.assert_close(logits, expected, rtol=0, atol=0.15)
    directions = torch.nn.functional.normalize(model.final_proj(context).bfloat16().float(), dim=1)
    labels = torch.nn.functional.normalize(model.label_embeddings, dim=1)
    torch.testing.assert_close(logits, directions @ labels.T / TEMPERATURE, rtol=0, atol=0.1)


def test_masked_frames_say_nothing_of_their_audio():
    torch.manual_seed(0)
    model = Hubert(BASE_LIKE, clusters=CLUSTERS).eval()
    wave = torch.randn(1, 4000)
    everything = torch.ones(1, 12, dtype=torch.bool)
    first = model.frames(wave, mask_BL=everything).context
    second = model.frames(torch.randn(1, 4000), mask_BL=everything).context
    torch.testing.assert_close(first, second)
    assert not torch.allclose(model.frames(wave).context, first)


def test_base_has_as_many_weights_as_published():
    with torch.device("meta"):
        model = Hubert(HubertConfig(), clusters=100)
    # torchaudio's hubert_pretrain_base(), counted once: it can't be built without filling its weights.
    assert count_parameters(model) == 94_594_176


def test_the_parts_that_are_compiled_are_called_once_in_a_pass():
    model = Hubert(LARGE_LIKE, clusters=CLUSTERS)
    called = []
    for name in model.compiled_parts:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
    frames = model.frames(torch.randn(1, 4000))
    assert called == list(model.compiled_parts)
    # All weights but those of the projection, two norms and the prediction are in them.
    inside = {p for name in called for p in model.get_submodule(name).parameters()}
    assert len(inside) >= 0.8 * len(list(model.parameters()))
    assert frames.context.isfinite().all()
