"""Bandwidth extension: the input is the clean audio after a detour over a lower sampling rate.

Letters: S sources, C channels, T samples.
"""

from __future__ import annotations

from functools import partial
from math import gcd

import numpy as np

from engine.batching.batch import Split
from engine.config.data import BandwidthData
from engine.config.schema import RunConfig
from engine.data.files.headers import scan_indexed
from engine.data.files.rates import check_detours, filter_margin
from engine.data.files.resampling import resample
from engine.data.files.source import Source, make_sources, manifest_of
from engine.data.separation.dataset import AudioItem, WholeItem
from engine.data.separation.excerpts import Excerpts, OnExcerpts
from engine.item_random import item_generator


class BandwidthDataset(OnExcerpts):
    """Items of a folder of clean audio, at any depth.

    Training draws one of `input_rates_hz` for each item; the rate of validation item i is number
    i mod n of them. At the model's own rate, input and target are equal.

    Raises:
        DataError: with everything that is wrong with the folder.
    """

    def __init__(self, config: RunConfig, split: Split) -> None:
        assert isinstance(config.data, BandwidthData)
        data = config.data
        check_detours(data)
        folder = data.train if split == "train" else data.valid
        infos = scan_indexed(folder, setting=f"data.{split}")
        self._sources = make_sources(infos, data, setting=f"data.{split}", split=split)
        self._excerpts = Excerpts([source.length for source in self._sources], config, split=split)
        self._rates_hz = data.input_rates_hz
        self._rate_hz = data.rate_hz
        self._seed = config.seed
        self._split = split
        self.manifest = manifest_of(folder, infos)

    def item(self, epoch: int, index: int) -> AudioItem:
        """Return the narrow-band input and the clean target of an item."""
        place = self._excerpts.locate(epoch, index)
        rate = self.input_rate_hz(epoch, index)
        part = self._part(self._sources[place.file], rate, place.start, place.frames)
        return AudioItem(place.pad(part.mix_CT), place.pad(part.target_SCT))

    def whole(self, index: int) -> WholeItem:
        """Return an item of validation as long as its file."""
        source = self._sources[self._excerpts.file(index)]
        return WholeItem(source.length, partial(self._part, source, self.input_rate_hz(0, index)))

    def _part(self, source: Source, rate: int, start: int, frames: int) -> AudioItem:
        margin = detour_margin(self._rate_hz, rate)
        first = max(0, start - margin) // self._block(rate) * self._block(rate)
        last = min(source.length, start + frames + margin)
        clean_CT = source.read(first, last - first)
        inside = slice(start - first, start - first + frames)
        mix_CT = detour(clean_CT, self._rate_hz, low_hz=rate)[:, inside]
        return AudioItem(mix_CT, clean_CT[None, :, inside])

    def input_rate_hz(self, epoch: int, index: int) -> int:
        """Return the rate that the input of an item takes its detour over."""
        if self._split == "valid":
            return self._rates_hz[index % len(self._rates_hz)]
        draw = item_generator(self._seed, epoch, index, "rate")
        return self._rates_hz[int(draw.integers(len(self._rates_hz)))]

    def _block(self, rate: int) -> int:
        """Return after how many samples both rates meet: from there, a part equals the whole."""
        return self._rate_hz // gcd(self._rate_hz, rate)


def detour(samples_CT: np.ndarray, rate_hz: int, *, low_hz: int) -> np.ndarray:
    """Resample down to `low_hz` and back up; the length stays."""
    if low_hz == rate_hz:
        return samples_CT
    back_CT = resample(resample(samples_CT, rate_hz, to_hz=low_hz), low_hz, to_hz=rate_hz)
    return back_CT[:, : samples_CT.shape[1]]


def detour_margin(rate_hz: int, low_hz: int) -> int:
    """Return how far, in samples, the filters of a detour reach."""
    if low_hz == rate_hz:
        return 0
    up = filter_margin(low_hz, rate_hz) * rate_hz // low_hz
    return filter_margin(rate_hz, low_hz) + up + 1
