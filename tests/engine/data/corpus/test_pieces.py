"""Claims about cutting at silences: no sound is cut through or lost without a word, every length is kept."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data.corpus.pieces import plan_pieces


def levels(*runs: tuple[float, float], tail_s: float = 0.5, noise_db: float = -70.0) -> np.ndarray:
    """(pause before, sound) in seconds."""
    draw = np.random.default_rng(0)
    found = []
    for pause_s, sound_s in runs:
        found += [noise_db + draw.normal(size=round(pause_s * 100))]
        found += [-20 + 3 * draw.normal(size=round(sound_s * 100))]
    return np.concatenate([*found, noise_db + draw.normal(size=round(tail_s * 100))])


def seconds(pieces) -> list[tuple[float, float]]:
    return [(piece.start / 100, piece.end / 100) for piece in pieces]


def test_pieces_begin_and_end_in_the_pauses() -> None:
    pieces, lost = plan_pieces(levels((0.5, 3), (0.6, 4), (0.6, 3)), min_s=1, max_s=5, pause_s=0.25)
    assert lost == []
    assert seconds(pieces) == [(0.4, 3.6), (4.0, 8.2), (8.6, 11.8)]


def test_short_ones_are_joined_over_short_pauses_rather_than_long_ones() -> None:
    runs = [(0.5, 1.5), (0.3, 1.5), (2.0, 1.5), (0.3, 1.5)]
    pieces, lost = plan_pieces(levels(*runs), min_s=1, max_s=6, pause_s=0.25)
    assert lost == []
    assert seconds(pieces) == [(0.4, 3.9), (5.7, 9.2)]


def test_a_word_by_itself_is_joined_rather_than_lost() -> None:
    pieces, lost = plan_pieces(
        levels((0.5, 4.0), (1.5, 0.4), (1.5, 4.0)), min_s=1, max_s=7, pause_s=0.25
    )
    assert lost == []
    assert len(pieces) == 2
    alone, lost = plan_pieces(
        levels((0.5, 6.5), (5.0, 0.4), (5.0, 6.5)), min_s=1, max_s=7, pause_s=0.25
    )
    assert len(alone) == 2
    assert seconds(lost) == [(12.0, 12.4)]


def test_stretches_without_a_long_pause_are_cut_at_shorter_ones_or_said_to_be_left_out() -> None:
    runs = [(0.5, 3.0), (0.12, 3.0), (0.12, 3.0)]
    pieces, lost = plan_pieces(levels(*runs), min_s=1, max_s=5, pause_s=0.25)
    assert lost == []
    assert len(pieces) == 3
    pieces, lost = plan_pieces(levels((0.5, 9.0), (0.5, 3.0)), min_s=1, max_s=5, pause_s=0.25)
    assert seconds(lost) == [(0.5, 9.5)]
    assert len(pieces) == 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("noise_db", [-120.0, -60.0, -46.0, -38.0])
def test_all_sound_is_in_a_piece_or_said_to_be_lost(seed: int, noise_db: float) -> None:
    draw = np.random.default_rng(seed)
    runs = [(float(draw.uniform(0.15, 1.5)), float(draw.uniform(0.3, 4))) for _ in range(60)]
    levels_L = levels(*runs, noise_db=noise_db)
    pieces, lost = plan_pieces(levels_L, min_s=1, max_s=8, pause_s=0.3)
    covered = np.zeros(len(levels_L), int)
    for piece in (*pieces, *lost):
        covered[piece.start : piece.end] += 1
    loud = levels_L > -34
    assert covered[loud].min() == 1
    assert covered.max() == 1
    assert all(100 <= piece.end - piece.start <= 800 for piece in pieces)
    for piece in pieces:  # both ends lie in a pause
        assert not loud[max(0, piece.start - 2) : piece.start + 3].any()
        assert not loud[piece.end - 3 : piece.end + 2].any()


def test_silence_has_no_pieces() -> None:
    assert plan_pieces(np.full(500, -120.0), min_s=1, max_s=5, pause_s=0.25) == ([], [])
