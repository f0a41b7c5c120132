"""Cuts long recordings of a voice at silences into WAV files, with a table to fill in. Free of torch.

Samples are copied as they are: 16 and 24 bit and floating point stay what they were, at the same rate, with the
same channels. Letters: C channels, T samples, L frames.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from engine.audio.silence import FRAME_S, frame_samples, levels_db
from engine.config.errors import DataError, Problem
from engine.data.corpus.pieces import Piece, plan_pieces
from engine.data.files.audio_files import AudioInfo, read_segment
from engine.data.files.opening import Unreadable, blocks, measure

TABLE, SOURCES, FOLDER = "metadata.csv", "sources.tsv", "wavs"
_BLOCK_FRAMES = 3_000  # half a minute is read at once
_SIXTEEN_BITS = 2**15
_TWENTY_FOUR_BITS = 2**23
_24_BIT = frozenset({"PCM_24", "PCM_32", "ALAC_24", "ALAC_32", "ALAC_20"})
_FLOAT = frozenset({"FLOAT", "DOUBLE"})


@dataclass(frozen=True, slots=True)
class CutFile:
    """A recording that was cut: the number and seconds of its pieces, and the parts that fit into none."""

    info: AudioInfo
    num_pieces: int
    pieces_s: float
    lost: tuple[tuple[float, float], ...]


def cut_recordings(
    infos: Sequence[AudioInfo],
    out: Path,
    *,
    min_s: float,
    max_s: float,
    pause_s: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[CutFile]:
    """Write the pieces of recordings as `wavs/<name>-<number>.wav` into a new folder.

    `metadata.csv` lists them as `id|`, to be filled in; `sources.tsv` says where each comes from.

    Args:
        infos: the recordings.
        out: the folder to create; it must be absent or empty.
        min_s: shortest piece.
        max_s: longest piece.
        pause_s: shortest pause to cut at.
        progress: called with (recordings cut, recordings in all) after each.

    Raises:
        DataError: for recordings that can't be read, if nothing could be cut, and if `out` is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        message = f"{out} exists and is not empty; choose another folder or remove it"
        raise DataError([Problem("", message)])
    aside = out.with_name(f".{out.name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / FOLDER).mkdir(parents=True)
    try:
        names = _names(infos)
        rows: list[tuple[str, AudioInfo, float, float]] = []
        cut = []
        for number, info in enumerate(infos, start=1):
            plan, lost = plan_pieces(_levels(info), min_s=min_s, max_s=max_s, pause_s=pause_s)
            rows += _write(info, plan, folder=aside / FOLDER, name=names[info.path])
            seconds = sum((piece.end - piece.start) * FRAME_S for piece in plan)
            parts = tuple((part.start * FRAME_S, part.end * FRAME_S) for part in lost)
            cut.append(CutFile(info, len(plan), seconds, lost=parts))
            progress(number, len(infos))
        if not rows:
            raise DataError([Problem("", f"no piece {_wanted(min_s, max_s, pause_s=pause_s)}")])
        (aside / TABLE).write_text("".join(f"{name}|\n" for name, *_ in rows), encoding="utf-8")
        lines = [
            f"{name}\t{info.path}\t{start:.3f}\t{end:.3f}\n" for name, info, start, end in rows
        ]
        (aside / SOURCES).write_text(
            "".join(["id\tsource\tstart_s\tend_s\n", *lines]), "utf-8", "surrogateescape"
        )
        if out.exists():
            out.rmdir()
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return cut


def _wanted(min_s: float, max_s: float, *, pause_s: float) -> str:
    return (
        f"of {min_s:g} to {max_s:g} s between pauses of {pause_s:g} s; lower --min or --pause, or raise --max, "
        "and listen whether noise fills the pauses"
    )


def _levels(info: AudioInfo) -> np.ndarray:
    """Return the level of each frame of a recording, (L,) in dB, read in blocks."""
    size = frame_samples(info.rate_hz) * _BLOCK_FRAMES
    try:
        found = [levels_db(block_TC.T, info.rate_hz) for block_TC in blocks(info.path, size=size)]
    except Unreadable as error:
        raise DataError([Problem("", f"{info.path}: {error}")]) from None
    return np.concatenate(found)


def _write(
    info: AudioInfo, plan: Sequence[Piece], *, folder: Path, name: str
) -> list[tuple[str, AudioInfo, float, float]]:
    subtype = measure(info.path).subtype
    size = frame_samples(info.rate_hz)
    rows = []
    for number, piece in enumerate(plan, start=1):
        start, end = piece.start * size, min(piece.end * size, info.frames)
        samples_CT = read_segment(info, start, frames=end - start)
        stem = f"{name}-{number:04d}"
        samples, kind = _as_it_was(samples_CT, subtype)
        try:
            soundfile.write(folder / f"{stem}.wav", samples.T, info.rate_hz, subtype=kind)
        except soundfile.LibsndfileError as error:
            raise OSError(f"{folder / stem}.wav can't be written: {error.error_string}") from None
        rows.append((stem, info, start / info.rate_hz, end / info.rate_hz))
    return rows


def _as_it_was(samples_CT: np.ndarray, subtype: str) -> tuple[np.ndarray, str]:
    """Return samples as WAV keeps them without a change, and libsndfile's name of that encoding.

    Integers are written as such: libsndfile would scale floating point by 32767, but reads it by 32768.
    """
    if subtype in _FLOAT:
        return samples_CT, "FLOAT"
    if subtype in _24_BIT:
        scaled_CT = np.rint(samples_CT.astype(np.float64) * _TWENTY_FOUR_BITS)
        whole_CT = np.clip(scaled_CT, -_TWENTY_FOUR_BITS, _TWENTY_FOUR_BITS - 1).astype(np.int32)
        return whole_CT << 8, "PCM_24"
    scaled_CT = np.rint(samples_CT.astype(np.float64) * _SIXTEEN_BITS)
    return np.clip(scaled_CT, -_SIXTEEN_BITS, _SIXTEEN_BITS - 1).astype(np.int16), "PCM_16"


def _names(infos: Sequence[AudioInfo]) -> dict[Path, str]:
    """Return a name for each recording, without what tables and shells divide by; equal ones are numbered."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for info in infos:
        stem = "".join(char if char.isalnum() or char in "-_." else "_" for char in info.path.stem)
        name, number = stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names[info.path] = name
    return names
