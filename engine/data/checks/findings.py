"""What can be wrong with audio for training, and what a survey of it says. Free of torch.

Owns the kinds of problems, and listening to files for those that spoil a run quietly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.config.errors import DataError
from engine.data.checks.listening import listen
from engine.data.files.audio_files import AudioInfo, check_ends

Kind = Literal[
    "empty",
    "unreadable",
    "rows",
    "stems",
    "rate",
    "channels",
    "short",
    "silent",
    "clipped",
    "settings",
]
KINDS: dict[Kind, str] = {
    "empty": "folders without what a run needs",
    "unreadable": "files that can't be read to their end",
    "rows": "utterances that can't be used as they are written down",
    "stems": "tracks with stems missing or of unequal length",
    "rate": "files with a sampling rate that does not fit",
    "channels": "files with another number of channels",
    "short": "files shorter than a segment, which would be padded",
    "silent": "files without sound",
    "clipped": "files that were recorded too loud",
    "settings": "settings that do not fit the audio",
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; the message begins with the path."""

    kind: Kind
    message: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in a folder, and all that is wrong with it; `setting` is what named the folder.

    A well-known dataset has its name in `dataset`, and how to train on it in `use`; `notes` are
    further lines about what is there.
    """

    folder: Path
    setting: str
    layout: str
    num_files: int
    duration_s: float
    rates_hz: dict[int, int]
    channels: dict[int, int]
    findings: tuple[Finding, ...]
    dataset: str = ""
    use: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found before any bound is applied: readable files, and problems of the others."""

    infos: list[AudioInfo]
    findings: list[Finding]
    layout: str = "audio files at any depth"
    notes: tuple[str, ...] = ()


def make_survey(folder: Path, setting: str, found: Contents, findings: Sequence[Finding]) -> Survey:
    """Put the findings in order (rows keep theirs), and count what there is."""
    kinds = list(KINDS)
    return Survey(
        folder,
        setting,
        found.layout,
        len(found.infos),
        sum(info.duration_s for info in found.infos),
        dict(Counter(info.rate_hz for info in found.infos).most_common()),
        dict(Counter(info.channels for info in found.infos).most_common()),
        tuple(
            sorted(
                dict.fromkeys(findings),
                key=lambda item: (
                    kinds.index(item.kind),
                    "" if item.kind == "rows" else item.message,
                ),
            )
        ),
        notes=found.notes,
    )


def sounds(
    infos: Sequence[AudioInfo], *, content: bool, progress: Progress | None
) -> Iterator[Finding]:
    """Read files to their ends and listen, or without `content` read only their last samples."""
    if not content:
        try:
            check_ends(infos, setting="")
        except DataError as error:
            for problem in error.problems:
                yield Finding("unreadable", problem.message)
        return
    for number, heard in enumerate(listen(infos), start=1):
        if progress is not None:
            progress(number, len(infos))
        path = heard.info.path
        if heard.problem:
            yield Finding("unreadable", heard.problem)
        elif not heard.is_finite:
            yield Finding("unreadable", f"{path}: holds NaN or infinite samples; record it again")
        elif heard.is_silent:
            yield Finding("silent", f"{path}: silent, its loudest sample is {heard.peak:.1e}")
        if heard.num_clipped:
            yield Finding(
                "clipped",
                f"{path}: at full scale for three samples or more, {heard.num_clipped} times",
            )
