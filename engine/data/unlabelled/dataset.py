"""Audio without texts as a dataset: the items of a split, and the audio of each.

Letters: N items, T samples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from os import sep
from pathlib import Path

import numpy as np

from engine.batching.batch import Split
from engine.config.errors import DataError, Problem
from engine.config.schema import RunConfig
from engine.config.unlabelled import UnlabelledData
from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.manifest_rows import ROUNDING_S
from engine.data.files.rates import check_all_rates, resampled_length
from engine.data.files.resampling import read_resampled
from engine.data.files.source import with_channels
from engine.data.unlabelled.items import Items, items_of, left_out_clause


def open_unlabelled(config: RunConfig, split: Split) -> UnlabelledDataset:
    """Return the items of a split of a run.

    Raises:
        DataError: as `UnlabelledDataset` does.
    """
    assert isinstance(config.data, UnlabelledData)
    return UnlabelledDataset(config.data, split)


class UnlabelledDataset:
    """The items of a split, in a fixed order: the rows of a manifest may be shuffled at will.

    Can be sent to a worker process; holds no open file. A kind of data that finds its utterances elsewhere
    gives them as `items`, and overrides `read_piece` and `files`.

    Args:
        data: the settings.
        split: which items.
        items: the items; those of the folder or manifest when left out.

    Attributes:
        items: the N items.
        left_out: which utterances were skipped, as a clause; may be empty.

    Raises:
        DataError: with every bad row; when no item is left, or rates can't be converted.
    """

    def __init__(self, data: UnlabelledData, split: Split, *, items: Items | None = None) -> None:
        self._setting = f"data.{split}"
        path = (data.train if split == "train" else data.valid).absolute()
        self.items = items_of(data, path, setting=self._setting) if items is None else items
        self.left_out = left_out_clause(self.items, data)
        self._rate_hz = data.rate_hz
        self._root = f"{path if path.is_dir() else path.parent}{sep}"
        rates = np.unique(self.items.rows.rate_hz)
        check_all_rates(
            [AudioInfo(path, 1, rate_hz=int(rate), channels=1) for rate in rates if rate],
            data.rate_hz,
            setting=self._setting,
        )

    def __len__(self) -> int:
        """Return N."""
        return len(self.items)

    def subset(self, indices: Sequence[int]) -> UnlabelledDataset:
        """Return a dataset of some of the items, in the order given."""
        some = copy.copy(self)
        some.__dict__.pop("manifest", None)
        some.items = self.items.taken(indices)
        return some

    def durations_s(self) -> np.ndarray:
        """Return (N,) float64, the length of each item in seconds."""
        return self.items.lengths / self._rate_hz

    def utterances(self) -> np.ndarray:
        """Return (N,) int64, the first utterance of each item: equal for the pieces of one that was cut."""
        return np.asarray(self.items.row[self.items.first[:-1]])

    def num_samples(self, index: int) -> int:
        """Return T, the length of an item at the model's rate."""
        first, end = self.items.first[index : index + 2]
        return int(self.items.length[first:end].sum())

    @cached_property
    def manifest(self) -> str:
        """Sixteen hex digits over names, places and lengths of all items, in any order of rows."""
        items, rows = self.items, self.items.rows
        digest = sha256("\n".join(map(self._name, rows.paths)).encode("utf-8", "surrogateescape"))
        for array in (items.row, items.start, items.length, items.first, rows.frames, rows.rate_hz):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        digest.update(f"{self._rate_hz}".encode())
        return digest.hexdigest()[:16]

    def key(self, index: int) -> str:
        """Return a name of an item: path, first and last sample at the model's rate of each piece."""
        return "+".join(
            f"{self._name(path)}:{start}-{end}" for path, start, end in self._pieces(index)
        )

    def files(self, index: int) -> list[str]:
        """Return the paths of the files that an item is read from, in order."""
        return [path for path, _, _ in self._pieces(index)]

    def audio(self, index: int, *, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Read an item or a part of it by seeking: float32 (T,) at `data.rate_hz`, channels averaged.

        Args:
            index: of the item.
            start: first sample.
            frames: T; to the end of the item when left out.

        Raises:
            DataError: when a file can't be read, has changed, or is shorter than the manifest says.
        """
        end = self.num_samples(index) if frames is None else start + frames
        parts, place = [], 0
        for path, first, last in self._pieces(index):
            low, high = max(start - place, 0), min(end - place, last - first)
            if low < high:
                parts.append(self.read_piece(path, first + low, end=first + high))
            place += last - first
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _pieces(self, index: int) -> list[tuple[str, int, int]]:
        items = self.items
        first, end = int(items.first[index]), int(items.first[index + 1])
        return [
            (items.rows.paths[row], start, start + length)
            for row, start, length in zip(
                items.row[first:end].tolist(),
                items.start[first:end].tolist(),
                items.length[first:end].tolist(),
                strict=True,
            )
        ]

    def read_piece(self, path: str, start: int, *, end: int) -> np.ndarray:
        """Read a part of an utterance, (T,) float32; `start` and `end` count samples at the model's rate.

        Raises:
            DataError: when the file can't be read, has changed, or is shorter than the manifest says.
        """
        info = self._info(path)
        length = resampled_length(info.frames, info.rate_hz, to_hz=self._rate_hz)
        if end > length + ROUNDING_S * self._rate_hz or start >= length:
            message = (
                f"{path}: {self._setting} says that an utterance ends at {end / self._rate_hz:.3f} s, but "
                f"the file ends at {length / self._rate_hz:.3f} s; correct the manifest or copy the file again"
            )
            raise DataError([Problem(self._setting, message)])
        frames = min(end, length) - start
        read_CT = read_resampled(info, start, frames=frames, rate_hz=self._rate_hz)
        samples_T: np.ndarray = with_channels(read_CT, 1)[0]
        # A manifest may round the end up by a few samples.
        return np.pad(samples_T, (0, end - start - frames)) if end > length else samples_T

    def _info(self, path: str) -> AudioInfo:
        try:
            info = _probed(path)
            check_all_rates([info], self._rate_hz, setting=self._setting)
        except DataError as error:
            problems = [Problem(self._setting, problem.message) for problem in error.problems]
            raise DataError(problems) from None
        return info

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root)


@lru_cache(maxsize=100_000)
def _probed(path: str) -> AudioInfo:
    return probe(Path(path))
