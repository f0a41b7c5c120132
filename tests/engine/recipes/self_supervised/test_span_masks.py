"""Claims about span masks: their statistics, and that an item's mask is its own."""

import numpy as np
import pytest
import torch
from torchaudio.models.wav2vec2.components import _compute_mask_indices

from engine.item_random import item_generator
from engine.recipes.self_supervised.layer_drop import kept_layers
from engine.recipes.self_supervised.span_masks import mean_run, span_masks
from models.self_supervised.settings import HubertConfig

HUBERT = {"prob": 0.8, "length": 10, "min_spans": 2}


def generators(count, seed=0):
    return [item_generator(seed, 0, index, "mask") for index in range(count)]


@pytest.mark.parametrize(
    ("frames", "share", "run"),
    # Share and run of a single row of torchaudio's generator, which doesn't cut rows down alone.
    [(499, (0.54, 0.57), (15, 17)), (99, (0.5, 0.58), (13, 17)), (49, (0.46, 0.6), (12, 17))],
)
def test_more_than_half_is_masked_in_long_runs(frames, share, run):
    masks = span_masks(generators(2000), frames=[frames] * 2000, **HUBERT)
    masked, runs = mean_run(masks)
    assert share[0] < masked / masks.size < share[1]
    assert run[0] < masked / runs < run[1]


@pytest.mark.parametrize("frames", [20, 99, 499])
def test_masks_are_those_of_torchaudio_for_single_rows(frames):
    torch.manual_seed(0)
    theirs = torch.cat(
        [_compute_mask_indices((1, frames), None, 0.8, 10, min_masks=2) for _ in range(3000)]
    ).numpy()
    ours = span_masks(generators(3000), frames=[frames] * 3000, **HUBERT)
    # The share masked at each place, the edges included: 5 standard errors of a difference.
    error = 5 * np.sqrt(2 * 0.25 / 3000)
    assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < error
    (few, runs), (many, others) = mean_run(ours), mean_run(theirs)
    assert few / runs == pytest.approx(many / others, rel=0.02)
    for few, many in zip(np.sort(ours.sum(1))[::50], np.sort(theirs.sum(1))[::50], strict=True):
        assert abs(few - many) <= 0.04 * frames + 1


def test_the_mask_of_an_item_depends_on_no_other_item():
    lengths = [99, 30, 250, 3]
    together = span_masks(generators(4), frames=lengths, **HUBERT)
    for index, frames in enumerate(lengths):
        alone = span_masks([item_generator(0, 0, index, "mask")], frames=[frames], **HUBERT)
        assert np.array_equal(alone[0], together[index, :frames])
        assert not together[index, frames:].any()


def test_every_run_is_as_long_as_a_span_unless_the_item_ends():
    masks = span_masks(generators(300), frames=[60] * 300, prob=0.3, length=7, min_spans=1)
    for row in masks:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
        for start, end in edges.reshape(-1, 2):
            assert end - start >= 7 or end == 60


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 10, 12])
def test_items_shorter_than_a_span_are_masked_where_they_have_frames(frames):
    masks = span_masks(generators(200), frames=[frames] * 200, **HUBERT)
    assert masks.shape == (200, frames)
    assert masks.any(axis=1).all() == bool(frames)


def test_the_least_number_of_spans_holds():
    masks = span_masks(generators(500), frames=[200] * 500, prob=0.0, length=1, min_spans=3)
    assert (masks.sum(axis=1) == 3).all()


def test_runs_are_counted_row_by_row():
    mask = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], dtype=bool)
    assert mean_run(mask) == (5, 4)


def test_layers_are_drawn_once_an_update():
    model = HubertConfig(layer_drop=0.25)
    drawn = [kept_layers(3, update, model=model) for update in range(1, 801)]
    assert drawn == [kept_layers(3, update, model=model) for update in range(1, 801)]
    assert {len(kept) for kept in drawn} == {12}
    assert abs(np.mean(drawn) - 0.75) < 0.02
    assert drawn != [kept_layers(4, update, model=model) for update in range(1, 801)]
    assert kept_layers(3, 0, model=model) is None
    assert kept_layers(3, 5, model=HubertConfig(layer_drop=0.0)) is None
