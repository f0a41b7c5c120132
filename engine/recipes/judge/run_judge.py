"""The judge of a run's evaluations (`validation.judge`): error rates of what the model says, and of what it could.

A recipe says how a recording, or its text, becomes speech; which ones, what is heard and which metrics follow is
the same for all. Letters: N recordings, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch

from engine.config.schema import RunConfig
from engine.data.speech.spoken_audio import read_spoken
from engine.data.speech.spoken_texts import SpokenText, spoken_texts
from engine.evaluation.result import Clip, Evaluation
from engine.metrics.items_keys import with_own
from engine.metrics.judged import BOUND_CER, JUDGE, JUDGED_CER, JUDGED_WER, REAL_CER
from engine.recipes.base import Opening
from engine.recipes.judge.judge import Heard, Judge, load_judge

_ESTIMATE = "estimate"
# From a recording and its text to speech, float32 (T,) at the rate of the run.
Says = Callable[[SpokenText], np.ndarray]


class RunJudge:
    """Judges what the model of a run says; does nothing where the run has no judge.

    A trained model that is loaded outside of its run has none either: its evaluation lacks these metrics.

    Args:
        config: the run.
        opening: the checkpoints of runs that it needs.
    """

    def __init__(self, config: RunConfig, opening: Opening) -> None:
        self._config = config
        self._checkpoint = opening.needs.get(JUDGE)
        self._judge: Judge | None = None
        self._known: dict[str, float] = {}

    def __getstate__(self) -> dict[str, object]:
        """Pickle for a reader process, which judges nothing: without the network."""
        return {**self.__dict__, "_judge": None}

    @property
    def is_there(self) -> bool:
        """Whether the run has a judge."""
        return self._checkpoint is not None

    @cached_property
    def sample(self) -> list[SpokenText]:
        """The recordings that are judged, the same in every run on the same data."""
        config = self._config
        return spoken_texts(
            config.data.valid, most=config.validation.judge_items, setting="data.valid",
            suits=config.data.validates,
        )  # fmt: skip

    def audio(self, item: SpokenText) -> np.ndarray:
        """Read a recording at the rate of the run, float32 (T,)."""
        return read_spoken(item, self._config.data.rate_hz)

    def added(
        self, evaluation: Evaluation, says: Says, *, could_say: Says, device: torch.device
    ) -> Evaluation:
        """Return an evaluation with the error rates; unchanged where there is no judge.

        Args:
            evaluation: of everything else.
            says: what the model makes of an item.
            could_say: what would be made of it by a perfect model: the way back to audio alone. Judged once a
                run, like the recordings themselves.
            device: where the judge computes.

        Raises:
            CheckpointError: when the checkpoint of the judge is missing or damaged.
            DataError: when a recording can't be read.
        """
        if self._checkpoint is None or not self.sample:
            return evaluation
        if self._judge is None:
            self._judge = load_judge(self._checkpoint, device)
        if not self._known:
            self._known = {
                REAL_CER: self._score(self._judge, self.audio).cer,
                BOUND_CER: self._score(self._judge, could_say).cer,
            }
        heard = self._score(self._judge, says)
        key = self._key(self._judge)
        return replace(
            evaluation,
            metrics={
                **evaluation.metrics, JUDGED_CER: heard.cer, JUDGED_WER: heard.wer, **self._known,
            },
            items={
                **evaluation.items,
                JUDGED_CER: heard.characters.per_item(), JUDGED_WER: heard.words.per_item(),
            },
            clips=self._heard(self._judge, evaluation.clips),
            items_key=with_own(
                with_own(evaluation.items_key, JUDGED_CER, own=key), JUDGED_WER, own=key
            ),
        )  # fmt: skip

    def _score(self, judge: Judge, says: Says) -> Heard:
        waves = (says(item) for item in self.sample)
        texts = [item.text for item in self.sample]
        return judge.score(waves, texts, rate_hz=self._config.data.rate_hz)

    def _heard(self, judge: Judge, clips: Sequence[Clip]) -> tuple[Clip, ...]:
        """Return clips with what the judge hears in their estimates."""
        if not clips:
            return ()
        waves = (clip.signals[_ESTIMATE].mean(axis=0) for clip in clips)
        heard = judge.hear(waves, self._config.data.rate_hz)
        return tuple(
            replace(clip, texts={**clip.texts, _ESTIMATE: text})
            for clip, text in zip(clips, heard, strict=True)
        )

    def _key(self, judge: Judge) -> str:
        """Sixteen hex digits over the judge and what it hears, so that values are paired where both are the same."""
        about = "\n".join([judge.hash, *(item.key for item in self.sample)])
        return sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:16]
