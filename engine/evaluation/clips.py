"""What a few validation items sound and look like: files in a run's folder, written at evaluations.

The input and the target of an item are written once, its estimates under the update they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from engine.evaluation.result import AudioSample
from engine.evaluation.spectrogram import png
from engine.events import SampleFile

_FOLDER = "samples"


def write_samples(folder: Path, updates: int, samples: Sequence[AudioSample]) -> list[SampleFile]:
    """Write the audio (32-bit float WAV) and spectrogram of each signal below a run's folder.

    Raises:
        OSError: when the disk is full or not writable.
    """
    return [file for sample in samples for file in _write(folder, updates, sample)]


def _write(folder: Path, updates: int, sample: AudioSample) -> Iterator[SampleFile]:
    place = f"{_FOLDER}/item-{sample.item:04d}"
    (folder / place).mkdir(parents=True, exist_ok=True)
    for kind, samples_CT in sample.signals.items():
        changes = kind.startswith("estimate")
        name = f"{place}/{kind}-{updates:08d}" if changes else f"{place}/{kind}"
        audio, picture = f"{name}.wav", f"{name}.png"
        if changes or not (folder / audio).exists():
            (folder / picture).write_bytes(png(samples_CT))
            _write_audio(folder / audio, samples_CT, sample.rate_hz)
        yield SampleFile(updates if changes else 0, sample.item, kind, audio, picture)


def _write_audio(path: Path, samples_CT: np.ndarray, rate_hz: int) -> None:
    """Write a file that is complete or not there."""
    part = path.with_suffix(".part")
    try:
        soundfile.write(part, samples_CT.T, rate_hz, subtype="FLOAT", format="WAV")
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path}: {error}") from None
    part.replace(path)
