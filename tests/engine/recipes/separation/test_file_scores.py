"""Scores of a file from its blocks, against those of the whole signal."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from engine.config.losses import L1Loss, SpectralLoss
from engine.metrics.signal import log_spectral_distance, sdr, si_sdr
from engine.recipes.separation.file_scores import BlockLoss, FileScores
from engine.recipes.separation.losses import build_loss
from engine.recipes.separation.permutations import permutation_invariant

ENDS = (0, 1, 700, 701, 5000, 9999, 12_000)
L1 = {"val_loss": BlockLoss(build_loss(L1Loss()), own_order=True)}


def signals(level_db: float, *, sources: int = 2, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Return estimate (S, 2, T), reference and mixture: loud offsets, swells, wrong levels."""
    draw = np.random.default_rng(seed)
    ref = draw.normal(0, 0.1, (sources, 2, ENDS[-1])) * np.linspace(0.01, 1, ENDS[-1])
    ref += draw.uniform(-3, 3, (sources, 2, 1))
    error = draw.normal(0, 0.1, ref.shape) * 10 ** (-level_db / 20)
    est = (1 + 10 ** (-level_db / 20)) * ref + error + 0.7
    return torch.from_numpy(est), torch.from_numpy(ref), torch.from_numpy(ref.sum(axis=0))


def judged(est, ref, mix, losses=L1, *, interchangeable: bool = False, ends=ENDS) -> FileScores:
    scores = FileScores(losses, interchangeable=interchangeable)
    for start, end in pairwise(ends):
        scores.add(est[..., start:end], ref[..., start:end], mix[..., start:end])
    return scores


@pytest.mark.parametrize("level_db", [-20, 0, 15, 40, 80])
def test_ratios_are_those_of_the_whole_signal(level_db: float) -> None:
    est, ref, mix = signals(level_db)
    found = judged(est, ref, mix).levels()
    for name, expected in {
        "si_sdr": si_sdr(est, ref, joint_channels=True),
        "sdr": sdr(est, ref, joint_channels=True),
        "input_si_sdr": si_sdr(mix.unsqueeze(0), ref, joint_channels=True),
    }.items():
        torch.testing.assert_close(found[name][0], expected, atol=1e-6, rtol=0)


def test_silence_and_exact_copies_are_told_as_elsewhere() -> None:
    est, ref, mix = signals(20)
    ref[1] = 0.3
    est[0] = ref[0]
    levels = judged(est, ref, mix).levels()
    assert levels["si_sdr"][0, 0] == levels["sdr"][0, 0] == 100
    assert torch.isnan(levels["si_sdr"][0, 1])
    assert torch.isnan(levels["sdr"][0, 1])
    half = judged(0.5 * ref, ref, mix).levels()
    assert half["si_sdr"][0, 0] == pytest.approx(100)


def test_distances_are_means_over_blocks_by_length() -> None:
    est, ref, mix = signals(10)
    losses = {
        "val_loss": BlockLoss(build_loss(L1Loss())),
        "spectral": BlockLoss(build_loss(SpectralLoss())),
        "sum": BlockLoss(build_loss(SpectralLoss(reduction="sum")), total=True),
    }
    scores = judged(est, ref, mix, losses)
    found = {name: float(value) for name, value in scores.losses().items()}
    blocks = [
        (end - start, est[None, ..., start:end], ref[None, ..., start:end])
        for start, end in pairwise(ENDS)
    ]
    total = ENDS[-1]
    assert found["val_loss"] == pytest.approx(float((est - ref).abs().mean()), rel=1e-6)
    mean = build_loss(SpectralLoss())
    expected = sum(n * float(mean(x, y)) for n, x, y in blocks) / total
    assert found["spectral"] == pytest.approx(expected, rel=1e-5)
    added = build_loss(SpectralLoss(reduction="sum"))
    assert found["sum"] == pytest.approx(sum(float(added(x, y)) for _, x, y in blocks), rel=1e-5)
    lsd = sum(n * log_spectral_distance(x, y).mean(dim=-1).double() for n, x, y in blocks) / total
    torch.testing.assert_close(scores.levels()["lsd"], lsd, rtol=1e-6, atol=0)


def test_interchangeable_sources_get_the_best_order_of_the_whole_file() -> None:
    est, ref, mix = signals(15, sources=3)
    turned = est[[2, 0, 1]]
    plain = judged(est, ref, mix).levels()
    found = judged(turned, ref, mix, interchangeable=True)
    for name, value in found.levels().items():
        torch.testing.assert_close(value, plain[name])
    loss = permutation_invariant(build_loss(L1Loss()), total=False)
    expected = float(loss(turned[None], ref[None]))
    assert float(found.losses()["val_loss"]) == pytest.approx(expected, rel=1e-6)


def test_where_blocks_end_changes_no_ratio() -> None:
    est, ref, mix = signals(30)
    one = judged(est, ref, mix, ends=(0, ENDS[-1])).levels()
    many = judged(est, ref, mix, ends=tuple(range(0, ENDS[-1] + 1, 1000))).levels()
    for name in ("si_sdr", "sdr", "input_si_sdr"):
        torch.testing.assert_close(one[name], many[name], atol=1e-9, rtol=0)
