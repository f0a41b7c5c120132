"""Clips of a few validation items: audio and spectrograms in a run's folder, written at evaluations.

The input and the target of an item are written once, its estimates once per evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.audio.wav_files import write_wav
from engine.evaluation.result import Clip
from engine.evaluation.spectrogram import png
from engine.events import ClipFile

_FOLDER = "clips"
# Where earlier versions put them: a run that began there keeps its inputs and targets.
_OLD_FOLDER = "samples"


def write_clips(folder: Path, updates: int, *, clips: Sequence[Clip]) -> list[ClipFile]:
    """Write the audio (32-bit float WAV) and spectrogram of each signal below a run's folder.

    Raises:
        OSError: when the disk is full or not writable.
    """
    return [file for clip in clips for file in _write(folder, updates, clip=clip)]


def _write(folder: Path, updates: int, *, clip: Clip) -> Iterator[ClipFile]:
    kept_in = _OLD_FOLDER if (folder / _OLD_FOLDER).is_dir() else _FOLDER
    place = f"{kept_in}/item-{clip.item:04d}"
    (folder / place).mkdir(parents=True, exist_ok=True)
    for kind, samples_CT in clip.signals.items():
        changes = kind.startswith("estimate")
        name = f"{place}/{kind}-{updates:08d}" if changes else f"{place}/{kind}"
        audio, picture = f"{name}.wav", f"{name}.png"
        if changes or not (folder / audio).exists():
            (folder / picture).write_bytes(png(samples_CT))
            write_wav(folder / audio, samples_CT, rate_hz=clip.rate_hz)
        yield ClipFile(
            updates if changes else 0, clip.item, kind=kind, path=audio, spectrogram=picture,
            text=clip.texts.get(kind),
        )  # fmt: skip
