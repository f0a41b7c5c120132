"""What was made of validation items, so that only the first evaluation reads files."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

# 4.6 hours of 80 mel bands.
MOST_BYTES = 2**29


class KeptTensors:
    """A tensor of each item; the first are kept, up to `most_bytes`, and the others made again.

    Every evaluation asks for the same items in the same order, so evicting the oldest would always evict the
    next one needed. Sent to another process, it is empty.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = self._room = most_bytes
        self._tensors: dict[int, Tensor] = {}

    def __getstate__(self) -> dict[str, object]:
        """Return the state for another process."""
        return {"_most_bytes": self._most_bytes, "_room": self._most_bytes, "_tensors": {}}

    def get(self, index: int, make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of an item; the caller must not modify it."""
        if index in self._tensors:
            return self._tensors[index]
        tensor = make()
        if tensor.nbytes <= self._room:
            self._room -= tensor.nbytes
            self._tensors[index] = tensor
        return tensor
