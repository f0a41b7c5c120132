"""CPU time of reading one training item: segments of all stems of a track, by each way of reading.

    python tests/bench/segment_reads.py [--segment 3] [--stems 4] [--minutes 3] [--items 60]

Writes tracks of stereo noise at 44.1 kHz, 16 bits, into a temporary folder. A whole-file loader, which
decodes a file and cuts the segment out, is measured beside ours in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from engine.data.files.audio_files import AudioInfo, probe, read_segment
from engine.data.files.cache import AudioCopy, copy_of

RATE_HZ = 44_100
Reader = Callable[[int, int], np.ndarray]


def whole_file(info: AudioInfo) -> Reader:
    """Decode all of a file for each segment."""

    def read(start: int, frames: int) -> np.ndarray:
        samples_TC, _ = soundfile.read(info.path, dtype="float32", always_2d=True)
        return np.ascontiguousarray(samples_TC[start : start + frames].T)

    return read


def by_seeking(info: AudioInfo) -> Reader:
    return lambda start, frames: read_segment(info, start, frames=frames)


def copied(info: AudioInfo, folder: Path) -> AudioCopy:
    read = by_seeking(info)
    return copy_of(info, folder, read=read, frames=info.frames, rate_hz=RATE_HZ, channels=2)


def cpu_ms(readers: list[Reader], *, total: int, frames: int, items: int) -> float:
    """Return CPU milliseconds for each item, which takes one segment from every reader."""
    starts = np.random.default_rng(0).integers(total - frames, size=items)
    for read in readers:
        read(0, frames)
    begin = time.process_time()
    for start in starts:
        np.stack([read(int(start), frames) for read in readers])
    return (time.process_time() - begin) / items * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segment", type=float, default=3.0)
    parser.add_argument("--stems", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--items", type=int, default=60)
    options = parser.parse_args()
    total, frames = round(options.minutes * 60 * RATE_HZ), round(options.segment * RATE_HZ)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        infos: dict[str, list[AudioInfo]] = {"wav": [], "flac": []}
        for stem in range(options.stems):
            samples = np.cumsum(random.normal(0, 0.01, (total, 2)), axis=0)
            samples = 0.5 * np.sin(samples) + random.normal(0, 0.01, samples.shape)
            for kind in infos:
                path = folder / f"{stem}.{kind}"
                soundfile.write(path, samples.clip(-1, 1), RATE_HZ, subtype="PCM_16")
                infos[kind].append(probe(path))
        copies = [copied(info, folder / "copies").read for info in infos["flac"]]
        ways: dict[str, tuple[list[Reader], int]] = {
            "memory map (data.cache)": (copies, options.items),
            "WAV, seek": ([by_seeking(info) for info in infos["wav"]], options.items),
            "FLAC, seek": ([by_seeking(info) for info in infos["flac"]], options.items),
            "WAV, whole file": ([whole_file(info) for info in infos["wav"]], 5),
            "FLAC, whole file": ([whole_file(info) for info in infos["flac"]], 5),
        }
        times = {
            way: cpu_ms(readers, total=total, frames=frames, items=items)
            for way, (readers, items) in ways.items()
        }
    slowest = times["FLAC, whole file"]
    print(
        f"{options.segment:g} s x {options.stems} stems of {options.minutes:g} min, stereo, 44.1 kHz"
    )
    print(f"{'way':<26}{'CPU ms an item':>16}{'items per CPU s':>18}{'times faster':>15}")
    for way, value in times.items():
        print(f"{way:<26}{value:>16.2f}{1e3 / value:>18.1f}{slowest / value:>15.1f}")


if __name__ == "__main__":
    main()
