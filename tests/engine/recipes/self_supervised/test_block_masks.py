"""Claims about block masks: exact counts, the published statistics, keyed by item and number."""

from __future__ import annotations

import numpy as np
import pytest

from engine.item_random import item_generator
from engine.recipes.self_supervised.block_masks import MaskShape, Use, block_masks, places_of

BASE = MaskShape(clones=8, prob=0.5, adjust=0.05, length=5)


def masks(shape: MaskShape, frames: list[int], *, items: list[int] | None = None) -> np.ndarray:
    items = items or list(range(len(frames)))

    def generator_of(row: int, use: Use) -> np.random.Generator:
        return item_generator(7, 0, items[row], use)

    return block_masks(shape, frames, generator_of=generator_of)


def runs_of(mask_BML: np.ndarray) -> np.ndarray:
    """Return the length of every run of masked frames."""
    rows = mask_BML.reshape(-1, mask_BML.shape[-1]).astype(int)
    edges = np.diff(np.pad(rows, ((0, 0), (1, 1))), axis=1)
    return np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("prob", [0.05, 0.5, 0.55, 0.9])
def test_every_mask_of_an_item_masks_exactly_its_share(inverse: bool, prob: float) -> None:
    shape = MaskShape(clones=3, prob=prob, adjust=0.05, length=5, inverse=inverse)
    frames = [499, 49, 2, 100, 1]
    mask_BML = masks(shape, frames)
    assert mask_BML.shape == (5, 3, 499)
    expected = [int(499 * prob), int(49 * prob), 1, round(100 * prob), 0]
    assert mask_BML.sum(axis=2).tolist() == [[count] * 3 for count in expected]
    for count, rows in zip(frames, mask_BML, strict=True):
        assert not rows[:, count:].any()


def test_runs_are_those_measured_of_the_published_masks() -> None:
    """Measured with fairseq's function: 499 frames, 4.4 on average, median 5, 41 % single frames."""
    mask_BML = masks(BASE, [499] * 64)
    runs, kept = runs_of(mask_BML), runs_of(~mask_BML)
    assert mask_BML.mean() == pytest.approx(0.499, abs=1e-4)
    assert runs.mean() == pytest.approx(4.4, abs=0.1)
    assert np.median(runs) == 5
    assert kept.mean() == pytest.approx(4.4, abs=0.1)
    assert (runs == 1).mean() == pytest.approx(0.41, abs=0.02)


def test_runs_of_short_items_without_adjustment_and_of_inverse_masks() -> None:
    short = masks(BASE, [49] * 200)
    assert short.mean() == pytest.approx(0.49, abs=1e-3)
    assert runs_of(short).mean() == pytest.approx(4.0, abs=0.12)
    plain = runs_of(masks(MaskShape(8, 0.5, 0.0, 5), [499] * 64))
    assert (plain == 1).mean() > (runs_of(masks(BASE, [499] * 64)) == 1).mean() + 0.03
    inverse = masks(MaskShape(8, 0.5, 0.05, 5, inverse=True), [499] * 64)
    assert inverse.mean() == pytest.approx(0.499, abs=1e-4)
    assert 0.22 < (runs_of(inverse) == 1).mean() < 0.27
    assert np.median(runs_of(~inverse)) == 5


def test_a_mask_depends_on_its_item_and_number_alone() -> None:
    together = masks(BASE, [499, 300, 120])
    for item, count in enumerate((499, 300, 120)):
        alone = masks(BASE, [count], items=[item])
        assert np.array_equal(alone[0], together[item, :, :count])
    fewer = masks(MaskShape(2, 0.5, 0.05, 5), [499, 300, 120])
    assert np.array_equal(fewer, together[:, :2])
    assert not np.array_equal(together[0, 0], together[0, 1])
    assert not np.array_equal(masks(BASE, [300], items=[5])[0], together[1, :, :300])


def test_frames_are_masked_equally_often_away_from_the_ends() -> None:
    often = masks(MaskShape(16, 0.5, 0.05, 5), [60] * 400).mean(axis=(0, 1))
    assert np.abs(often[4:-4] - 0.5).max() < 0.04


def test_places_are_those_of_the_flags_in_order() -> None:
    mask_BML = masks(BASE, [49, 20])
    places = places_of(mask_BML)
    assert places.shape == (2, 8, 24)
    for rows, lists in zip(mask_BML, places, strict=True):
        for row, found in zip(rows, lists, strict=True):
            count = row.sum()
            assert found[:count].tolist() == np.flatnonzero(row).tolist()
            assert not found[count:].any()
