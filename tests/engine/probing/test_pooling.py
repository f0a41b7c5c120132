"""Pooling, and which frames belong to a part of a recording."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from engine.probing.pooling import frames_between, mean_pooled, segment_pooled


def test_means_by_hand():
    frames_LD = np.arange(16.0).reshape(8, 2)
    assert mean_pooled(frames_LD).tolist() == [7.0, 8.0]
    assert segment_pooled(frames_LD).tolist() == [1, 2, 5, 6, 9, 10, 13, 14]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 50])
def test_any_length_has_four_segments_that_follow_each_other(length):
    found = segment_pooled(np.arange(float(length))[:, None])
    assert len(found) == 4
    assert (np.diff(found) >= 0).all()
    assert found[0] < length / 4
    assert found[-1] >= length * 3 / 4 - 1


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (0.0, 1.0, (0, 10)),  # all of ten frames with centres 0.0125, 0.0325, ...
        (0.0125, 0.0325, (0, 1)),  # a centre at the start counts, one at the end does not
        (0.05, 0.09, (2, 4)),
        (0.055, 0.06, (2, 3)),  # no centre: the nearest frame
        (5.0, 6.0, (9, 10)),
    ],
)
def test_frames_of_a_part(start_s, end_s, expected):
    found = frames_between(10, (start_s, end_s), frame_s=0.02, first_s=0.0125)
    assert (found.start, found.stop) == expected


def test_parts_that_meet_share_no_frame():
    edges = np.linspace(0, 0.2125, 7)
    slices = [
        frames_between(10, (a, b), frame_s=0.02, first_s=0.0125)
        for a, b in itertools.pairwise(edges)
    ]
    assert [k for part in slices for k in range(part.start, part.stop)] == list(range(10))
