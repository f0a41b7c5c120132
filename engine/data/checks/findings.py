"""Kinds of problems of audio for training, and the survey of a folder. Free of torch.

Owns the kinds of problems, and reads files for those that spoil a run silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.config.errors import DataError, encodable
from engine.data.checks.listening import listen
from engine.data.files.audio_files import AudioInfo, check_ends, not_used
from models.folders import walk

Kind = Literal[
    "empty",
    "unreadable",
    "header",
    "rows",
    "repeated",
    "stems",
    "rate",
    "channels",
    "short",
    "silent",
    "clipped",
    "settings",
]
KINDS: dict[Kind, str] = {
    "empty": "missing folders, or folders without usable data",
    "unreadable": "files that can't be read completely",
    "header": "files whose header does not match their content",
    "rows": "invalid utterances in a manifest or transcript",
    "repeated": "parts of files that several rows have, with different texts",
    "stems": "tracks with missing stems or stems of unequal length",
    "rate": "files with an unexpected sampling rate",
    "channels": "files with an unexpected number of channels",
    "short": "files shorter than one segment, which training pads",
    "silent": "silent files",
    "clipped": "clipped files (recorded too loud)",
    "settings": "settings that do not match the audio",
}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem; the message begins with the path."""

    kind: Kind
    message: str

    def __post_init__(self) -> None:
        """Make bytes of file names that are no UTF-8 visible."""
        object.__setattr__(self, "message", encodable(self.message))


@dataclass(frozen=True, slots=True)
class Survey:
    """The contents of a folder and all problems of it; `setting` is the setting that names the folder.

    For a well-known dataset, `dataset` is its name and `use` how to train on it; `notes` are
    further lines about the contents.
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
    """A folder before any limit is applied: readable files, and the problems of the others."""

    infos: list[AudioInfo]
    findings: list[Finding]
    layout: str = "audio files, including subfolders"
    notes: tuple[str, ...] = ()


def make_survey(
    folder: Path, setting: str, *, contents: Contents, findings: Sequence[Finding]
) -> Survey:
    """Sort the findings (rows keep their order), and count files, hours, rates and channels."""
    kinds = list(KINDS)
    left_out = not_used(walk(folder)) if folder.is_dir() else []
    return Survey(
        folder,
        setting,
        layout=contents.layout,
        num_files=len(contents.infos),
        duration_s=sum(info.duration_s for info in contents.infos),
        rates_hz=dict(Counter(info.rate_hz for info in contents.infos).most_common()),
        channels=dict(Counter(info.channels for info in contents.infos).most_common()),
        findings=tuple(
            sorted(
                dict.fromkeys(findings),
                key=lambda item: (
                    kinds.index(item.kind),
                    "" if item.kind == "rows" else item.message,
                ),
            )
        ),
        notes=(*contents.notes, *left_out),
    )


def sounds(
    infos: Sequence[AudioInfo], *, content: bool, progress: Progress | None
) -> Iterator[Finding]:
    """Read files completely and check their audio, or without `content` only their last samples."""
    yield from (Finding("header", f"{info.path}: {info.note}") for info in infos if info.note)
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
            yield Finding(
                "unreadable", f"{path}: contains NaN or infinite samples; record it again"
            )
        elif heard.is_silent:
            yield Finding("silent", f"{path}: silent, its peak is {heard.peak:.1e}")
        if heard.num_clipped:
            yield Finding(
                "clipped",
                f"{path}: clipped {heard.num_clipped} times (three or more samples in a row at full scale)",
            )
