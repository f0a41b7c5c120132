"""The codebook: nearest codes, its moving average by hand, and codes that are revived."""

from __future__ import annotations

import pytest
import torch

from models.codec.codebook import Codebook, CodebookState, moved, revived


def book(*codes: tuple[float, ...]) -> Codebook:
    codebook = Codebook(len(codes), len(codes[0]))
    codebook.start_at(torch.tensor(codes), torch.full((len(codes),), 1 / len(codes)))
    return codebook


def test_the_nearest_code_is_chosen_and_the_gradient_passes():
    z_ND = torch.tensor([[[0.9, 0.2], [3.0, 5.0]]], requires_grad=True)
    found = book((0.0, 0.0), (1.0, 0.0), (4.0, 4.0))(z_ND)
    assert found.index_N.tolist() == [[1, 2]]
    assert found.vectors_ND.flatten().tolist() == pytest.approx([1.0, 0.0, 4.0, 4.0], abs=1e-6)
    assert found.distance_N[0].tolist() == pytest.approx([(0.01 + 0.04) / 2, 1.0])
    found.vectors_ND.sum().backward()
    assert torch.equal(z_ND.grad, torch.ones(1, 2, 2))


def test_commitment_pulls_the_input_only():
    codebook = book((1.0, 0.0), (5.0, 5.0))
    z_ND = torch.zeros(1, 2, requires_grad=True)
    codebook(z_ND).distance_N.sum().backward()
    assert z_ND.grad.tolist() == [[-1.0, 0.0]]
    assert not list(codebook.parameters())


def test_moving_averages_by_hand():
    state = CodebookState(
        torch.tensor([[1.0], [4.0]]), torch.tensor([1.0, 1.0]), torch.tensor([[1.0], [4.0]])
    )
    after = moved(state, torch.tensor([3.0, 0.0]), sum_KD=torch.tensor([[9.0], [0.0]]), decay=0.9)
    # Counts 0.9 + 0.3 and 0.9; sums 0.9 + 0.9 and 3.6. A code without vectors stays where it is.
    assert after.use_K.tolist() == pytest.approx([1.2, 0.9])
    assert after.sum_KD.flatten().tolist() == pytest.approx([1.8, 3.6])
    assert after.codes_KD.flatten().tolist() == pytest.approx([1.5, 4.0], rel=1e-4)
    assert state.use_K.tolist() == [1.0, 1.0]


def test_unused_codes_share_the_vectors_of_the_most_used_ones():
    codes_KD = torch.tensor([[0.0], [10.0], [20.0], [30.0]])
    use_K = torch.tensor([6.0, 0.01, 1.9, 0.09])
    state = CodebookState(codes_KD, use_K, codes_KD * use_K[:, None])
    noise_PD = torch.tensor([[1.0], [1.0]])
    after = revived(state, below=0.1, noise_PD=noise_PD, spread=torch.tensor(2.0))
    # The mean use is 2: codes 1 and 3 are out of use, and only code 0 is used more than that.
    assert after.use_K.tolist() == pytest.approx([3.0, 3.0, 1.9, 0.09])
    assert after.codes_KD.flatten().tolist() == pytest.approx([1.0, -1.0, 20.0, 30.0])
    assert after.sum_KD.flatten().tolist() == pytest.approx([3.0, -3.0, 38.0, 2.7])
    unchanged = revived(state, below=0.0, noise_PD=noise_PD, spread=torch.tensor(2.0))
    assert torch.equal(unchanged.codes_KD, codes_KD)


def test_a_codebook_of_many_codes_is_searched_in_blocks(monkeypatch):
    torch.manual_seed(0)
    codebook, z_ND = Codebook(50, 3), torch.randn(40, 3)
    whole = codebook(z_ND).index_N
    monkeypatch.setattr("models.codec.codebook._BLOCK", 7)
    assert torch.equal(codebook(z_ND).index_N, whole)
    assert torch.equal(torch.cdist(z_ND, codebook.codes_KD).argmin(dim=1), whole)


def perplexity_after(updates: int, *, starts: bool, below: float) -> float:
    """Return the perplexity of 64 codes after updates of vectors that drift, as those of an encoder do."""
    generator = torch.Generator().manual_seed(0)

    def vectors(update: int) -> torch.Tensor:
        return 0.7 * torch.randn(256, 8, generator=generator) + 3 + 0.01 * update

    torch.manual_seed(0)
    codebook = Codebook(64, 8)
    if starts:
        codebook.start_at(vectors(0)[:64], torch.full((64,), 1 / 64))
    state = codebook.state
    for update in range(updates):
        z_ND = vectors(update)
        found = codebook(z_ND)
        count_K = torch.bincount(found.index_N, minlength=64).float()
        sum_KD = torch.zeros(64, 8).index_add_(0, found.index_N, z_ND)
        after = moved(state, count_K, sum_KD=sum_KD, decay=0.9)
        if below:
            noise_PD = torch.randn(32, 8, generator=generator)
            after = revived(
                after, below=below, noise_PD=noise_PD, spread=found.distance_N.mean().sqrt()
            )
        for tensor, value in zip(state.tensors(), after.tensors(), strict=True):
            tensor.copy_(value)
    share_K = torch.bincount(codebook(vectors(updates)).index_N, minlength=64) / 256
    return float(torch.exp(-torch.xlogy(share_K, share_K).sum()))


def test_plain_averages_collapse_and_start_or_revival_prevent_it():
    assert perplexity_after(150, starts=False, below=0.0) < 6
    assert perplexity_after(150, starts=False, below=0.1) > 35
    assert perplexity_after(150, starts=True, below=0.1) > 35
