"""Where items lie: counted, cropped, padded and trimmed by hand-made answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from engine.config.schema import RunConfig
from engine.data.separation.excerpts import Excerpt, Excerpts

MakeConfig = Callable[..., RunConfig]
SEGMENT = 800


def test_a_file_gives_as_many_items_as_whole_segments(make_config: MakeConfig) -> None:
    items = Excerpts([100, 800, 1599, 1600, 8100], make_config("bandwidth"), split="train")
    files = [items.locate(0, index).file for index in range(len(items))]
    assert files == [0, 1, 2, 3, 3] + [4] * 10
    np.testing.assert_array_equal(items.durations_s(), np.full(15, 0.1))


def test_short_files_are_padded_evenly(make_config: MakeConfig) -> None:
    items = Excerpts([101, 800], make_config("bandwidth"), split="train")
    assert items.locate(3, 0) == Excerpt(0, 0, frames=101, pad_left=349, pad_right=350)
    assert items.locate(3, 1) == Excerpt(1, 0, frames=800)
    padded = items.locate(3, 0).pad(np.ones((2, 101), np.float32))
    assert padded.shape == (2, 800)
    assert padded.sum() == 202
    assert padded[:, 349:450].all()


def test_crops_reach_every_place_and_stay_inside(make_config: MakeConfig) -> None:
    items = Excerpts([SEGMENT + 3], make_config("bandwidth"), split="train")
    starts = [items.locate(epoch, 0).start for epoch in range(100)]
    assert set(starts) == {0, 1, 2, 3}


def test_crops_follow_seed_epoch_and_index(make_config: MakeConfig) -> None:
    def starts(seed: int, epoch: int) -> list[int]:
        items = Excerpts([100_000], make_config("bandwidth", seed=seed), split="train")
        return [items.locate(epoch, index).start for index in range(20)]

    assert starts(0, 0) == starts(0, 0)
    assert starts(0, 0) != starts(0, 1)
    assert starts(0, 0) != starts(1, 0)
    assert len(set(starts(0, 0))) == 20


def test_validation_is_the_middle_never_padded(make_config: MakeConfig) -> None:
    config = make_config("bandwidth", validation={"segment_s": 0.2})
    items = Excerpts([50, 1600, 2001], config, split="valid")
    assert [items.locate(0, i) for i in range(3)] == [
        Excerpt(0, 0, frames=50), Excerpt(1, 0, frames=1600), Excerpt(2, 200, frames=1600),
    ]  # fmt: skip
    np.testing.assert_allclose(items.durations_s(), [50 / 8000, 0.2, 0.2])
    assert items.locate(7, 2) == items.locate(0, 2)


@pytest.mark.parametrize(
    ("most", "files"), [(0, [0, 1, 2, 3, 4, 5]), (3, [0, 2, 4]), (9, [0, 1, 2, 3, 4, 5])]
)
def test_a_limit_on_validation_leaves_files_out_evenly(
    most: int, files: list[int], make_config: MakeConfig
) -> None:
    items = Excerpts(
        [10] * 6, make_config("bandwidth", validation={"max_items": most}), split="valid"
    )
    assert [items.locate(0, i).file for i in range(len(items))] == files


def test_validation_is_the_same_for_every_seed(make_config: MakeConfig) -> None:
    first, second = (
        Excerpts([5000, 9000], make_config("bandwidth", seed=seed), split="valid")
        for seed in (0, 1)
    )
    assert [first.locate(0, i) for i in range(2)] == [second.locate(0, i) for i in range(2)]


def test_short_files_can_be_items_of_their_own_length(make_config: MakeConfig) -> None:
    config = make_config("bandwidth", short_files="whole")
    items = Excerpts([101, 800, 1700], config, split="train")
    np.testing.assert_allclose(items.durations_s(), [101 / 8000, 0.1, 0.1, 0.1])
    assert items.locate(3, 0) == Excerpt(0, 0, frames=101)
    assert items.locate(3, 2).frames == SEGMENT
