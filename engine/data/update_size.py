"""How large the items of a run are, and what an update adds to each counter, before it runs.

Free of torch. Segments of audio have one length; of whole files the headers are read, of utterances
the texts, too. The number of SentencePiece tokens, which are trained at the start of a run, is estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import nan

import numpy as np

from engine.batching.open_plan import open_plan
from engine.config.counters import UpdateSize
from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.data.kinds import train_sizes
from models.base.settings import Section

_SEGMENTS = 100_000  # enough that the end of an epoch does not matter


def mean_update_size(config: RunConfig, *, epochs: bool = False) -> UpdateSize:
    """Return what an update adds to each counter on average; reads the training texts of speech.

    Args:
        config: the run.
        epochs: count the items of the data for the share of an epoch, which is 0 otherwise where no
            setting is in epochs and nothing else needs that number.

    Raises:
        DataError: when these can't be read.
        PlanError: when the settings of `batch` don't fit the items.
    """
    reads = config.data.items_differ or epochs or counts_epochs(config)
    if not reads and counts_items(config):
        return config.update_size
    sizes_ND = train_sizes(config.data) if reads else np.full((_SEGMENTS, 1), config.segment_s)
    size = open_plan(config, sizes_ND, manifest="", world=config.precision.devices).mean_size
    return size if reads else replace(size, epochs=0.0)


def planned_size(config: RunConfig) -> UpdateSize:
    """Return `mean_update_size`; if the data can't be read, with NaN seconds.

    Raises:
        DataError, PlanError: as there, when the number of items depends on the data.
    """
    try:
        return mean_update_size(config)
    except DataError:
        in_seconds = config.schedule.length.clock == "audio_seconds"
        if not counts_items(config) or in_seconds or counts_epochs(config):
            raise
        return replace(config.update_size, audio_seconds=nan)


def schedule_size(config: RunConfig) -> UpdateSize:
    """Return the size of an update to look at a schedule with; reads data only for epochs.

    Raises:
        DataError, PlanError: as `mean_update_size`, when a setting is in epochs.
    """
    return mean_update_size(config) if counts_epochs(config) else config.update_size


def counts_epochs(config: RunConfig) -> bool:
    """Return whether a setting is in epochs, whose length depends on the data."""
    return any(span.clock == "epochs" for span in _spans(config))


def _spans(value: object) -> Iterator[Span]:
    if isinstance(value, Span):
        yield value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _spans(getattr(value, name))
    elif isinstance(value, tuple):
        for inner in value:
            yield from _spans(inner)


def counts_items(config: RunConfig) -> bool:
    """Return whether every update has the same number of items, regardless of their length."""
    return config.batch.mode == "exact" and config.batch.seconds is None
