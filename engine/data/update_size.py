"""How large the items of a run are, and what an update adds to each counter, before it runs.

Free of torch. Segments of audio have one length; of whole files the headers are read, of utterances
the texts, too. The number of SentencePiece tokens, which are learnt at the start of a run, is estimated.
"""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np

from engine.batching.open_plan import open_plan
from engine.config.counters import UpdateSize
from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.kinds import train_sizes

_SEGMENTS = 100_000  # enough that the end of an epoch does not matter


def mean_update_size(config: RunConfig) -> UpdateSize:
    """Return what an update adds to each counter on average; reads the training texts of speech.

    Raises:
        DataError: when these can't be read.
        PlanError: when the settings of `batch` don't fit the items.
    """
    if config.data.items_differ:
        sizes_ND = train_sizes(config.data)
    elif counts_items(config):
        return config.update_size
    else:
        sizes_ND = np.full((_SEGMENTS, 1), config.segment_s)
    return open_plan(config, sizes_ND, manifest="", world=config.precision.devices).mean_size


def planned_size(config: RunConfig) -> UpdateSize:
    """Return `mean_update_size`, or without the data what is known of it: seconds are NaN then.

    Raises:
        DataError, PlanError: as there, when the number of items depends on the data.
    """
    try:
        return mean_update_size(config)
    except DataError:
        if not counts_items(config) or config.schedule.length.clock == "audio_seconds":
            raise
        return replace(config.update_size, audio_seconds=nan)


def counts_items(config: RunConfig) -> bool:
    """Tell whether every update has the same number of items, whatever their length."""
    return config.batch.mode == "exact" and config.batch.seconds is None
