"""A file as its decoder should see it: with a header that is right, and without what follows the audio."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class View:
    """Bytes of a file as they should be: some replaced, none after `limit`.

    With a `shift`, all lie so much later than in the file, behind a head that is one of the patches.
    """

    limit: int
    patches: tuple[tuple[int, bytes], ...] = ()
    shift: int = 0


class ViewedFile:
    """A file as soundfile reads it, changed by a view."""

    def __init__(self, file: Any, view: View) -> None:
        self._file, self._view, self._place = file, view, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the place; return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._view.limit}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        left = max(0, self._view.limit - self._place)
        size = left if size < 0 else min(size, left)
        gap = min(size, max(0, self._view.shift - self._place))
        self._file.seek(max(0, self._place - self._view.shift))
        data: bytes = bytes(gap) + self._file.read(size - gap)
        for place, new in self._view.patches:
            first, end = max(place, self._place), min(place + len(new), self._place + len(data))
            if first < end:
                changed = bytearray(data)
                changed[first - self._place : end - self._place] = new[first - place : end - place]
                data = bytes(changed)
        self._place += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the next bytes; return their number."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
