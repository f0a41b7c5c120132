"""Which items of audio training and validation have: utterances cut, joined or left out.

An utterance longer than `max_s` is cut into pieces of about equal length, which begin on the grid of
the encoders' frames. With `join_s`, shorter ones are joined with others of their folder; their order is
that of a hash of their names, so that takes of one word, which lie side by side, are spread. What is
shorter than `min_s` after that is left out. None of it depends on a seed. Free of torch.
Letters: R rows, P pieces, N items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from os.path import dirname
from pathlib import Path

import numpy as np

from engine.config.errors import DataError, Problem, counted
from engine.config.unlabelled import UnlabelledData
from engine.data.unlabelled.rows import Rows, read_rows


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """The items of a split, each of one piece or several; lengths in samples at the model's rate.

    Attributes:
        rows: the utterances.
        row: (P,) the utterance of each piece.
        start: (P,) where the piece begins in its file.
        length: (P,) its length.
        first: (N + 1,) the first piece of each item, and P.
        num_cut: utterances that were cut.
        num_joined: utterances that are part of an item of several.
        num_short: utterances that were left out.
        short_s: their total duration.
    """

    rows: Rows
    row: np.ndarray
    start: np.ndarray
    length: np.ndarray
    first: np.ndarray
    num_cut: int = 0
    num_joined: int = 0
    num_short: int = 0
    short_s: float = 0.0

    def __len__(self) -> int:
        """Return N."""
        return len(self.first) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(N,) samples of each item."""
        if not len(self):
            return np.zeros(0, np.int64)
        return np.asarray(np.add.reduceat(self.length, self.first[:-1]))

    def taken(self, indices: Sequence[int]) -> Items:
        """Return some of the items, in the order given."""
        pieces = [np.arange(self.first[index], self.first[index + 1]) for index in indices]
        counts = [len(some) for some in pieces]
        picked = np.concatenate(pieces) if pieces else np.zeros(0, np.int64)
        return replace(
            self, row=self.row[picked], start=self.start[picked], length=self.length[picked],
            first=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        )  # fmt: skip


def items_of(data: UnlabelledData, path: Path, *, setting: str) -> Items:
    """Return the items of a folder or manifest, at least one.

    Raises:
        DataError: when it can't be read, or when no item is left.
    """
    if path.is_file():
        state = path.stat()
        changed = (state.st_mtime_ns, state.st_size)
        items = _of_manifest(data, path, setting=setting, changed=changed)
    else:
        items = make_items(read_rows(path, setting=setting), data)
    if problem := nothing_left(items, data, path=path):
        raise DataError([Problem(setting, problem)])
    return items


@lru_cache(maxsize=2)
def _of_manifest(
    data: UnlabelledData, path: Path, *, setting: str, changed: tuple[int, int]
) -> Items:
    """Read a manifest, once for each time of change and size."""
    return make_items(read_rows(path, setting=setting), data)


def make_items(rows: Rows, data: UnlabelledData) -> Items:
    """Return the items of some utterances; there may be none."""
    starts, lengths = _places(rows, data.rate_hz)
    short = lengths < round(data.min_s * data.rate_hz)
    joinable = lengths < round(data.join_s * data.rate_hz)
    alone = np.flatnonzero(~short & ~joinable)
    row, start, length = _cut(alone, starts[alone], lengths=lengths[alone], data=data)
    counts = np.ones(len(row), np.int64)
    left_out = short & ~joinable
    num_joined = 0
    if joinable.any():
        groups, rest = _joined(rows, lengths, rows_to_join=np.flatnonzero(joinable), data=data)
        left_out[rest] = True
        of_groups = np.array([one for group in groups for one in group], np.int64)
        row, counts = (
            np.concatenate([row, of_groups]),
            np.concatenate([counts, np.array([len(group) for group in groups], np.int64)]),
        )
        start = np.concatenate([start, starts[of_groups]])
        length = np.concatenate([length, lengths[of_groups]])
        num_joined = sum(len(group) for group in groups if len(group) > 1)
    return Items(
        rows, row, start=start, length=length, first=np.append(0, np.cumsum(counts)),
        num_cut=int((lengths[alone] > round(data.max_s * data.rate_hz)).sum()),
        num_joined=num_joined, num_short=int(left_out.sum()),
        short_s=float(lengths[left_out].sum()) / data.rate_hz,
    )  # fmt: skip


def left_out_clause(items: Items, data: UnlabelledData) -> str:
    """Return what was left out as a clause; empty if nothing was."""
    if not items.num_short:
        return ""
    return (
        f"{items.num_short:,} of {counted(len(items.rows), 'utterance')} ({items.short_s:.1f} s) skipped: "
        f"shorter than data.min_s = {data.min_s:g} s"
    )


def nothing_left(items: Items, data: UnlabelledData, *, path: Path) -> str:
    """Describe a split without items and how to get some; empty if there are some."""
    if len(items):
        return ""
    _, lengths = _places(items.rows, data.rate_hz)
    low_s, high_s = float(lengths.min()) / data.rate_hz, float(lengths.max()) / data.rate_hz
    join = f"raise data.join_s = {data.join_s:g}" if data.join_s else "set data.join_s"
    return (
        f"{path}: no utterance of data.min_s = {data.min_s:g} s or more: all {len(items.rows):,} are "
        f"shorter ({low_s:.2f} to {high_s:.2f} s); lower data.min_s, or {join} to join short files of "
        f"a folder to items of {max(data.min_s, 3):g} s"
    )


def _places(rows: Rows, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where rows begin and how long they are, (R,) samples at the model's rate."""
    known = rows.frames > 0
    ends = -(-rows.frames * rate_hz // np.where(known, rows.rate_hz, 1))
    start = np.rint(rows.start_s * rate_hz).astype(np.int64)
    whole = np.isnan(rows.duration_s)
    end_s = rows.start_s + np.where(whole, 0.0, rows.duration_s)
    end = np.where(whole, ends, np.rint(end_s * rate_hz).astype(np.int64))
    end = np.where(known, np.minimum(end, ends), end)
    start = np.where(known, np.minimum(start, ends - 1), start)
    return start, np.maximum(end - start, 1)


def _cut(
    rows: np.ndarray, starts: np.ndarray, *, lengths: np.ndarray, data: UnlabelledData
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, start and length of the pieces of some utterances."""
    hop, most = data.hop, round(data.max_s * data.rate_hz)
    # Pieces begin on the grid, which makes some of them up to two hops longer than others.
    counts = np.where(lengths > most, -(-lengths // max(hop, most - 2 * hop)), 1)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    of, total = np.repeat(counts, counts), np.repeat(lengths, counts)

    def border(place: np.ndarray) -> np.ndarray:
        inner = place * total // (of * hop) * hop
        return np.asarray(np.where(place == of, total, inner))

    low, high = border(number), border(number + 1)
    return np.repeat(rows, counts), np.repeat(starts, counts) + low, high - low


def _joined(
    rows: Rows, lengths: np.ndarray, *, rows_to_join: np.ndarray, data: UnlabelledData
) -> tuple[list[list[int]], list[int]]:
    """Return the rows of each joined item, and those that are left: less than `min_s` of a folder."""
    folders: dict[str, list[int]] = defaultdict(list)
    for row in rows_to_join.tolist():
        folders[dirname(rows.paths[row])].append(row)  # noqa: PTH120 - as quick as it can be
    groups: list[list[int]] = []
    left: list[int] = []
    enough, least, most = (
        round(seconds * data.rate_hz) for seconds in (data.join_s, data.min_s, data.max_s)
    )
    for folder in sorted(folders):
        own, rest = _runs(_spread(rows, folders[folder]), lengths, enough=enough)
        rest_samples = int(lengths[rest].sum())
        if rest and own and int(lengths[own[-1]].sum()) + rest_samples <= most:
            own[-1].extend(rest)
        elif rest and rest_samples >= least:
            own.append(rest)
        else:
            left.extend(rest)
        groups.extend(own)
    return groups, left


def _spread(rows: Rows, chosen: Sequence[int]) -> list[int]:
    """Return rows in the order of a hash of their file names and starts."""

    def place(row: int) -> bytes:
        name = f"{rows.paths[row].rpartition('/')[2]} {rows.start_s[row]:.6f}"
        return blake2b(name.encode(), digest_size=8).digest()

    return sorted(chosen, key=place)


def _runs(
    rows: Sequence[int], lengths: np.ndarray, *, enough: int
) -> tuple[list[list[int]], list[int]]:
    """Return runs of rows that are long enough together, and what is left at the end."""
    runs: list[list[int]] = []
    run: list[int] = []
    total = 0
    for row in rows:
        run.append(row)
        total += int(lengths[row])
        if total >= enough:
            runs.append(run)
            run, total = [], 0
    return runs, run
