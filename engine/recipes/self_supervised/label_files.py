"""Labels of frames on disk: 16-bit numbers, one file a split, and what each item was when it got them.

A folder holds `labels.u16`, the labels of all items one after another, and `items.u64`, a mark for each
item over the k-means model and the files the item is read from (path, size, time of change). An item
whose mark differs is stale, and is labelled again. Letters: N items, L frames, K clusters.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

# What stands where no label was written yet.
_NONE = np.uint16(0xFFFF)
_BLOCK = 2**22


class Items(Protocol):
    """The items of a split: `engine.data.unlabelled.dataset.UnlabelledDataset`."""

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


class LabelFiles:
    """The labels of one split; can be sent to a reader process, holds no open file.

    Args:
        folder: created when labels are written.
        items: the items.
        frames_N: frames of each item.
        model: hash of the k-means model.
        clusters: K.
    """

    def __init__(
        self, folder: Path, *, items: Items, frames_N: np.ndarray, model: str, clusters: int
    ) -> None:
        self._folder = folder
        self._items = items
        self._first = np.concatenate([[0], np.cumsum(np.asarray(frames_N, np.int64))])
        self._model = model
        self._clusters = clusters
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
            ValueError: for labels outside the clusters, or of another number of frames.
        """
        first, end = self._first[index : index + 2]
        if len(label_L) != end - first:
            raise ValueError(
                f"{self._items.key(index)}: {len(label_L)} labels for {end - first} frames"
            )
        self._require_clusters(label_L)
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

    def read(self, index: int, *, first_frame: int, frames: int) -> np.ndarray:
        """Return labels of an item (L,) int64.

        Raises:
            ValueError: when the item has fewer frames.
        """
        first, end = self._first[index : index + 2]
        begin = first + first_frame
        if first_frame < 0 or begin + frames > end:
            raise ValueError(
                f"{self._items.key(index)} has {end - first} labels, but frames {first_frame} to "
                f"{first_frame + frames} were asked for"
            )
        if self._labels is None:
            self._labels = (
                np.memmap(self._labels_path, "<u2", mode="r")
                if self._first[-1]
                else np.zeros(0, "<u2")
            )
        return self._labels[begin : begin + frames].astype(np.int64)

    def stale(self) -> list[int]:
        """Return the items whose labels are missing, or were made of other files or another k-means model."""
        marks = self._marks()
        if marks is None:
            return list(range(len(self._items)))
        stale = {index for index, mark in enumerate(marks.tolist()) if mark != self.mark(index)}
        if len(stale) < len(marks):
            stale |= self._unlabelled()
        return sorted(stale)

    def counts(self) -> np.ndarray:
        """Return (K,) frames in each cluster.

        Raises:
            ValueError: when a label is missing or outside the clusters.
        """
        total_K = np.zeros(self._clusters, np.int64)
        for first in range(0, int(self._first[-1]), _BLOCK):
            block = np.fromfile(self._labels_path, "<u2", count=_BLOCK, offset=2 * first)
            self._require_clusters(block)
            total_K += np.bincount(block, minlength=self._clusters)
        return total_K

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
        """Return items with a frame that has no label: a power cut between two writes."""
        missing: set[int] = set()
        for first in range(0, int(self._first[-1]), _BLOCK):
            block = np.fromfile(self._labels_path, "<u2", count=_BLOCK, offset=2 * first)
            places = first + np.flatnonzero(block >= self._clusters)
            items = np.unique(np.searchsorted(self._first, places, side="right") - 1)
            missing.update(items.tolist())
        return missing

    def _require_clusters(self, labels: np.ndarray) -> None:
        if len(labels) and int(labels.max()) >= self._clusters:
            raise ValueError(
                f"{self._folder}: label {int(labels.max())}, but the k-means model has {self._clusters} clusters"
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
