"""How large the training items are, read before a run from headers and texts. Free of torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from engine.config.data import AudioData
from engine.config.utterances import UtteranceData
from engine.data.checks.before_queue import Files
from engine.data.files.rates import resampled_length
from engine.data.speech.kept_lengths import in_range
from engine.data.speech.transcripts import checked_transcripts

_CHARACTERS_OF_A_PIECE = 4


def audio_sizes(data: AudioData, *, files: Files) -> np.ndarray:
    """Return (N, 1) seconds: each file has as many items as whole segments, at least one.

    One that is shorter is padded to a segment, or with `short_files = "whole"` an item as it is.

    Raises:
        DataError: when the files can't be read.
    """
    infos = files(data, data.train, "data.train")
    lengths = [resampled_length(info.frames, info.rate_hz, to_hz=data.rate_hz) for info in infos]
    frames_N = np.array(lengths, dtype=np.int64)
    counts = np.maximum(1, frames_N // data.segment_samples)
    whole = data.short_files == "whole"
    own_N = np.minimum(frames_N, data.segment_samples) if whole else data.segment_samples
    return np.repeat(np.broadcast_to(own_N, frames_N.shape), counts)[:, None] / data.rate_hz


def speech_sizes(data: UtteranceData) -> np.ndarray:
    """Return (N, 2), seconds and tokens; the number of SentencePiece tokens is estimated.

    Raises:
        DataError: when the training texts can't be read.
    """
    changed = data.train.stat().st_mtime_ns if data.train.exists() else 0
    return _utterance_sizes(data, changed)


@lru_cache(maxsize=4)
def _utterance_sizes(data: UtteranceData, changed: int) -> np.ndarray:
    """Return (N, 2); `changed` is the time of change of the manifest."""
    transcripts = checked_transcripts(data.train, data, setting="data.train")
    kept = in_range(transcripts.utterances, data)
    per_token = _CHARACTERS_OF_A_PIECE if data.tokens == "sentencepiece" else 1
    return np.array([(item.duration_s, -(-len(item.text) // per_token)) for item in kept])
