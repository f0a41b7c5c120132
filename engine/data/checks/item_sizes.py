"""How large the training items are, read before a run from headers and texts. Free of torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from engine.config.data import AudioData
from engine.config.speech import SpeechData
from engine.data.checks.before_queue import Files
from engine.data.speech.kept_lengths import in_range
from engine.data.speech.transcripts import checked_transcripts

_CHARACTERS_OF_A_PIECE = 4


def audio_sizes(data: AudioData, *, files: Files) -> np.ndarray:
    """Return (N, 1) seconds: files that are shorter than a segment, segments of the others.

    Raises:
        DataError: when the files can't be read.
    """
    infos = files(data, data.train, "data.train")
    seconds = np.array([info.duration_s for info in infos])
    counts = np.maximum(1, seconds // data.segment_s).astype(int)
    return np.repeat(np.minimum(seconds, data.segment_s), counts)[:, None]


def speech_sizes(data: SpeechData) -> np.ndarray:
    """Return (N, 2), seconds and tokens; the number of SentencePiece tokens is estimated.

    Raises:
        DataError: when the training texts can't be read.
    """
    changed = data.train.stat().st_mtime_ns if data.train.exists() else 0
    return _utterance_sizes(data, changed)


@lru_cache(maxsize=4)
def _utterance_sizes(data: SpeechData, changed: int) -> np.ndarray:
    """Return (N, 2); `changed` is the time of change of the manifest."""
    found = checked_transcripts(data.train, data, setting="data.train")
    kept = in_range(found.utterances, data)
    per_token = 1 if data.tokens == "char" else _CHARACTERS_OF_A_PIECE
    return np.array([(item.duration_s, -(-len(item.text) // per_token)) for item in kept])
