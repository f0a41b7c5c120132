"""Denoising: clean audio plus a piece of noise, at a signal-to-noise ratio.

Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from engine.batching.batch import Split
from engine.config.data import DenoiseData
from engine.config.errors import DataError, Problem
from engine.config.schema import RunConfig
from engine.data.files.audio_files import AudioInfo
from engine.data.files.headers import scan_indexed
from engine.data.files.source import Source, make_sources, manifest_of
from engine.data.separation.dataset import AudioItem, WholeItem
from engine.data.separation.excerpts import Excerpts, OnExcerpts
from engine.item_random import item_generator

_TRAIN_SHARE = 0.9
_BLOCK = 2**20
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True, slots=True)
class NoisePiece:
    """Which noise an item gets: recording, first sample in it, and signal-to-noise ratio."""

    recording: int
    start: int
    snr_db: float


@dataclass(frozen=True, slots=True)
class NoiseRecording:
    """The part [first, first + length) of a recording that a split may use."""

    source: Source
    first: int
    length: int

    def read(self, start: int, frames: int) -> np.ndarray:
        """Read float32 (C, frames) from `start` of the part; at its end, go on at its beginning."""
        start %= self.length
        if start + frames <= self.length:
            return self.source.read(self.first + start, frames)
        pieces = []
        while frames:
            count = min(frames, self.length - start)
            pieces.append(self.source.read(self.first + start, count))
            start, frames = 0, frames - count
        return np.concatenate(pieces, axis=1)


class DenoiseDataset(OnExcerpts):
    """Items of a folder of clean audio and a folder of noise, at any depth.

    Training draws recording, place and ratio for each item. Validation item i takes recording i mod
    n, and ratios that fill the range evenly however many items there are; it does not depend on the
    seed. Without `noise_valid`, the last tenth of each recording is kept for validation.

    Raises:
        DataError: with everything that is wrong with either folder.
    """

    def __init__(self, config: RunConfig, split: Split) -> None:
        assert isinstance(config.data, DenoiseData)
        self._data = config.data
        self._seed = config.seed
        self._split = split
        folder = config.data.train if split == "train" else config.data.valid
        noise_folder, noise_setting = config.data.noise_folder(split)
        clean, noise = _scan_both(
            folder, f"data.{split}", noise=noise_folder, noise_setting=noise_setting
        )
        self._sources = make_sources(clean, config.data, setting=f"data.{split}", split=split)
        noises = make_sources(noise, config.data, setting=noise_setting, split=split)
        shared = config.data.noise_valid is None
        self._recordings = [_part(source, split, shared=shared) for source in noises]
        _check_parts(self._recordings, setting=noise_setting)
        self._gains: dict[int, np.float32] = {}
        self._excerpts = Excerpts([source.length for source in self._sources], config, split=split)
        self.manifest = manifest_of(folder, clean) + manifest_of(noise_folder, noise)

    def item(self, epoch: int, index: int) -> AudioItem:
        """Return the noisy input and the clean target of an item."""
        place = self._excerpts.locate(epoch, index)
        clean_CT = self._sources[place.file].read(place.start, place.frames)
        piece = self.noise_piece(epoch, index)
        length = place.pad_left + place.frames + place.pad_right
        noise_CT = self._recordings[piece.recording].read(piece.start, length)
        beside_CT = noise_CT[:, place.pad_left : place.pad_left + place.frames]
        gain = noise_gain(clean_CT, beside_CT, snr_db=piece.snr_db)
        padded_CT = place.pad(clean_CT)
        return AudioItem(padded_CT + gain * noise_CT, padded_CT[None])

    def whole(self, index: int) -> WholeItem:
        """Return an item of validation as long as its file of clean audio."""
        source = self._sources[self._excerpts.file(index)]
        return WholeItem(source.length, partial(self._part, index))

    def _part(self, index: int, start: int, frames: int) -> AudioItem:
        clean_CT = self._sources[self._excerpts.file(index)].read(start, frames)
        piece = self.noise_piece(0, index)
        noise_CT = self._recordings[piece.recording].read(piece.start + start, frames)
        return AudioItem(clean_CT + self._whole_gain(index, piece) * noise_CT, clean_CT[None])

    def _whole_gain(self, index: int, piece: NoisePiece) -> np.float32:
        """Return the factor of the noise of a whole file; the powers of both are taken once."""
        if index not in self._gains:
            source = self._sources[self._excerpts.file(index)]
            recording = self._recordings[piece.recording]
            clean_power = mean_square(source.read, source.length)
            noise_power = mean_square(
                lambda start, frames: recording.read(piece.start + start, frames), source.length
            )
            self._gains[index] = gain_of_powers(clean_power, noise_power, snr_db=piece.snr_db)
        return self._gains[index]

    def noise_piece(self, epoch: int, index: int) -> NoisePiece:
        """Return which noise an item gets, and at which ratio."""
        low, high = self._data.snr_low_db, self._data.snr_high_db
        if self._split == "valid":
            draw = item_generator(0, 0, index, "valid-noise")
            recording = index % len(self._recordings)
            share = ((index + 0.5) * _GOLDEN) % 1.0
        else:
            draw = item_generator(self._seed, epoch, index, "noise")
            recording = int(draw.integers(len(self._recordings)))
            share = float(draw.random())
        start = int(draw.integers(self._recordings[recording].length))
        return NoisePiece(recording, start, snr_db=low + (high - low) * share)


def noise_gain(clean_CT: np.ndarray, noise_CT: np.ndarray, *, snr_db: float) -> np.float32:
    """Return the factor that brings noise to `snr_db` below the clean signal.

    Powers are taken over all channels and samples. Noise stays as it is (factor 1) beside silence,
    where no ratio exists, and where it is silent itself.
    """
    clean_power = float(np.mean(np.square(clean_CT, dtype=np.float64)))
    noise_power = float(np.mean(np.square(noise_CT, dtype=np.float64)))
    return gain_of_powers(clean_power, noise_power, snr_db=snr_db)


def gain_of_powers(clean_power: float, noise_power: float, *, snr_db: float) -> np.float32:
    """Return the factor of `noise_gain` for signals of which the powers are known."""
    if clean_power <= 0.0 or noise_power <= 0.0:
        return np.float32(1.0)
    return np.float32(np.sqrt(clean_power / noise_power * 10.0 ** (-snr_db / 10.0)))


def mean_square(read: Callable[[int, int], np.ndarray], frames: int) -> float:
    """Return the power of a signal, read block by block; `read(start, n)` gives (C, n) of it."""
    total, number = 0.0, 0
    for start in range(0, frames, _BLOCK):
        block_CT = read(start, min(_BLOCK, frames - start))
        total += float(np.square(block_CT, dtype=np.float64).sum())
        number += block_CT.size
    return total / number


def _scan_both(
    clean: Path, clean_setting: str, *, noise: Path, noise_setting: str
) -> tuple[list[AudioInfo], list[AudioInfo]]:
    scanned: list[list[AudioInfo]] = []
    problems: list[Problem] = []
    for folder, setting in ((clean, clean_setting), (noise, noise_setting)):
        try:
            scanned.append(scan_indexed(folder, setting=setting))
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)
    return scanned[0], scanned[1]


def _part(source: Source, split: Split, *, shared: bool) -> NoiseRecording:
    if not shared:
        return NoiseRecording(source, 0, length=source.length)
    border = int(source.length * _TRAIN_SHARE)
    if split == "train":
        return NoiseRecording(source, 0, length=border)
    return NoiseRecording(source, border, length=source.length - border)


def _check_parts(recordings: list[NoiseRecording], *, setting: str) -> None:
    short = [recording.source.info.path for recording in recordings if recording.length < 1]
    if short:
        raise DataError(
            Problem(
                setting,
                f"{path}: too short to split into training and validation; remove it, or set data.noise_valid",
            )
            for path in short
        )
