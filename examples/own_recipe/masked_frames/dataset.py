"""Segments of audio files. Letters: C channels, T samples."""

from __future__ import annotations

import numpy as np

from engine.config.schema import RunConfig
from engine.data.batch import Split
from engine.data.files.headers import scan_indexed
from engine.data.files.source import make_sources, manifest_of
from engine.data.separation.excerpts import Excerpts, OnExcerpts


class FramesDataset(OnExcerpts):
    """Random segments of training files, the middle of validation files."""

    def __init__(self, config: RunConfig, split: Split) -> None:
        data = config.audio_data
        folder = data.train if split == "train" else data.valid
        infos = scan_indexed(folder, setting=f"data.{split}")
        self._sources = make_sources(infos, data, setting=f"data.{split}", split=split)
        self._excerpts = Excerpts([source.length for source in self._sources], config, split=split)
        self.manifest = manifest_of(folder, infos)

    def item(self, epoch: int, index: int) -> np.ndarray:
        """Return float32 (T,); the same for the same (config, split, epoch, index)."""
        place = self._excerpts.locate(epoch, index)
        samples_CT = self._sources[place.file].read(place.start, place.frames)
        return np.asarray(place.pad(samples_CT).mean(axis=0))
