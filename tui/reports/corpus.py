"""What `sepdash data voice` found, as lines of text. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from engine.config.errors import counted
from engine.config.text_data import TextData
from engine.data.corpus.clips import LEFT_OUT, REPORTED, Clip, Finding, Kind
from engine.data.corpus.survey import Corpus
from engine.text.changes import described
from tui.reports.formats import aligned, clean, duration

_MOST_SPEAKERS = 20


def report(corpus: Corpus, data: TextData, *, most: int | None) -> Iterator[str]:
    """Yield the lines about a corpus, control characters of its texts removed.

    Args:
        corpus: what was found.
        data: the settings of texts it was read with.
        most: findings of a kind to list; None: all.
    """
    for line in _lines(corpus, data, most=most):
        yield clean(line)


def _lines(corpus: Corpus, data: TextData, *, most: int | None) -> Iterator[str]:
    yield f"{corpus.folder}: {corpus.layout}, {counted(corpus.num_rows, 'row')}"
    yield f"  training: {_amount(corpus.train)}"
    yield f"  validation: {_amount(corpus.valid)}"
    yield from _speakers(corpus)
    yield from (f"  note: {note}" for note in corpus.notes)
    first, *more = described(corpus.changes, data)
    yield first
    yield from (f"  {line}" for line in more)
    found: dict[Kind, list[Finding]] = {finding.kind: [] for finding in corpus.findings}
    for finding in corpus.findings:
        found[finding.kind].append(finding)
    yield from _kinds("left out", LEFT_OUT, found=found, most=most, corpus=corpus)
    yield from _kinds(
        "used as they are, but check these", REPORTED, found=found, most=most, corpus=corpus
    )
    yield "" if found else "no problems"


def _amount(clips: Sequence[Clip]) -> str:
    if not clips:
        return "no clips"
    lengths = [clip.duration_s for clip in clips]
    return f"{counted(len(clips), 'clip')}, {duration(sum(lengths))}, each {min(lengths):.1f} to {max(lengths):.1f} s"


def _speakers(corpus: Corpus) -> Iterator[str]:
    rows = [
        (name, str(train), str(valid), duration(seconds))
        for name, (train, valid, seconds) in corpus.speakers.items()
    ]
    for line in aligned(
        ("speaker", "train", "valid", "duration"),
        rows[:_MOST_SPEAKERS],
        right=("train", "valid", "duration"),
    ):
        yield f"  {line}"
    if len(rows) > _MOST_SPEAKERS:
        yield f"  ... and {len(rows) - _MOST_SPEAKERS} more speakers"


def _kinds(
    title: str,
    kinds: Mapping[Kind, str],
    *,
    found: Mapping[Kind, Sequence[Finding]],
    most: int | None,
    corpus: Corpus,
) -> Iterator[str]:
    shown = [kind for kind in kinds if kind in found]
    if not shown:
        return
    yield f"{title}:"
    for kind in shown:
        yield f"  {kind}: {len(found[kind])} ({kinds[kind]})"
        for finding in found[kind][:most]:
            yield f"    {finding.message.replace(f'{corpus.folder}/', '')}"
        if most is not None and len(found[kind]) > most:
            yield f"    ... and {len(found[kind]) - most} more (use --all to list them)"
