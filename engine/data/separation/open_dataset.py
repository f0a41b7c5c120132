"""The one door to the datasets: from a config and a split to a `Dataset`."""

from __future__ import annotations

from engine.config.data import BandwidthData, DenoiseData, SpeakersData, StemsData
from engine.config.schema import RunConfig
from engine.data.batch import Split
from engine.data.separation.bandwidth import BandwidthDataset
from engine.data.separation.dataset import Dataset
from engine.data.separation.denoise import DenoiseDataset
from engine.data.separation.speakers import SpeakersDataset
from engine.data.separation.stems import StemsDataset


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
