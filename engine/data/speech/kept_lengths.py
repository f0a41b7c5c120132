"""Which utterances training uses: those within its duration limits, or a share of them; what is skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b

from engine.config.utterances import UtteranceData
from engine.data.speech.transcripts import Utterance


def in_range(
    utterances: Sequence[Utterance], data: UtteranceData, *, all_of_them: bool = False
) -> list[Utterance]:
    """Return the utterances of `data.min_s` to `data.max_s`, in their order; `data.share` of them, or all.

    Which ones depends on `data.share_seed`, names of files and texts, wherever the files are. A smaller
    share is a part of a larger one, and any holds at least one utterance.
    """
    kept = [item for item in utterances if data.min_s <= item.duration_s <= data.max_s]
    if all_of_them or data.share == 1:
        return kept
    ranked = sorted(kept, key=partial(_rank, data.share_seed))
    chosen = set(map(id, ranked[: max(1, round(data.share * len(kept)))]))
    return [item for item in kept if id(item) in chosen]


def _rank(seed: int, item: Utterance) -> bytes:
    """Return the place of an utterance in a random order."""
    text = f"{seed} {item.path.name} {item.start_s:.6f} {item.text}"
    return blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Counts of the utterances that training skips; as text a clause, empty if there are none."""

    num_short: int = 0
    num_long: int = 0
    duration_s: float = 0.0
    num_all: int = 0
    min_s: float = 0.0
    max_s: float = 0.0

    @classmethod
    def of(cls, utterances: Sequence[Utterance], data: UtteranceData) -> LeftOut:
        """Count them."""
        short = [item for item in utterances if item.duration_s < data.min_s]
        long = [item for item in utterances if item.duration_s > data.max_s]
        seconds = sum(item.duration_s for item in (*short, *long))
        return cls(len(short), len(long), seconds, len(utterances), data.min_s, data.max_s)

    def __str__(self) -> str:
        """Return a clause such as "3 of 200 utterances (12.0 s) skipped: 3 shorter ..."."""
        total = self.num_short + self.num_long
        if not total:
            return ""
        why = [
            f"{number} {what}"
            for number, what in (
                (self.num_short, f"shorter than data.min_s = {self.min_s:g} s"),
                (self.num_long, f"longer than data.max_s = {self.max_s:g} s"),
            )
            if number
        ]
        return (
            f"{total} of {self.num_all} utterances ({_time(self.duration_s)}) skipped: "
            f"{', '.join(why)}"
        )


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 3600 else f"{seconds:.1f} s"
