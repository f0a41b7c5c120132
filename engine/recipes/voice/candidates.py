"""Several attempts at a text, and which of them is the best. Letters: C reference vectors, D channels, T samples.

Every text is spoken by itself, all its candidates by seeds of their own: a text is the same alone and among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
from torch import Tensor

from engine.recipes.judge.judge import Judge
from engine.recipes.voice.speaking import TrainedVoice
from models.voice.generation import Sampling, Spoken

# Spoken at once: bounds memory.
_AT_ONCE = 16
_SEED_BITS = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """An attempt.

    Attributes:
        number: from 1.
        spoken: its codes, and how it ended.
        audio_T: float32; None where nobody has asked for it.
        heard: what the judge heard; None without one.
        cer: its character error rate; None without a judge, or where the judge reads nothing of the text.
    """

    number: int
    spoken: Spoken
    audio_T: np.ndarray | None = None
    heard: str | None = None
    cer: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether it ended by itself."""
        return self.spoken.ending == "stop"


def speak_candidates(
    voice: TrainedVoice,
    tokens: Sequence[int],
    *,
    vectors_1CD: Tensor,
    count: int,
    seed: int,
    sampling: Sampling,
) -> list[Candidate]:
    """Speak a text several times; candidate k is the same whatever their number is, up to rounding."""
    spoken: list[Spoken] = []
    for first in range(0, count, _AT_ONCE):
        seeds = [seed + (k << _SEED_BITS) for k in range(first, min(count, first + _AT_ONCE))]
        vectors_BCD = vectors_1CD.expand(len(seeds), -1, -1)
        spoken += voice.speak([tokens] * len(seeds), vectors_BCD, seeds=seeds, sampling=sampling)
    return [Candidate(number, one) for number, one in enumerate(spoken, start=1)]


def with_audio(candidates: Sequence[Candidate], voice: TrainedVoice) -> list[Candidate]:
    """Return candidates with their audio."""
    return [replace(one, audio_T=voice.audio(one.spoken)) for one in candidates]


def judged(
    candidates: Sequence[Candidate], text: str, *, judge: Judge, rate_hz: int
) -> list[Candidate]:
    """Return candidates, which have audio at a rate, with what the judge heard of each."""
    waves = [one.audio_T for one in candidates if one.audio_T is not None]
    found = judge.score(waves, [text] * len(waves), rate_hz=rate_hz)
    rates = found.characters.per_item()
    return [
        replace(one, heard=heard, cer=None if isnan(cer) else float(cer))
        for one, heard, cer in zip(candidates, found.heard, rates, strict=True)
    ]


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return candidates, the best first: by what the judge heard, then those that stopped, then log-probability.

    One that says nothing comes last.
    """
    return sorted(
        candidates,
        key=lambda one: (
            not len(one.spoken.codes_N),
            2.0 if one.cer is None else one.cer,
            not one.stopped,
            -one.spoken.log_prob,
        ),
    )


def why(order: Sequence[Candidate]) -> str:
    """Say why the first of ranked candidates won."""
    best, others = order[0], order[1:]
    if not others:
        return ""
    text = f"candidate {best.number} of {len(order)}: "
    if best.cer is not None:
        text += f"CER {best.cer:.1%}"
        rates = [one.cer for one in others if one.cer is not None]
        text += f" (others {_range([f'{rate:.1%}' for rate in sorted(rates)])})" if rates else ""
        tied = sum(rate == best.cer for rate in rates)
        if tied:
            text += f"; {tied + 1} equal, of which the first by log-probability: {best.spoken.log_prob:.3f} per code"
    else:
        logs = sorted((one.spoken.log_prob for one in others), reverse=True)
        text += f"log-probability {best.spoken.log_prob:.3f} per code (others {_range([f'{log:.3f}' for log in logs])})"
    endless = sum(not one.stopped for one in order)
    return f"{text}; {endless} of {len(order)} did not stop" if endless else text


def _range(values: Sequence[str]) -> str:
    return values[0] if values[0] == values[-1] else f"{values[0]} to {values[-1]}"
