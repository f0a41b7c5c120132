"""Which clips of a corpus are for validation: drawn at random within each speaker, by a key. Free of torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

FEWEST = 5  # a speaker with fewer clips keeps all for training


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clip to draw: `name` is that of its file, which says where it is drawn; `text` as tokens are made of it."""

    speaker: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Draw:
    """What was drawn.

    Attributes:
        chosen: places of the clips for validation.
        few: speakers that have too few clips for any.
        kept: places of clips that were drawn, but hold a character that no other text has, so training keeps them.
    """

    chosen: frozenset[int]
    few: tuple[str, ...]
    kept: tuple[int, ...]


def draw_held_out(candidates: Sequence[Candidate], *, share: float, seed: int) -> Draw:
    """Draw a share of the clips of each speaker, at least one, whatever their length and order.

    Equal clips and seeds give the same draw wherever the folder is. A clip whose text has a character that no
    remaining training text has is left for training, since no model could know it; another is drawn.

    Args:
        candidates: the clips.
        share: of each speaker, from 0 to 1.
        seed: of the draw.
    """
    by_speaker: dict[str, list[int]] = defaultdict(list)
    for place, clip in enumerate(candidates):
        by_speaker[clip.speaker].append(place)
    left = Counter(char for clip in candidates for char in set(clip.text))
    chosen: set[int] = set()
    kept: list[int] = []
    few: list[str] = []
    for speaker, places in sorted(by_speaker.items()):
        if len(places) < FEWEST:
            few.append(speaker)
            continue
        wanted = max(1, round(share * len(places)))
        for place in sorted(places, key=lambda place: _rank(candidates[place], seed)):
            characters = set(candidates[place].text)
            if any(left[char] == 1 for char in characters):
                kept.append(place)
                continue
            left.subtract(characters)
            chosen.add(place)
            wanted -= 1
            if not wanted:
                break
    return Draw(frozenset(chosen), tuple(few), tuple(kept))


def _rank(clip: Candidate, seed: int) -> bytes:
    text = f"{seed}\0{clip.speaker}\0{clip.name}\0{clip.text}"
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
