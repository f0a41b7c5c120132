"""The items as recipes read them. T: samples."""

from __future__ import annotations

import numpy as np

from engine.config.schema import RunConfig
from engine.data.batch import Split
from engine.data.files.resampling import resample
from engine.data.unlabelled.dataset import UnlabelledDataset
from tar_shards.settings import TarShards
from tar_shards.shards import Shards, read, shard_of


def open_shards(config: RunConfig, split: Split) -> ShardsDataset:
    """Return the items of a split."""
    assert isinstance(config.data, TarShards)
    return ShardsDataset(config.data, split)


class ShardsDataset(UnlabelledDataset):
    """Items of audio without texts, whose samples come from tar files."""

    def __init__(self, data: TarShards, split: Split) -> None:
        setting = f"data.{split}"
        shards = Shards(data, setting)
        super().__init__(data, split, items=shards.items(data, setting))
        self._places, self._rate = shards.places, data.rate_hz

    def read_piece(self, path: str, start: int, *, end: int) -> np.ndarray:
        """Read a part of a recording, (T,) float32, by samples at the model's rate."""
        samples_T, rate_hz = read(path, self._places[path])
        whole_T = resample(samples_T[None], rate_hz, to_hz=self._rate)[0]
        return np.asarray(whole_T[start:end])

    def files(self, index: int) -> list[str]:
        """Return the shards of an item: labels of HuBERT are made again when they change."""
        return [shard_of(path) for path in super().files(index)]
