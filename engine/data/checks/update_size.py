"""How large the items of a run are, and what an update adds to each counter, before it runs.

Free of torch. Segments of audio have one length; of whole files the headers are read, of utterances
the texts, too. The number of SentencePiece tokens, which are learnt at the start of a run, is estimated.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import nan

import numpy as np

from engine.batching.open_plan import open_plan
from engine.config.counters import UpdateSize
from engine.config.data import AudioData
from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.config.speech import SpeechData
from engine.data.checks.before_queue import files_of, with_absolute_paths
from engine.data.speech.kept_lengths import in_range
from engine.data.speech.transcripts import checked_transcripts

_SEGMENTS = 100_000  # enough that the end of an epoch does not matter
_CHARACTERS_OF_A_PIECE = 4


def mean_update_size(config: RunConfig) -> UpdateSize:
    """Return what an update adds to each counter on average; reads the training texts of speech.

    Raises:
        DataError: when these can't be read.
        PlanError: when the settings of `batch` don't fit the items.
    """
    if isinstance(config.data, AudioData):
        if config.data.short_files == "whole":
            sizes_ND = _file_sizes(with_absolute_paths(config.data))
        elif counts_items(config):
            return config.update_size
        else:
            sizes_ND = np.full((_SEGMENTS, 1), config.segment_s)
    else:
        data = with_absolute_paths(config.data)
        changed = data.train.stat().st_mtime_ns if data.train.exists() else 0
        sizes_ND = _utterance_sizes(data, changed)
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


def _file_sizes(data: AudioData) -> np.ndarray:
    """Return (N, 1) seconds: files that are shorter than a segment, segments of the others."""
    files = files_of(data, data.train, "data.train")
    seconds = np.array([file.duration_s for file in files])
    counts = np.maximum(1, seconds // data.segment_s).astype(int)
    return np.repeat(np.minimum(seconds, data.segment_s), counts)[:, None]


@lru_cache(maxsize=4)
def _utterance_sizes(data: SpeechData, changed: int) -> np.ndarray:
    """Return (N, 2), seconds and tokens; `changed` is the time of change of the manifest."""
    found = checked_transcripts(data.train, data, setting="data.train")
    kept = in_range(found.utterances, data)
    per_token = 1 if data.tokens == "char" else _CHARACTERS_OF_A_PIECE
    return np.array([(item.duration_s, -(-len(item.text) // per_token)) for item in kept])
