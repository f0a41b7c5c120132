"""Stem separation: a folder for each track, an audio file for each stem.

Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from engine.batching.batch import Batch, Split
from engine.batching.items import MicroBatch
from engine.config.data import StemsData
from engine.config.schema import RunConfig
from engine.data.files.source import Source, make_sources, manifest_of
from engine.data.separation.dataset import AudioItem, WholeItem
from engine.data.separation.excerpts import Excerpts, OnExcerpts
from engine.data.separation.remix import StemChange, draw_changes, read_changed, read_placed
from engine.data.separation.tracks import file_names, scan_tracks
from engine.item_random import item_generator

ReadStem = Callable[[Source, int, int, StemChange], np.ndarray]


@dataclass(frozen=True, slots=True)
class UnmixedItem:
    """Stems of a training item, float32, with the gain of each and whether its sides are swapped."""

    stems_SCT: np.ndarray
    gain_S: np.ndarray
    swap_S: np.ndarray


class StemsDataset(OnExcerpts):
    """Items of a folder of tracks: the mixture, and the target stems in the order of the config.

    The mixture is a file of its own, or the sum of targets and others. Training stems may be changed
    (`engine.data.separation.remix`); validation stems never are.

    Raises:
        DataError: with everything that is wrong with any track.
    """

    def __init__(self, config: RunConfig, split: Split) -> None:
        assert isinstance(config.data, StemsData)
        data = config.data
        folder = data.train if split == "train" else data.valid
        setting = f"data.{split}"
        self._names = file_names(data)
        tracks = scan_tracks(folder, self._names, setting=setting, layout=data.layout)
        infos = [track[name] for track in tracks for name in self._names]
        sources = make_sources(infos, data, setting=setting, split=split)
        width = len(self._names)
        self._tracks: list[list[Source]] = [
            sources[i : i + width] for i in range(0, len(sources), width)
        ]
        self._data = data
        self._seed = config.seed
        self._changes = split == "train" and data.changes_stems
        self._num_targets = len(data.targets)
        self._has_mixture = bool(data.mixture)
        self._excerpts = Excerpts([track[0].length for track in self._tracks], config, split=split)
        self.manifest = manifest_of(folder, infos)

    def item(self, epoch: int, index: int) -> AudioItem:
        """Return the mixture and the targets of an item."""
        if self._changes:
            return self._changed_item(epoch, index)
        place = self._excerpts.locate(epoch, index)
        part = self._part(place.file, place.start, place.frames)
        return AudioItem(place.pad(part.mix_CT), place.pad(part.target_SCT))

    def whole(self, index: int) -> WholeItem:
        """Return an item of validation as long as its track."""
        track = self._excerpts.file(index)
        return WholeItem(self._tracks[track][0].length, partial(self._part, track))

    def changes(self, epoch: int, index: int) -> tuple[StemChange, ...]:
        """Return what happens to each stem of a training item."""
        draw = item_generator(self._seed, epoch, index, "remix")
        return draw_changes(self._data, len(self._tracks), draw=draw)

    def _part(self, track: int, start: int, frames: int) -> AudioItem:
        sources = self._tracks[track]
        stems_SCT = np.stack([source.read(start, frames) for source in sources])
        mix_CT = stems_SCT[-1] if self._has_mixture else stems_SCT.sum(axis=0)
        return AudioItem(mix_CT, stems_SCT[: self._num_targets])

    def unmixed(self, epoch: int, index: int) -> UnmixedItem:
        """Return the stems of a training item before gain, sides and sum."""
        changes = self.changes(epoch, index)
        stems_SCT = np.stack(self._read_stems(epoch, index, changes=changes, read=read_placed))
        gain_S = np.array([change.gain for change in changes], np.float32)
        return UnmixedItem(stems_SCT, gain_S, swap_S=np.array([change.swap for change in changes]))

    def _changed_item(self, epoch: int, index: int) -> AudioItem:
        stems = self._read_stems(
            epoch, index, changes=self.changes(epoch, index), read=read_changed
        )
        stems_SCT = np.stack(stems)
        return AudioItem(stems_SCT.sum(axis=0), stems_SCT[: self._num_targets])

    def _read_stems(
        self, epoch: int, index: int, *, changes: Sequence[StemChange], read: ReadStem
    ) -> list[np.ndarray]:
        place = self._excerpts.locate(epoch, index)
        length = place.pad_left + place.frames + place.pad_right
        return [
            read(
                self._tracks[place.file if change.track is None else change.track][number],
                place.start, length, change,
            )
            for number, change in enumerate(changes)
        ]  # fmt: skip


def fetch_unmixed(dataset: StemsDataset, micro_batch: MicroBatch) -> Batch:
    """Read and collate items: `stems` (B, S, C, T), `gain` (B, S) and `swap` (B, S)."""
    items = [dataset.unmixed(draw.epoch, draw.index) for draw in micro_batch.draws]
    parts = {
        "stems": [item.stems_SCT for item in items],
        "gain": [item.gain_S for item in items],
        "swap": [item.swap_S for item in items],
    }
    return Batch({name: torch.from_numpy(np.stack(values)) for name, values in parts.items()})
