"""The one door to the datasets: from a config and a split to a `Dataset`."""

from __future__ import annotations

from engine.config.data import BandwidthData, DenoiseData, SpeakersData, StemsData
from engine.config.schema import RunConfig
from engine.data.bandwidth import BandwidthDataset
from engine.data.dataset import Dataset
from engine.data.denoise import DenoiseDataset
from engine.data.speakers import SpeakersDataset
from engine.data.stems import StemsDataset
from engine.recipes.base import Split


def open_dataset(config: RunConfig, split: Split) -> Dataset:
    """Scan the folders of a split and return its items.

    Raises:
        DataError: with everything that is wrong with the folders and files.
    """
    match config.data:
        case BandwidthData():
            return BandwidthDataset(config, split)
        case DenoiseData():
            return DenoiseDataset(config, split)
        case StemsData():
            return StemsDataset(config, split)
        case SpeakersData():
            return SpeakersDataset(config, split)
        case _:
            raise AssertionError(f"{config.data.kind!r} is no data of a separation run")
