"""Points, evaluations and notices on their way to the store, safe from kill -9.

A checkpoint may be complete on disk a moment before the points up to it are in the store; if the
process is killed in between, the resumed run would never record them again. So each block is appended
to a small file, on the training thread, before it waits for the store. One `write` takes about ten
microseconds, and the file is cleared as soon as the store contains its blocks.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Block:
    """Points of several series at the same N updates: updates (N,) int64, values (N,) float64.

    Attributes:
        items: values of the items of an evaluation, (M,) float64 by metric.
        about: what else there is to say, as JSON values; what it means is the sink's.
    """

    updates: np.ndarray
    series: dict[str, np.ndarray]
    units: dict[str, str]
    items: dict[str, np.ndarray] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


class Journal:
    """The file at `path`, opened for appending, private to its user."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, block: Block) -> None:
        """Add a block whole; OSError when the disk is full, and then nothing of it stays."""
        names = list(block.series)
        head: dict[str, Any] = {"count": len(block.updates), "names": names, "units": block.units}
        columns = [np.ascontiguousarray(block.updates, dtype="<i8").tobytes()]
        columns += [np.ascontiguousarray(block.series[name], "<f8").tobytes() for name in names]
        if block.about:
            head["about"] = block.about
        if block.items:
            head["items"] = {name: len(values) for name, values in block.items.items()}
            columns += [
                np.ascontiguousarray(of_N, "<f8").tobytes() for of_N in block.items.values()
            ]
        data = b"".join([json.dumps(head).encode(), b"\n", *columns])
        before = os.fstat(self._file).st_size
        if os.write(self._file, data) < len(data):
            # What follows half a block would be read as its numbers.
            os.ftruncate(self._file, before)
            raise OSError(errno.ENOSPC, "only a part of a block could be written")

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in the file, up to a truncated one."""
        data = os.pread(self._file, os.fstat(self._file).st_size, 0)
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            try:
                head = json.loads(data[at:end])
                count, names, units = int(head["count"]), list(head["names"]), dict(head["units"])
                items = {str(name): int(size) for name, size in head.get("items", {}).items()}
                about = dict(head.get("about", {}))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
                return
            at = end + 1
            lengths = [count] * (1 + len(names)) + list(items.values())
            if min(lengths) < 0 or len(data) < at + 8 * sum(lengths):
                return
            columns = []
            for length in lengths:
                columns.append(data[at : at + 8 * length])
                at += 8 * length
            values = [np.frombuffer(column, "<f8") for column in columns[1:]]
            yield Block(
                np.frombuffer(columns[0], "<i8"),
                dict(zip(names, values[: len(names)], strict=True)),
                units=units,
                items=dict(zip(items, values[len(names) :], strict=True)),
                about=about,
            )

    def clear(self) -> None:
        """Empty the file."""
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
