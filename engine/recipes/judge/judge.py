"""A trained speech recogniser as the judge of speech whose text is known. Letters: N recordings, T samples.

Used by evaluations (`engine.recipes.judge.run_judge`) and wherever speech is made: it hears waveforms in memory,
at any rate, and compares texts after normalising them as it was trained to read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.checkpoints.find import find_checkpoint
from engine.checkpoints.layout import content_of
from engine.data.files.rates import check_rates
from engine.data.files.resampling import resample
from engine.metrics.word_errors import ErrorBreakdown
from engine.recipes.speech.transcriber import Transcriber
from engine.recipes.speech.transcribing import load_transcriber
from engine.text.normalise import prepared

# Longer speech is cut in quiet places.
_LONGEST_S = 30.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What a judge heard of N recordings.

    Attributes:
        texts: what was to be said, normalised.
        heard: what was heard.
        characters: errors by characters.
        words: errors by words.
    """

    texts: tuple[str, ...]
    heard: tuple[str, ...]
    characters: ErrorBreakdown
    words: ErrorBreakdown

    @classmethod
    def of(cls, texts: Sequence[str], heard: Sequence[str]) -> Heard:
        """Compare texts with what was heard."""
        characters, words = ErrorBreakdown("characters"), ErrorBreakdown("words")
        for text, found in zip(texts, heard, strict=True):
            characters.add(text, found)
            words.add(text, found)
        return cls(tuple(texts), tuple(heard), characters, words)

    @property
    def cer(self) -> float:
        """Character error rate over all; NaN where there is no text."""
        return self.characters.total.rate

    @property
    def wer(self) -> float:
        """Word error rate over all; NaN where there is no text."""
        return self.words.total.rate


class Judge:
    """Hears speech.

    Args:
        transcriber: the recogniser.
        hash: identifies its weights: judges with equal ones hear the same.
    """

    def __init__(self, transcriber: Transcriber, *, hash: str) -> None:
        self._transcriber = transcriber
        self.hash = hash

    @property
    def rate_hz(self) -> int:
        """Sampling rate at which it hears."""
        return self._transcriber.data.rate_hz

    def hear(self, waves: Iterable[np.ndarray], rate_hz: int) -> list[str]:
        """Return the text of each waveform, float32 (T,); empty where there is none, or it is not finite.

        Waveforms are taken a few at a time, so that a generator of many needs little memory.

        Raises:
            DataError: when the rate can't be converted.
        """
        check_rates(rate_hz, self.rate_hz, setting="judge")
        heard: list[str] = []
        places: list[int] = []

        def sound() -> Iterator[np.ndarray]:
            for index, wave_T in enumerate(waves):
                heard.append("")
                if len(wave_T) and np.isfinite(wave_T).all():
                    places.append(index)
                    yield self._resampled(wave_T, rate_hz)

        # Search is not made for half precision, whatever the model that speaks computes in.
        with torch.autocast(self._transcriber.device.type, enabled=False):
            found = self._transcriber.texts_of(sound(), beam=1, longest_s=_LONGEST_S)
            for number, (text, _) in enumerate(found):
                heard[places[number]] = text
        return heard

    def score(self, waves: Iterable[np.ndarray], texts: Sequence[str], *, rate_hz: int) -> Heard:
        """Hear waveforms that should say some texts, and count the errors.

        Args:
            waves: float32 (T,) each.
            texts: as they were written; normalised here as the judge reads texts.
            rate_hz: of the waveforms.

        Raises:
            DataError: when the rate can't be converted.
        """
        data = self._transcriber.data
        return Heard.of([prepared(text, data) for text in texts], self.hear(waves, rate_hz))

    def _resampled(self, wave_T: np.ndarray, rate_hz: int) -> np.ndarray:
        samples_T = np.ascontiguousarray(wave_T, np.float32)
        resampled_T: np.ndarray = resample(samples_T[None], rate_hz, to_hz=self.rate_hz)[0]
        return resampled_T


def load_judge(path: Path, device: torch.device) -> Judge:
    """Return the judge of a checkpoint of a speech recogniser.

    Raises:
        CheckpointError: when there is no checkpoint, it is damaged, or not of a speech recogniser.
    """
    checkpoint = find_checkpoint(path)
    return Judge(load_transcriber(checkpoint, device), hash=content_of(checkpoint))
