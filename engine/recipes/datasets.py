"""The items of a run as its recipe opens them: each split once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from engine.batching.batch import Split
from engine.config.schema import RunConfig
from engine.data.kinds import open_dataset

DatasetT = TypeVar("DatasetT")


class Datasets(Generic[DatasetT]):
    """The items of both splits; can be sent to a reader process, with those that are open.

    Args:
        config: the run.
        opened: items that stand in for those of the config.
    """

    def __init__(self, config: RunConfig, opened: Mapping[Split, DatasetT] | None = None) -> None:
        self._config = config
        self._open: dict[Split, DatasetT] = dict(opened or {})

    def __call__(self, split: Split) -> DatasetT:
        """Return the items of a split.

        Raises:
            DataError: when they can't be read.
        """
        if split not in self._open:
            self._open[split] = open_dataset(self._config, split)
        return self._open[split]
