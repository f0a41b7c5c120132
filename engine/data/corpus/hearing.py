"""Listens to clips of a corpus: silence at their ends, samples at full scale, what makes two the same. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from engine.audio.silence import levels_db, silence_limit_db, silent_ends_s
from engine.config.errors import DataError
from engine.data.checks.listening import FULL_SCALE, SILENT_PEAK
from engine.data.files.audio_files import AudioInfo, read_segment


@dataclass(frozen=True, slots=True)
class Heard:
    """What a clip sounds like, or why it can't be read.

    Attributes:
        lead_s: seconds of silence before the first sound.
        tail_s: those after the last.
        clipped: share of samples at full scale, of those of the loudest channel.
        peak: largest absolute sample.
        digest: equal for equal samples at equal rates, whatever the format.
        problem: why it can't be read; empty if it can.
    """

    lead_s: float = 0.0
    tail_s: float = 0.0
    clipped: float = 0.0
    peak: float = 0.0
    digest: str = ""
    problem: str = ""

    @property
    def is_silent(self) -> bool:
        """Whether nothing can be heard."""
        return self.peak <= SILENT_PEAK


def listen_to(
    parts: Sequence[tuple[AudioInfo, float, float]],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Heard]:
    """Read parts of files, several at once, and yield the results in their order.

    Args:
        parts: (file, start in seconds, length in seconds); each is held in memory.
        progress: called with (parts heard, parts in all).
    """
    pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        for number, heard in enumerate(pool.map(_hear, parts), start=1):
            if progress is not None:
                progress(number, len(parts))
            yield heard
    finally:  # Ctrl-C doesn't wait for thousands of files
        pool.shutdown(cancel_futures=True)


def _hear(part: tuple[AudioInfo, float, float]) -> Heard:
    info, start_s, duration_s = part
    start = min(round(start_s * info.rate_hz), info.frames - 1)
    frames = max(1, min(round(duration_s * info.rate_hz), info.frames - start))
    try:
        samples_CT = read_segment(info, start, frames=frames)
    except DataError as error:
        return Heard(problem=error.problems[0].message)
    size_CT = np.abs(samples_CT)
    levels_L = levels_db(samples_CT, info.rate_hz)
    lead_s, tail_s = silent_ends_s(levels_L, silence_limit_db(levels_L))
    digest = blake2b(f"{info.rate_hz} {info.channels}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(samples_CT).tobytes())
    return Heard(
        lead_s, tail_s, clipped=float((size_CT >= FULL_SCALE).mean(axis=1).max()),
        peak=float(size_CT.max()), digest=digest.hexdigest(),
    )  # fmt: skip
