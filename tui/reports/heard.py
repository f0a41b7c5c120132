"""What a judge heard in the clips of a run, beside what was to be said. Pure functions of the clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.store.records import ClipRecord

_INPUT, _ESTIMATE = "input", "estimate"
# Where a judge heard no word.
NOTHING = "(nothing)"


@dataclass(frozen=True, slots=True)
class Hearing:
    """What was heard in a clip of an evaluation; `text` is empty where it is not known what was to be said."""

    updates: int
    item: str
    text: str
    heard: str


def texts_of(clips: Iterable[ClipRecord]) -> dict[str, str]:
    """Return what is to be said in each item, where that is known."""
    return {clip.item: clip.text for clip in clips if clip.kind == _INPUT and clip.text is not None}


def heard_in(clip: ClipRecord) -> str:
    """Return what a judge heard in a clip; empty where none listened."""
    if clip.kind != _ESTIMATE or clip.text is None:
        return ""
    return clip.text or NOTHING


def hearings(clips: Sequence[ClipRecord]) -> list[Hearing]:
    """Return what was heard, by item, then from the newest evaluation to the oldest."""
    said = texts_of(clips)
    found = [
        Hearing(clip.updates, clip.item, said.get(clip.item, ""), heard=heard_in(clip))
        for clip in clips
        if heard_in(clip)
    ]
    return sorted(found, key=lambda one: (int(one.item), -one.updates))


def newest(clips: Sequence[ClipRecord]) -> list[Hearing]:
    """Return what was heard in the clips of the latest evaluation."""
    last = max((clip.updates for clip in clips), default=0)
    return [one for one in hearings(clips) if one.updates == last]
