"""Speaker separation: several people talk simultaneously, in no order.

Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from engine.batching.batch import Split
from engine.config.data import SpeakersData
from engine.config.schema import RunConfig
from engine.data.files.source import Source, make_sources, manifest_of
from engine.data.separation.dataset import AudioItem, WholeItem
from engine.data.separation.denoise import gain_of_powers, mean_square, noise_gain
from engine.data.separation.excerpts import Excerpts, OnExcerpts
from engine.data.separation.speaker_folders import scan_speakers
from engine.item_random import item_generator


@dataclass(frozen=True, slots=True)
class Voice:
    """A further speaker of a mixture: the file, where in it (`share`), and its level relative to the first."""

    file: int
    share: float
    level_db: float


class SpeakersDataset(OnExcerpts):
    """Items of a folder of speakers: a file of one, and pieces of files of others, all at once.

    Each file is the first voice of its items in turn. Training draws the others for each item:
    speaker, file, place and level. Validation draws them once; they do not depend on the seed. A
    voice shorter than the item lies somewhere in it, between zeros.

    Raises:
        DataError: with everything that is wrong with the folder.
    """

    def __init__(self, config: RunConfig, split: Split) -> None:
        assert isinstance(config.data, SpeakersData)
        self._data = config.data
        self._seed = config.seed
        self._split = split
        folder = config.data.train if split == "train" else config.data.valid
        files = scan_speakers(folder, config.data, split=split)
        infos = [info for _, info in files]
        self._sources = make_sources(infos, config.data, setting=f"data.{split}", split=split)
        names = sorted({name for name, _ in files})
        self._speakers = np.array([names.index(name) for name, _ in files])
        self._files = [np.flatnonzero(self._speakers == number) for number in range(len(names))]
        self._gains: dict[int, list[np.float32]] = {}
        self._excerpts = Excerpts([source.length for source in self._sources], config, split=split)
        self.manifest = manifest_of(folder, infos)

    def item(self, epoch: int, index: int) -> AudioItem:
        """Return the mixture and the voices in it."""
        place = self._excerpts.locate(epoch, index)
        first_CT = place.pad(self._sources[place.file].read(place.start, place.frames))
        voices = [first_CT]
        for voice in self.voices(epoch, index):
            other_CT = _read(self._sources[voice.file], first_CT.shape[-1], share=voice.share)
            voices.append(noise_gain(first_CT, other_CT, snr_db=-voice.level_db) * other_CT)
        target_SCT = np.stack(voices)
        return AudioItem(target_SCT.sum(axis=0), target_SCT)

    def whole(self, index: int) -> WholeItem:
        """Return an item of validation as long as the file of its first speaker."""
        source = self._sources[self._excerpts.file(index)]
        return WholeItem(source.length, partial(self._part, index))

    def _part(self, index: int, start: int, frames: int) -> AudioItem:
        first = self._sources[self._excerpts.file(index)]
        readers = [
            partial(_read_part, self._sources[voice.file], length=first.length, share=voice.share)
            for voice in self.voices(0, index)
        ]
        if index not in self._gains:
            power = mean_square(first.read, first.length)
            self._gains[index] = [
                gain_of_powers(power, mean_square(read, first.length), snr_db=-voice.level_db)
                for read, voice in zip(readers, self.voices(0, index), strict=True)
            ]
        others = [
            gain * read(start, frames)
            for read, gain in zip(readers, self._gains[index], strict=True)
        ]
        target_SCT = np.stack([first.read(start, frames), *others])
        return AudioItem(target_SCT.sum(axis=0), target_SCT)

    def voices(self, epoch: int, index: int) -> list[Voice]:
        """Return the further speakers of an item."""
        if self._split == "valid":
            draw = item_generator(0, 0, index, "valid-speakers")
        else:
            draw = item_generator(self._seed, epoch, index, "speakers")
        own = self._speakers[self._excerpts.locate(epoch, index).file]
        others = np.delete(np.arange(len(self._files)), own)
        chosen = draw.choice(others, self._data.num_speakers - 1, replace=False)
        reach = self._data.level_range_db
        return [
            Voice(
                file=int(draw.choice(self._files[speaker])),
                share=float(draw.random()),
                level_db=float(draw.uniform(-reach, reach)),
            )
            for speaker in chosen
        ]


def _read(source: Source, length: int, *, share: float) -> np.ndarray:
    """Read (C, length): a piece of a longer file, or a shorter one between zeros."""
    return _read_part(source, 0, length, length=length, share=share)


def _read_part(source: Source, start: int, frames: int, *, length: int, share: float) -> np.ndarray:
    """Read (C, frames) from `start` of what `_read` gives."""
    spare = source.length - length
    if spare >= 0:
        return source.read(int(share * (spare + 1)) + start, frames)
    left = int(share * (1 - spare))
    first, last = (min(max(0, at - left), source.length) for at in (start, start + frames))
    if first == last:
        return np.zeros((source.channels, frames), np.float32)
    inside_CT = source.read(first, last - first)
    before = max(0, min(left - start, frames))
    return np.pad(inside_CT, [(0, 0), (before, frames - before - inside_CT.shape[1])])
