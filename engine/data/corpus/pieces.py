"""Where long recordings are cut: at pauses, into pieces of a wanted length. NumPy only; nothing is read here.

Letters: L frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.audio.silence import FRAME_S, runs_of_sound, silence_limit_db

_SHORTEST_PAUSE_S = 0.05  # below that a gap is part of a word, as before a plosive
_PAD_S = 0.1  # of the pause that a piece keeps at each end, at most half of it
_LONG_PAUSE_S = 0.7  # inside a piece, longer ones are avoided
_LOST = 5.0  # cost of a second that is left out, against one of a pause inside a piece
_PER_PIECE = 0.1  # fewer, longer pieces are better


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a recording, in frames of `FRAME_S`."""

    start: int
    end: int


def plan_pieces(
    levels_L: np.ndarray, *, min_s: float, max_s: float, pause_s: float
) -> tuple[list[Piece], list[Piece]]:
    """Return the pieces of a recording, and the parts with sound that fit into none.

    A piece begins and ends in a pause of at least `pause_s`; where a stretch without one is longer than `max_s`,
    shorter pauses divide it. Among all ways to cut, one is taken that leaves out least, and has few long pauses
    inside pieces.

    Args:
        levels_L: level of each frame, in dB.
        min_s: shortest piece.
        max_s: longest piece.
        pause_s: shortest pause to cut at.
    """
    longest, shortest = int(max_s / FRAME_S), int(np.ceil(min_s / FRAME_S))
    limit_db = silence_limit_db(levels_L)
    runs = _divided(levels_L, limit_db, pause=max(1, round(pause_s / FRAME_S)), longest=longest)
    starts, ends = _padded(runs, len(levels_L))
    pieces, lost = _best(starts, ends, shortest=shortest, longest=longest)
    return pieces, [Piece(runs[k][0], runs[k][1]) for k in lost]


def _divided(
    levels_L: np.ndarray, limit_db: float, *, pause: int, longest: int, start: int = 0
) -> list[tuple[int, int]]:
    """Return runs of sound; those longer than a piece are divided at shorter pauses, where there are any."""
    found: list[tuple[int, int]] = []
    for first, last in runs_of_sound(levels_L, limit_db, min_pause=pause).tolist():
        shorter = pause // 2
        if last - first <= longest or shorter < _SHORTEST_PAUSE_S / FRAME_S:
            found.append((start + first, start + last))
        else:
            inner = levels_L[first:last]
            found += _divided(inner, limit_db, pause=shorter, longest=longest, start=start + first)
    return found


def _padded(runs: Sequence[tuple[int, int]], total: int) -> tuple[list[int], list[int]]:
    """Return starts and ends of runs with a little of the pauses around them; neighbours never overlap."""
    pad = round(_PAD_S / FRAME_S)
    starts, ends = [], []
    for place, (first, last) in enumerate(runs):
        before = first - runs[place - 1][1] if place else 2 * first
        after = runs[place + 1][0] - last if place + 1 < len(runs) else 2 * (total - last)
        starts.append(first - min(pad, before // 2))
        ends.append(last + min(pad, after // 2))
    return starts, ends


def _best(
    starts: Sequence[int], ends: Sequence[int], *, shortest: int, longest: int
) -> tuple[list[Piece], list[int]]:
    """Return the pieces of least cost, and the runs that are left out (dynamic programming over runs)."""
    number = len(starts)
    costs = [0.0] + [np.inf] * number
    came_from: list[tuple[int, bool]] = [(0, False)] * (number + 1)
    for end in range(1, number + 1):
        lost_s = (ends[end - 1] - starts[end - 1]) * FRAME_S
        costs[end] = costs[end - 1] + _LOST * lost_s
        came_from[end] = (end - 1, False)
        pauses = 0.0
        for start in range(end - 1, -1, -1):
            if start < end - 1:
                pauses += max(0.0, (starts[start + 1] - ends[start]) * FRAME_S - _LONG_PAUSE_S)
            length = ends[end - 1] - starts[start]
            if length > longest:
                break
            cost = costs[start] + pauses + _PER_PIECE
            if length >= shortest and cost < costs[end]:
                costs[end], came_from[end] = cost, (start, True)
    pieces: list[Piece] = []
    lost: list[int] = []
    place = number
    while place:
        start, is_piece = came_from[place]
        if is_piece:
            pieces.append(Piece(starts[start], ends[place - 1]))
        else:
            lost.append(start)
        place = start
    return pieces[::-1], lost[::-1]
