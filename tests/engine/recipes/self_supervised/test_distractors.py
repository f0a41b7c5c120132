"""Distractors: never the frame itself, always of its own item, uniform over the others."""

from __future__ import annotations

import numpy as np
from scipy.stats import chisquare

from engine.item_random import item_generator
from engine.recipes.self_supervised.distractors import draw_distractors


def test_never_the_own_frame_and_always_another_masked_one() -> None:
    for frames in (2, 3, 17, 300):
        drawn_MK = draw_distractors(np.random.default_rng(frames), frames=frames, count=100)
        assert drawn_MK.shape == (frames, 100)
        assert not (drawn_MK == np.arange(frames)[:, None]).any()
        assert drawn_MK.min() >= 0
        assert drawn_MK.max() < frames


def test_uniform_over_the_other_frames() -> None:
    frames, count = 9, 20_000
    drawn_MK = draw_distractors(np.random.default_rng(0), frames=frames, count=count)
    values = []
    for own, drawn_K in enumerate(drawn_MK):
        seen = np.bincount(drawn_K, minlength=frames)
        assert seen[own] == 0
        values.append(chisquare(np.delete(seen, own)).pvalue)
    # Nine independent tests: the smallest of them is below 0.001 once in a hundred times.
    assert min(values) > 1e-3
    # One that shifts the wrong way would favour a neighbour of the own frame.
    wrong = np.minimum(np.random.default_rng(0).integers(frames, size=count), frames - 2)
    assert chisquare(np.bincount(wrong, minlength=frames - 1)).pvalue < 1e-9


def test_pairs_of_distractors_are_independent() -> None:
    drawn_MK = draw_distractors(np.random.default_rng(1), frames=5, count=40_000)
    pairs = drawn_MK[0].reshape(-1, 2)
    seen = np.bincount((pairs[:, 0] - 1) * 4 + pairs[:, 1] - 1, minlength=16)
    assert chisquare(seen).pvalue > 1e-3


def test_a_lone_frame_has_none() -> None:
    assert draw_distractors(np.random.default_rng(0), frames=1, count=4).tolist() == [[0] * 4]
    assert draw_distractors(np.random.default_rng(0), frames=0, count=4).shape == (0, 4)


def test_a_function_of_the_item() -> None:
    def drawn(epoch: int, index: int) -> list[list[int]]:
        generator = item_generator(7, epoch, index, "distractors")
        return draw_distractors(generator, frames=20, count=5).tolist()

    assert drawn(0, 3) == drawn(0, 3)
    assert drawn(0, 3) != drawn(1, 3) != drawn(0, 4)
