"""Labels of items on disk: 16-bit numbers, one file a split, and what each item was when it got them.

Clusters of frames, codes of a codec: whatever a fixed model makes of an item. A folder holds `labels.u16`, the
labels of all items one after another, and `items.u64`, a mark for each item over that model and the files
the item is read from (path, size, time of change). An item whose mark differs is stale, and is labelled again.
Letters: N items, L labels of an item, K values that a label may have.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

# What stands where no label was written yet, so labels go up to one less.
_NONE = np.uint16(0xFFFF)
_BLOCK = 2**22


class Items(Protocol):
    """The items of a split: `UnlabelledDataset`, or `SpeechDataset`, of `engine.data`."""

    def __len__(self) -> int:
        """Return N."""

    def durations_s(self) -> np.ndarray:
        """Return (N,) the length of each item in seconds."""

    def key(self, index: int) -> str:
        """Return a name of an item."""

    def files(self, index: int) -> Sequence[str]:
        """Return the paths of the files that an item is read from."""

    def audio(self, index: int) -> np.ndarray:
        """Read an item, float32 (T,)."""


@dataclass(frozen=True, slots=True)
class Words:
    """What things are called: `label` (of which there are several), `place` that has one, `model`, `value`."""

    label: str = "label"
    place: str = "frame"
    model: str = "the k-means model"
    value: str = "cluster"


class LabelFiles:
    """The labels of one split; can be sent to a reader process, holds no open file.

    Args:
        folder: created when labels are written.
        items: the items.
        labels_N: number of labels of each item.
        model: hash of what makes the labels.
        values: K.
        words: what labels, their places and their model are called in messages.
    """

    def __init__(
        self,
        folder: Path,
        *,
        items: Items,
        labels_N: np.ndarray,
        model: str,
        values: int,
        words: Words,
    ) -> None:
        self._folder = folder
        self._items = items
        self._first = np.concatenate([[0], np.cumsum(np.asarray(labels_N, np.int64))])
        self._model = model
        self._values = values
        self._words = words
        self._labels: np.ndarray | None = None

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the memory map."""
        return {**self.__dict__, "_labels": None}

    def create(self) -> None:
        """Make the files, without labels; those that are there and have the right size stay."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path, kind, fill, count in (
            (self._labels_path, np.uint16, _NONE, int(self._first[-1])),
            (self._marks_path, np.uint64, 0, len(self._items)),
        ):
            size = count * np.dtype(kind).itemsize
            if path.exists() and path.stat().st_size == size:
                continue
            aside = path.with_name(f"{path.name}.new")
            with os.fdopen(
                os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
            ) as file:
                for first in range(0, count, _BLOCK):
                    file.write(np.full(min(_BLOCK, count - first), fill, kind).tobytes())
            aside.replace(path)

    def write(self, index: int, label_L: np.ndarray) -> None:
        """Write the labels of an item, then its mark.

        Raises:
            ValueError: for labels outside the values, or not as many as the item has.
        """
        first, end = self._first[index : index + 2]
        if len(label_L) != end - first:
            raise ValueError(
                f"{self._items.key(index)}: {len(label_L)} {self._words.label}s for {end - first} "
                f"{self._words.place}s"
            )
        self._require_values(label_L)
        mark = np.uint64(self.mark(index))
        for path, place, data in (
            (self._labels_path, 2 * int(first), label_L.astype("<u2")),
            (self._marks_path, 8 * index, np.array([mark], "<u8")),
        ):
            with path.open("r+b") as file:
                file.seek(place)
                file.write(data.tobytes())

    def sync(self) -> None:
        """Have all that was written on disk."""
        for path in (self._labels_path, self._marks_path):
            with path.open("r+b") as file:
                os.fsync(file.fileno())

    def read(self, index: int, *, start: int = 0, count: int | None = None) -> np.ndarray:
        """Return labels of an item (L,) int64; all of them without `count`.

        Raises:
            ValueError: when the item has fewer.
        """
        first, end = self._first[index : index + 2]
        begin = first + start
        count = int(end - begin) if count is None else count
        if start < 0 or begin + count > end:
            raise ValueError(
                f"{self._items.key(index)} has {end - first} {self._words.label}s, but {self._words.place}s "
                f"{start} to {start + count} were asked for"
            )
        if self._labels is None:
            self._labels = (
                np.memmap(self._labels_path, "<u2", mode="r")
                if self._first[-1]
                else np.zeros(0, "<u2")
            )
        return self._labels[begin : begin + count].astype(np.int64)

    def stale(self) -> list[int]:
        """Return the items whose labels are missing, or were made of other files or by another model."""
        marks = self._marks()
        if marks is None:
            return list(range(len(self._items)))
        stale = {index for index, mark in enumerate(marks.tolist()) if mark != self.mark(index)}
        if len(stale) < len(marks):
            stale |= self._unlabelled()
        return sorted(stale)

    def counts(self) -> np.ndarray:
        """Return (K,) how often each value is a label.

        Raises:
            ValueError: when a label is missing or outside the values.
        """
        total_K = np.zeros(self._values, np.int64)
        for first in range(0, int(self._first[-1]), _BLOCK):
            block = np.fromfile(self._labels_path, "<u2", count=_BLOCK, offset=2 * first)
            self._require_values(block)
            total_K += np.bincount(block, minlength=self._values)
        return total_K

    def stale_text(self, setting: str) -> str:
        """Return which labels can't be used and why; empty where all can.

        Args:
            setting: that of the items, for people.
        """
        stale, marks = self.stale(), self._marks()
        changed = [k for k in stale if marks is not None and int(marks[k]) not in (0, self.mark(k))]
        what, of = f"the {self._words.label}s of", f"of {len(self._items)} items of {setting}"
        texts = []
        if missing := len(stale) - len(changed):
            texts.append(f"{what} {missing} {of} are missing")
        if changed:
            names = ", ".join(Path(changed_last(self._items.files(k))).name for k in changed[:3])
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            texts.append(
                f"{what} {len(changed)} {of} are stale, since their files have changed ({names}{more})"
            )
        return "; ".join(texts)

    def take_over(self, other: Path) -> None:
        """Copy the files of another folder, if there is nothing here; stale labels are told by their marks.

        Marks are copied first: labels that are written in the meantime are then without one. What can't be
        read, or is removed in the meantime, is left: its labels are made.
        """
        if self._folder.exists() or not other.is_dir():
            return
        aside = self._folder.with_name(f"{self._folder.name}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            for path in (self._marks_path, self._labels_path):
                shutil.copyfile(other / path.name, aside / path.name)
                (aside / path.name).chmod(0o600)
        except OSError:
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(self._folder)

    def mark(self, index: int) -> int:
        """Return what an item is now: 64 bits, never 0; 1 where a file is missing."""
        digest = blake2b(
            f"{self._model} {self._items.key(index)}".encode("utf-8", "surrogateescape"),
            digest_size=8,
        )
        for name in self._items.files(index):
            try:
                state = os.stat(name)  # noqa: PTH116 - a million of Path take seconds
            except OSError:
                return 1
            digest.update(f" {state.st_size} {state.st_mtime_ns}".encode())
        return max(2, int.from_bytes(digest.digest(), "little"))

    @property
    def _labels_path(self) -> Path:
        return self._folder / "labels.u16"

    @property
    def _marks_path(self) -> Path:
        return self._folder / "items.u64"

    def _marks(self) -> np.ndarray | None:
        """Return the marks that were written; None where the files are missing or of another size."""
        try:
            sizes = [path.stat().st_size for path in (self._labels_path, self._marks_path)]
        except OSError:
            return None
        if sizes != [2 * int(self._first[-1]), 8 * len(self._items)]:
            return None
        return np.fromfile(self._marks_path, "<u8")

    def _unlabelled(self) -> set[int]:
        """Return items with a missing label: a power cut between two writes."""
        missing: set[int] = set()
        for first in range(0, int(self._first[-1]), _BLOCK):
            block = np.fromfile(self._labels_path, "<u2", count=_BLOCK, offset=2 * first)
            places = first + np.flatnonzero(block >= self._values)
            items = np.unique(np.searchsorted(self._first, places, side="right") - 1)
            missing.update(items.tolist())
        return missing

    def _require_values(self, labels: np.ndarray) -> None:
        if len(labels) and int(labels.max()) >= self._values:
            words = self._words
            raise ValueError(
                f"{self._folder}: {words.label} {int(labels.max())}, but {words.model} has {self._values} "
                f"{words.value}s"
            )


def changed_last(files: Sequence[str]) -> str:
    """Return the file of an item that is missing, or else was written or replaced last.

    Marks are of whole items, so this is how to name the file whose change made labels stale. The time of
    a change counts, which a copy that keeps the time of the original has, too.
    """
    for name in files:
        if not Path(name).exists():
            return name
    return max(files, key=lambda name: Path(name).stat().st_ctime_ns)
