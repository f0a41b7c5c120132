"""The terms of wav2vec 2.0 equal those of `transformers` on the same weights, masks, noise and negatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.recipes.code_use import diversity, hard_sum, perplexity, soft_sum
from engine.recipes.self_supervised.contrastive import contrast
from engine.recipes.self_supervised.distractors import draw_distractors
from models.self_supervised.wav2vec2 import Masked, Sampling, Wav2Vec2
from models.self_supervised.wav2vec2_settings import Wav2Vec2Config

transformers = pytest.importorskip("transformers")

B, T, K, GROUPS, ENTRIES = 3, 16_000, 20, 2, 12
DIMS: dict[str, Any] = {
    "conv_channels": (16,) * 7, "layers": 2, "dim": 24, "heads": 3, "ffn": 40, "pos_conv_kernel": 9,
    "pos_conv_groups": 3, "code_groups": GROUPS, "code_entries": ENTRIES, "code_dim": 8, "final_dim": 10,
    "dropout": 0.0, "attention_dropout": 0.0, "projection_dropout": 0.0, "feature_dropout": 0.0,
    "layer_drop": 0.0, "feature_grad_scale": 1.0,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "base": {"extractor_norm": "group_norm"},
    "large": {"extractor_norm": "layer_norm", "conv_bias": True, "layer_norm_first": True},
}


def theirs(ours: Wav2Vec2, config: Wav2Vec2Config) -> Any:
    """Build their network without a download, with the weights of ours."""
    large = config.layer_norm_first
    settings = transformers.Wav2Vec2Config(
        conv_dim=list(config.conv_channels), num_hidden_layers=config.layers, hidden_size=config.dim,
        num_attention_heads=config.heads, intermediate_size=config.ffn, conv_bias=config.conv_bias,
        num_conv_pos_embeddings=config.pos_conv_kernel, num_codevector_groups=GROUPS,
        num_conv_pos_embedding_groups=config.pos_conv_groups, num_codevectors_per_group=ENTRIES,
        codevector_dim=config.code_dim, proj_codevector_dim=config.final_dim, num_negatives=K,
        feat_extract_norm="layer" if large else "group", do_stable_layer_norm=large,
        hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0,
        feat_quantizer_dropout=0.0, layerdrop=0.0, apply_spec_augment=True, diversity_loss_weight=0.1,
    )  # fmt: skip
    model = transformers.Wav2Vec2ForPreTraining(settings)
    state = {}
    renamed = [
        ("encoder.feature_extractor.", "wav2vec2.feature_extractor."),
        ("encoder.encoder.feature_projection.", "wav2vec2.feature_projection."),
        ("encoder.encoder.transformer.", "wav2vec2.encoder."),
        ("quantiser.to_logits.", "quantizer.weight_proj."),
        ("project_codes.", "project_q."),
        ("project_context.", "project_hid."),
    ]
    for name, tensor in ours.state_dict().items():
        if name == "quantiser.codebook":
            state["quantizer.codevectors"] = tensor.flatten(0, 1)[None]
        elif name == "mask_embedding":
            state["wav2vec2.masked_spec_embed"] = tensor
        else:
            old, new = next(pair for pair in renamed if name.startswith(pair[0]))
            state[name.replace(old, new, 1)] = tensor
    model.load_state_dict(state)
    return model


def masked_rows(frames: int) -> tuple[Masked, Tensor, Tensor]:
    """Return masks of unequal counts, distractors (B, M, K) and which places count (B, M)."""
    rng = np.random.default_rng(3)
    counts = [12, 20, 17]
    places = np.zeros((B, max(counts)), dtype=np.int64)
    distractor = np.zeros((B, max(counts), K), dtype=np.int64)
    for row, count in enumerate(counts):
        places[row, :count] = np.sort(rng.choice(frames, count, replace=False))
        distractor[row, :count] = draw_distractors(rng, frames=count, count=K)
    valid_BM = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    mask_BL = torch.zeros(B, frames, dtype=torch.bool)
    for row, count in enumerate(counts):
        mask_BL[row, places[row, :count]] = True
    return Masked(mask_BL, torch.from_numpy(places)), torch.from_numpy(distractor), valid_BM


def their_negatives(masked: Masked, distractor_BMK: Tensor, valid_BM: Tensor) -> Tensor:
    """Return flat indices (B, L, K) into all frames of the batch, as they want them."""
    frames = masked.mask_BL.shape[1]
    flat_BLK = torch.zeros(B, frames, K, dtype=torch.int64)
    for row in range(B):
        places = masked.places_BM[row]
        for place in torch.nonzero(valid_BM[row]).flatten():
            flat_BLK[row, places[place]] = places[distractor_BMK[row, place]] + row * frames
    return flat_BLK


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("training", [False, True])
def test_terms_equal_those_of_transformers(
    size: str, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = Wav2Vec2Config(**DIMS, **SIZES[size])
    ours = Wav2Vec2(config).train(training)
    # Features of an untrained network are nearly equal; larger weights spread the codes.
    with torch.no_grad():
        ours.quantiser.to_logits.weight.mul_(20)
    model = theirs(ours, config).train(training)
    wave_BT = torch.randn(B, T)
    frames = ours.frames_of(T)
    masked, distractor_BMK, valid_BM = masked_rows(frames)
    noise_BMGV = -torch.empty(*valid_BM.shape, GROUPS, ENTRIES).exponential_().log()

    def with_our_noise(logits: Tensor, tau: float, hard: bool) -> Tensor:
        noise_BLGV = torch.zeros(B, frames, GROUPS, ENTRIES)
        for row in range(B):
            places = masked.places_BM[row, valid_BM[row]]
            noise_BLGV[row, places] = noise_BMGV[row, valid_BM[row]]
        soft = ((logits + noise_BLGV.view_as(logits)) / tau).softmax(-1)
        hard_choice = torch.nn.functional.one_hot(soft.argmax(-1), ENTRIES).float()
        return hard_choice + (soft - soft.detach())

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", with_our_noise)
    model.set_gumbel_temperature(0.8)
    their = model(
        wave_BT,
        mask_time_indices=masked.mask_BL,
        sampled_negative_indices=their_negatives(masked, distractor_BMK, valid_BM),
    )
    sampling = Sampling(0.8, noise_BMGV) if training else None
    out = ours(wave_BT, None, masked=masked, sampling=sampling)
    loss_BM = contrast(
        out.context_BMF, out.target_BMF, codes_BMG=out.quantised.codes_NG,
        distractor_BMK=distractor_BMK, counts_BM=valid_BM, temperature=0.1,
    ).loss_BM  # fmt: skip
    count = valid_BM.sum()
    assert torch.unique(out.quantised.codes_NG.flatten(0, 1), dim=0).shape[0] > 3
    torch.testing.assert_close(loss_BM.sum(), their.contrastive_loss, rtol=1e-4, atol=1e-4)
    # They take the soft codes in training and the hard ones at evaluation.
    use_GV = (soft_sum if training else hard_sum)(out.quantised.logits_NGV, valid_BM)
    torch.testing.assert_close(
        perplexity(use_GV).sum(), their.codevector_perplexity, rtol=1e-4, atol=1e-4
    )
    own_diversity = diversity(use_GV)
    torch.testing.assert_close(own_diversity * count, their.diversity_loss, rtol=1e-4, atol=1e-4)
    if not training:
        return
    (loss_BM.sum() + 0.1 * count * own_diversity).backward()
    their.loss.backward()
    pairs = [
        (ours.quantiser.to_logits.weight.grad, model.quantizer.weight_proj.weight.grad),
        (ours.quantiser.codebook.grad.flatten(0, 1)[None], model.quantizer.codevectors.grad),
        (ours.project_context.weight.grad, model.project_hid.weight.grad),
        (ours.mask_embedding.grad, model.wav2vec2.masked_spec_embed.grad),
        (
            ours.encoder.feature_extractor.conv_layers[0].conv.weight.grad,
            model.wav2vec2.feature_extractor.conv_layers[0].conv.weight.grad,
        ),
    ]
    for mine, other in pairs:
        scale = other.abs().max()
        torch.testing.assert_close(mine / scale, other / scale, rtol=1e-3, atol=1e-4)
