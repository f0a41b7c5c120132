"""Estimates on their way from the training loop to the processes that measure them, in files.

A job is a folder: `estimates/WEIGHTS/ITEM.npy`, then `job.json`, which makes it complete, and a
`result-N.json` from each process. References lie beside the jobs, once for all of them. So memory holds
a block of one file, and a job outlives the run's process. Letters: N items, S sources, C channels, T samples.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.counters import Counters
from engine.measuring.values import summary_of, values_of
from engine.metrics.registry import NON_FINITE, given_by, of_average, of_whole_files

RAW, AVERAGE = "raw", "average"
_JOB, _ESTIMATES, _REFERENCES = "job.json", "estimates", "references"


@dataclass(slots=True)
class JobInfo:
    """What `job.json` holds.

    Attributes:
        counters: of the run when the estimates were made.
        measures: what to measure.
        rate_hz: of the signals.
        num_items: N of the evaluation; not all of them need be measured.
        items_key: that of the evaluation.
        metrics: its means, for the checkpoints that hold the measured weights.
        orders: weights -> item -> the estimate of each reference, where sources are interchangeable.
        shares: the number of processes.
    """

    counters: dict[str, Any]
    measures: list[str]
    rate_hz: int
    num_items: int = 0
    items_key: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    orders: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    shares: int = 1

    @property
    def updates(self) -> int:
        """The update after which the estimates were made."""
        return Counters.of(self.counters).updates


@dataclass(frozen=True, slots=True)
class Found:
    """The results of a job, by stored name: values of the run, and of its items (N,)."""

    metrics: dict[str, float]
    items: dict[str, np.ndarray]
    num_measured: int
    num_absent: int


class JobWriter:
    """Takes the estimates of one evaluation; an observer of the recipe.

    Args:
        folder: of the job; its parent has the references.
        info: what is known before.
        most_s: how many seconds of audio to keep, at least one item; 0: all.
    """

    def __init__(self, folder: Path, info: JobInfo, *, most_s: float) -> None:
        self.folder = folder
        self._most_s = most_s
        self._weights = RAW
        self._left_s = 0.0
        self.info = info

    def start(self, *, average: bool) -> None:
        """Take the estimates of the averaged weights from now on, or of the weights themselves."""
        self._weights = AVERAGE if average else RAW
        self._left_s = self._most_s
        self.info.orders[self._weights] = {}
        (self.folder / _ESTIMATES / self._weights).mkdir(parents=True, exist_ok=True)
        (self.folder.parent / _REFERENCES).mkdir(exist_ok=True)

    def open(self, item: int, shape: tuple[int, int, int]) -> _ItemWriter | None:
        """Return where to put the estimates (S, C, T) of an item; None: it is not to be measured."""
        seconds = shape[-1] / self.info.rate_hz
        is_first = not self.info.orders[self._weights]
        if self._most_s and not is_first and seconds > self._left_s:
            # The items that are measured are the first ones, whatever the length of later ones.
            self._left_s = 0.0
            return None
        self._left_s -= seconds
        self.info.orders[self._weights][str(item)] = []
        reference = self.folder.parent / _REFERENCES / f"{item}.npy"
        return _ItemWriter(
            self.folder / _ESTIMATES / self._weights / f"{item}.npy",
            None if reference.exists() else reference,
            shape=shape,
            order=self.info.orders[self._weights][str(item)],
        )

    def finish(self, *, num_items: int, items_key: str, metrics: Mapping[str, float]) -> None:
        """Complete the job."""
        self.info.num_items, self.info.items_key = num_items, items_key
        self.info.metrics = dict(metrics)
        _write_json(self.folder / _JOB, asdict(self.info))


class _ItemWriter:
    """The files of one item, fed block by block; the reference appears when it is complete."""

    def __init__(
        self, path: Path, reference: Path | None, *, shape: tuple[int, ...], order: list[int]
    ) -> None:
        self._estimate = _create(path, shape)
        self._reference = reference
        self._part = None if reference is None else _create(reference.with_suffix(".part"), shape)
        self._at = 0
        self._order = order

    def add(self, est_SCT: np.ndarray, ref_SCT: np.ndarray) -> None:
        """Add the next block."""
        part = slice(self._at, self._at + est_SCT.shape[-1])
        self._at = part.stop
        self._estimate[..., part] = est_SCT
        if self._part is not None:
            self._part[..., part] = ref_SCT

    def close(self, order: Sequence[int] = ()) -> None:
        """Complete the item; `order` is the estimate of each reference where they have none."""
        self._order.extend(order)
        self._estimate.flush()
        if self._part is not None and self._reference is not None:
            self._part.flush()
            self._reference.with_suffix(".part").rename(self._reference)


def _create(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Return a new `.npy` file to write to.

    Raises:
        OSError: when the disk has no room; otherwise a later write would end the process.
    """
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about)
        offset = file.tell()
        os.posix_fallocate(file.fileno(), offset, int(np.prod(shape)) * 4)
    return np.memmap(path, dtype="<f4", mode="r+", offset=offset, shape=shape)


def read_job(folder: Path) -> JobInfo | None:
    """Return what a folder asks for; None when it is not complete."""
    try:
        return JobInfo(**json.loads((folder / _JOB).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def clear(parent: Path) -> None:
    """Remove all jobs, and the references."""
    shutil.rmtree(parent, ignore_errors=True)


def remove_estimates(folder: Path) -> None:
    """Remove what is large and no longer needed of a job that has its results."""
    shutil.rmtree(folder / _ESTIMATES, ignore_errors=True)


def compute(folder: Path, share: int) -> None:
    """Measure every `shares`-th item of a job, and write the result; one file is in memory at a time."""
    info = read_job(folder)
    assert info is not None, f"{folder} has no job"
    found: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    bad: dict[str, list[int]] = {}
    for weights, orders in info.orders.items():
        found[weights], bad[weights] = {}, []
        for item in list(orders)[share :: info.shares]:
            est_SCT = np.load(folder / _ESTIMATES / weights / f"{item}.npy")
            ref_SCT = np.load(folder.parent / _REFERENCES / f"{item}.npy")
            if orders[item]:
                est_SCT = est_SCT[orders[item]]
            if not np.isfinite(est_SCT).all():
                bad[weights].append(int(item))
            values: dict[str, list[float | None]] = {}
            for measure in info.measures:
                for name, value_S in values_of(
                    measure, est_SCT, ref_SCT=ref_SCT, rate_hz=info.rate_hz
                ).items():
                    values[name] = [None if np.isnan(value) else float(value) for value in value_S]
            found[weights][item] = values
    _write_json(_result(folder, share), {"found": found, "bad": bad})


def missing_shares(folder: Path, info: JobInfo) -> list[int]:
    """Return the shares of a job that no process has measured yet."""
    return [share for share in range(info.shares) if not _result(folder, share).exists()]


def read_results(folder: Path, info: JobInfo) -> Found:
    """Return the results of a job without missing shares."""
    parts = [json.loads(_result(folder, share).read_text()) for share in range(info.shares)]
    metrics: dict[str, float] = {}
    items: dict[str, np.ndarray] = {}
    measured: dict[int, bool] = {}
    for weights in info.orders:
        of_weights: dict[str, float] = {}
        of_items: dict[str, np.ndarray] = {}
        values = {int(item): one for part in parts for item, one in part["found"][weights].items()}
        for metric in (metric for measure in info.measures for metric in given_by(measure)):
            sources = len(next(iter(values.values()))[metric.name])
            value_NS = np.full((info.num_items, sources), np.nan)
            for item, one in values.items():
                value_NS[item] = np.array(one[metric.name], dtype=np.float64)
            of_weights[metric.name], of_items[metric.name] = summary_of(metric.name, value_NS)
            for item in values:
                measured[item] = measured.get(item, False) or bool(
                    np.isfinite(value_NS[item]).any()
                )
        if bad := [item for part in parts for item in part["bad"][weights]]:
            of_items[NON_FINITE] = np.isin(np.arange(info.num_items), bad).astype(np.float64)
        of_weights, of_items = of_whole_files(of_weights), of_whole_files(of_items)
        metrics |= of_weights if weights == RAW else of_average(of_weights)
        items |= of_items if weights == RAW else of_average(of_items)
    absent = sum(not known for known in measured.values())
    return Found(metrics, items, num_measured=len(measured), num_absent=absent)


def _result(folder: Path, share: int) -> Path:
    return folder / f"result-{share}.json"


def _write_json(path: Path, values: object) -> None:
    """Write a file completely or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values))
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
