"""Checks before a run is queued that its judge has texts to compare with. Free of torch."""

from __future__ import annotations

from engine.config.errors import DataError, Problem
from engine.config.schema import RunConfig
from engine.data.speech.spoken_texts import spoken_texts
from engine.metrics.judged import JUDGE
from models.user_paths import expanded


def require_texts(config: RunConfig) -> None:
    """Check the recordings that `validation.judge` hears; nothing to check without a judge.

    Raises:
        DataError: when `data.valid` has no texts, or one of the recordings can't be read.
    """
    if config.validation.judge is None:
        return
    path = expanded(config.data.valid).absolute()
    most = config.validation.judge_items
    if not spoken_texts(path, most=most, setting="data.valid"):
        message = (
            f"{config.validation.judge} compares what it hears with texts, and {path} has none; set data.valid to "
            'a manifest with "text" in its rows ({"path": "a.flac", "text": "hello"}), or leave validation.judge out'
        )
        raise DataError([Problem(JUDGE, message)])
