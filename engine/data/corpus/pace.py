"""Clips whose length does not fit their text: most often the text of another clip. Free of torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_FEWEST = 10  # clips of a speaker, to know how fast they speak
_MOST_PAIRS = 300  # clips that the line is fitted to
_TIMES = 2.0  # as long, or as short, as expected
_DEVIATIONS = 4.0
_SPOKEN = 0.5  # share of a clip of usual length that grows with its text


@dataclass(frozen=True, slots=True)
class Odd:
    """A clip (its `place`) of `seconds` of speech, where `expected_s` fit its text."""

    place: int
    seconds: float
    expected_s: float


def odd_ones(
    speakers: Sequence[str], characters: Sequence[int], *, seconds: Sequence[float]
) -> Iterator[Odd]:
    """Yield the clips that are more than twice as long or short as their speaker's others of as many characters.

    The expected length is a line over characters, fitted so that a quarter of wrong texts does not move it (Theil
    and Sen: the median of slopes); a clip also has to be four robust deviations away from it. Speakers of few
    clips are judged by all clips together.

    Args:
        speakers: the speaker of each clip.
        characters: length of each text.
        seconds: length of each clip, without the silence at its ends.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for place, speaker in enumerate(speakers):
        groups[speaker].append(place)
    everybody = list(range(len(speakers)))
    for places in groups.values():
        others = places if len(places) >= _FEWEST else everybody
        if len(others) < _FEWEST:
            continue
        counts_N, seconds_N = np.array(characters)[others], np.array(seconds)[others]
        line = _line(counts_N, seconds_N)
        deviation = _deviation(seconds_N, _expected(counts_N, line))
        for place in places:
            expected_s = float(_expected(np.array([characters[place]]), line)[0])
            off = abs(np.log(max(seconds[place], 0.01) / expected_s))
            if off > np.log(_TIMES) and off > _DEVIATIONS * deviation:
                yield Odd(place, seconds[place], expected_s)


def _expected(counts_N: np.ndarray, line: tuple[float, float]) -> np.ndarray:
    slope, start = line
    return np.maximum(slope * counts_N + start, 0.05)


def _line(counts_N: np.ndarray, seconds_N: np.ndarray) -> tuple[float, float]:
    """Return slope and start: the medians of the slopes of pairs, and of what is left.

    Texts of nearly equal length say little about the slope; but at least half of a usual clip is its characters.
    """
    step = -(-len(counts_N) // _MOST_PAIRS)
    x_N, y_N = counts_N[::step].astype(float), seconds_N[::step].astype(float)
    rows, columns = np.triu_indices(len(x_N), 1)
    runs = x_N[columns] - x_N[rows]
    apart = runs != 0
    slopes = (y_N[columns] - y_N[rows])[apart] / runs[apart]
    least = _SPOKEN * float(np.median(y_N)) / float(np.median(x_N))
    slope = max(least, float(np.median(slopes))) if len(slopes) else least
    return slope, float(np.median(y_N - slope * x_N))


def _deviation(seconds_N: np.ndarray, expected_N: np.ndarray) -> float:
    """Return the robust deviation of the logarithm of lengths from what is expected."""
    off_N = np.log(np.maximum(seconds_N, 0.01) / expected_N)
    return float(1.4826 * np.median(np.abs(off_N - np.median(off_N))))
