"""What a beam search of any recogniser finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The tokens of an utterance, and log P(tokens | audio) over all alignments, in nats."""

    tokens: list[int]
    log_likelihood: float
