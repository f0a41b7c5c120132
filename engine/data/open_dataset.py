"""The one door to the datasets: from a config and a split to a `Dataset`."""

from __future__ import annotations

from engine.config.data import StemsData
from engine.config.schema import RunConfig
from engine.data.dataset import Dataset
from engine.data.stems import StemsDataset
from engine.recipes.base import Split


def open_dataset(config: RunConfig, split: Split) -> Dataset:
    """Scan the folders of a split and return its items.

    Raises:
        DataError: with everything that is wrong with the folders and files.
    """
    if isinstance(config.data, StemsData):
        return StemsDataset(config, split)
    raise NotImplementedError(config.data.kind)
