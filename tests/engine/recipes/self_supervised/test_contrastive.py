"""The contrastive loss and the use of codes, against plain definitions and values by hand."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from engine.recipes.code_use import diversity, hard_sum, perplexity, soft_sum
from engine.recipes.self_supervised.contrastive import contrast

B, M, K, D, G = 2, 7, 5, 6, 2


def parts(entries: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(0)
    distractor = torch.randint(M - 1, (B, M, K))
    distractor += distractor >= torch.arange(M)[:, None]
    return {
        "context": torch.randn(B, M, D), "target": torch.randn(B, M, D), "distractor": distractor,
        "codes": torch.randint(entries, (B, M, G)), "counts": torch.ones(B, M, dtype=torch.bool),
    }  # fmt: skip


def compared(p: dict[str, Tensor], temperature: float = 0.1, objective=None):  # type: ignore[no-untyped-def]
    return contrast(
        p["context"], p["target"], codes_BMG=p["codes"], distractor_BMK=p["distractor"],
        counts_BM=p["counts"], temperature=temperature, objective=objective,
    )  # fmt: skip


def test_equals_the_definition_frame_by_frame() -> None:
    p = parts()
    found = compared(p)
    dropped = 0
    for b in range(B):
        for m in range(M):
            kept = [
                int(k)
                for k in p["distractor"][b, m]
                if p["codes"][b, k].tolist() != p["codes"][b, m].tolist()
            ]
            dropped += K - len(kept)
            candidates = p["target"][b, [m, *kept]]
            logits = torch.cosine_similarity(p["context"][b, m][None], candidates) / 0.1
            wanted = torch.nn.functional.cross_entropy(logits[None], torch.tensor([0]))
            torch.testing.assert_close(found.loss_BM[b, m], wanted, rtol=1e-4, atol=1e-5)
            right = bool(kept) and bool((logits[0] > logits[1:]).all())
            assert found.right_BM[b, m].item() == right
    assert dropped > 0


def test_another_objective_sees_the_same_candidates_and_the_same_frames() -> None:
    p = parts()
    p["counts"][0, 2:] = False

    def twice_cross_entropy(logits_NX: Tensor, label_N: Tensor) -> Tensor:
        assert logits_NX.shape == (B * M, 1 + K)
        return 2 * torch.nn.functional.cross_entropy(logits_NX, label_N, reduction="none")

    found, plain = compared(p, objective=twice_cross_entropy), compared(p)
    torch.testing.assert_close(found.objective_BM, 2 * plain.loss_BM)
    assert torch.equal(found.loss_BM, plain.loss_BM)
    assert torch.equal(plain.objective_BM, plain.loss_BM)
    assert not found.objective_BM[0, 2:].any()


def test_chance_is_the_logarithm_of_the_candidates() -> None:
    p = parts() | {"codes": torch.arange(M).expand(B, M)[..., None].repeat(1, 1, G)}
    p["context"] = torch.zeros(B, M, D)
    found = compared(p)
    torch.testing.assert_close(found.loss_BM, torch.full((B, M), log(K + 1)))
    # All candidates tie, and ties are wrong.
    assert not found.right_BM.any()


def test_collapsed_codes_are_wrong_though_their_loss_is_0() -> None:
    p = parts() | {"codes": torch.zeros(B, M, G, dtype=torch.int64)}
    p["target"] = torch.ones(B, M, D)
    found = compared(p)
    assert found.loss_BM.abs().max() < 1e-6
    assert not found.right_BM.any()


def test_rounding_of_equal_codes_is_no_distractor() -> None:
    p = parts() | {"codes": torch.zeros(B, M, G, dtype=torch.int64)}
    p["target"] = torch.ones(B, M, D) * (1 + 1e-7 * torch.randn(B, M, 1))
    assert compared(p).loss_BM.abs().max() < 1e-6


def test_padded_places_give_nothing() -> None:
    p = parts()
    p["counts"][1, 4:] = False
    p["context"].requires_grad_()
    found = compared(p)
    assert not found.loss_BM[1, 4:].any()
    assert not found.right_BM[1, 4:].any()
    found.loss_BM.sum().backward()
    assert p["context"].grad is not None
    assert not p["context"].grad[1, 4:].any()
    assert p["context"].grad[0].any()
    assert p["context"].grad.isfinite().all()


def test_similarities_are_float32_under_autocast() -> None:
    p = parts()
    wanted = compared(p)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compared(p).loss_BM, wanted.loss_BM)


def test_perplexity_and_diversity_by_hand() -> None:
    use_GV = torch.tensor([[5.0, 5.0, 0.0, 0.0], [10.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(perplexity(use_GV), torch.tensor([2.0, 1.0]))
    assert diversity(use_GV).item() == pytest.approx(1 - 3 / 8)
    assert diversity(torch.ones(2, 4)).item() == pytest.approx(0, abs=1e-6)
    # The landmark of a collapse at 2 x 320: 638 / 640.
    collapsed_GV = torch.zeros(2, 320)
    collapsed_GV[:, 7] = 100
    assert diversity(collapsed_GV).item() == pytest.approx(638 / 640)
    assert perplexity(torch.zeros(2, 4)).tolist() == [1, 1]


def test_gradient_of_diversity_is_finite_where_a_code_is_unused() -> None:
    use_GV = torch.tensor([[1.0, 0.0, 3.0]], requires_grad=True)
    diversity(use_GV).backward()
    assert use_GV.grad is not None
    assert use_GV.grad.isfinite().all()


def test_sums_of_codes_count_what_counts() -> None:
    logits_BMGV = torch.randn(B, M, G, 4)
    weight_BM = torch.ones(B, M)
    weight_BM[1, 3:] = 0
    kept = torch.cat([logits_BMGV[0], logits_BMGV[1, :3]])
    torch.testing.assert_close(soft_sum(logits_BMGV, weight_BM), kept.softmax(-1).sum(0))
    hard_GV = hard_sum(logits_BMGV, weight_BM)
    assert hard_GV.sum(-1).tolist() == [10, 10]
    for group in range(G):
        wanted = torch.bincount(kept[:, group].argmax(-1), minlength=4)
        assert hard_GV[group].tolist() == wanted.tolist()
