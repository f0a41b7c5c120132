"""Metrics that take long, beside training: jobs for other processes, and their results.

An evaluation leaves the estimates in files (`engine.measuring.jobs`); `engine.programs.measure` measures
them while training goes on, one job at a time, and the result comes as an evaluation of the update whose
weights made them. A job lives in the folder of the run until a checkpoint holds what came of it, so a run
that is stopped or killed measures it again and reports it once. Where a best checkpoint is kept by such a
metric, the job holds the weights that were measured.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from engine.checkpoints.files import Manifest, read_manifest, tidy, write_checkpoint
from engine.checkpoints.layout import best_name
from engine.checkpoints.writer import Save
from engine.config.counters import Counters
from engine.config.errors import ConfigError, Problem
from engine.config.schema import RunConfig
from engine.evaluation.result import Evaluation
from engine.measuring.jobs import (
    Found,
    JobInfo,
    JobWriter,
    clear,
    missing_shares,
    read_job,
    read_results,
    remove_estimates,
)
from engine.measuring.required import require_packages
from engine.metrics.registry import metric_of, variant_of
from engine.recipes.base import GivesEstimates, Recipe
from engine.training.state import StateSaver

_FOLDER = "measuring"
_ERRORS = "errors.log"
_COMMAND = (sys.executable, "-P", "-m", "engine.programs.measure")
_LOOK_S = 0.1
_MOST_FAILURES = 2

Notice = Callable[[str, str], None]


@dataclass(slots=True)
class _Job:
    folder: Path
    info: JobInfo
    started: float = 0.0
    # How often a process has failed since the run was started.
    failures: int = 0
    # The update before which its result was reported; a later `last` checkpoint knows of it.
    applied: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of a job.

    Attributes:
        counters: of the run when its estimates were made.
        found: the values.
        info: the job.
        duration_s: how long the processes took.
        folder: where the measured weights are.
    """

    counters: Counters
    found: Found
    info: JobInfo
    duration_s: float
    folder: Path

    def save(self, name: str) -> Save:
        """Return the `best-<metric>` checkpoint of the weights that were measured."""
        manifest = read_manifest(self.folder / _weights(name))
        about = {
            key: value for key, value in manifest.values.items()
            if key not in ("format", "created_at", "versions", "files")
        }  # fmt: skip
        about |= {"kind": best_name(name), "metrics": {**self.info.metrics, **self.found.metrics}}
        files = manifest.values["files"]
        return Save(
            best_name(name),
            about,
            tensors={
                file: manifest.tensors(file) for file in files if file.endswith(".safetensors")
            },
            documents={
                file: json.loads((manifest.folder / file).read_text())
                for file in files
                if file.endswith(".json")
            },
        )


class SlowMetrics:
    """The jobs of one run.

    Args:
        config: the run.
        recipe: the task.
        folder: the run's folder.
        saver: takes the weights; its snapshots are of this object alone.
        notice: reports (kind, text).

    Raises:
        ConfigError: when a package is not installed, or the recipe gives no estimates.
    """

    def __init__(
        self, config: RunConfig, recipe: Recipe, *, folder: Path, saver: StateSaver, notice: Notice
    ) -> None:
        self._config = config
        self._settings = config.validation
        self._folder = folder / _FOLDER
        self._saver = saver
        self._notice = notice
        self._jobs: list[_Job] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._shares: list[int] = []
        self._errors: IO[bytes] | None = None
        # One name for the weights and one for their average, if a best checkpoint needs them.
        self._targets: dict[bool, str] = {}
        for name in config.checkpoint.best:
            if metric_of(name).measure in self._settings.metrics:
                self._targets.setdefault(variant_of(name).ema, name)
        if self._settings.metrics:
            _require(config, recipe)

    def resume(self, first: int) -> None:
        """Take up the jobs of the updates before `first`; later ones are made again."""
        for folder in sorted(self._folder.glob("update-*")):
            info = read_job(folder)
            if (
                info is None
                or info.updates > first
                or list(info.measures) != list(self._settings.metrics)
            ):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                tidy(folder)
                self._jobs.append(_Job(folder, info))
        if not self._jobs:
            clear(self._folder)
        self._start_next()

    def begin(self, counters: Counters, *, is_last: bool) -> JobWriter | None:
        """Return what takes the estimates of an evaluation; None while earlier ones are measured.

        The last evaluation of a run is never left out.
        """
        if not self._settings.metrics:
            return None
        if self._pending and not is_last:
            self._notice(
                "metrics-skipped",
                f"{self._names} not measured at update {counters.updates}: those of update "
                f"{self._pending[0].info.updates} are still being measured; raise validation.metrics_every or "
                "metrics_workers, or lower metrics_max_s",
            )
            return None
        folder = self._folder / f"update-{counters.updates:09d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        info = JobInfo(
            asdict(counters), list(self._settings.metrics), self._config.data.rate_hz,
            shares=self._settings.metrics_workers,
        )  # fmt: skip
        return JobWriter(folder, info, most_s=self._settings.metrics_max_s)

    def submit(self, taken: JobWriter, evaluation: Evaluation) -> None:
        """Complete a job and start on it, with the weights that made its estimates where they are needed.

        Raises:
            CheckpointError: when these can't be written.
        """
        folder, info = taken.folder, taken.info
        if self._targets:
            saves = self._saver.snapshot(
                update=info.updates, counters=info.counters, best=list(self._targets.values()), last=False,
                metrics=evaluation.metrics,
            )  # fmt: skip
            for name, save in zip(self._targets.values(), saves, strict=True):
                write_checkpoint(
                    folder / _weights(name),
                    save.about,
                    tensors=save.tensors,
                    documents=save.documents,
                )
        taken.finish(
            num_items=evaluation.num_items,
            items_key=evaluation.items_key,
            metrics=evaluation.metrics,
        )
        self._jobs.append(_Job(folder, info))
        self._start_next()

    def drop(self, taken: JobWriter) -> None:
        """Remove the estimates of an evaluation that did not come to its end."""
        shutil.rmtree(taken.folder, ignore_errors=True)

    def give_up(self, taken: JobWriter, error: OSError) -> None:
        """Report that estimates can't be kept; training goes on without these values."""
        shutil.rmtree(taken.folder, ignore_errors=True)
        self._notice(
            "metrics-failed",
            f"{self._names} not measured at update {taken.info.updates}: the estimates can't be written "
            f"({error}); free some disk space, or lower validation.metrics_max_s",
        )

    def poll(self, updates: int) -> Measured | None:
        """Return the result of a job that has ended since the last call, at an update; waits for nothing.

        A share that a process did not finish is measured once more, without others beside it: what ends
        such a process is most often the lack of memory.
        """
        if not self._pending or any(process.poll() is None for process in self._processes):
            return None
        job = self._pending[0]
        shares = self._close_processes()
        missing = missing_shares(job.folder, job.info)
        failed = any(share in missing for share in shares)
        job.failures += failed
        if missing and job.failures < _MOST_FAILURES:
            if failed:
                self._report_retry(job)
            self._start_next()
            return None
        found = None if missing else read_results(job.folder, job.info)
        job.applied = updates
        remove_estimates(job.folder)
        duration_s = time.monotonic() - job.started
        if found is None:
            self._report_failure(job)
        self._start_next()
        if found is None:
            return None
        counters = Counters.of(job.info.counters)
        return Measured(counters, found, job.info, duration_s=duration_s, folder=job.folder)

    def wait(self, stop_reason: Callable[[], str | None]) -> str | None:
        """Wait for the job at work, or until the run is to stop; return why, or None."""
        while running := [process for process in self._processes if process.poll() is None]:
            if (reason := stop_reason()) is not None:
                return reason
            with contextlib.suppress(subprocess.TimeoutExpired):
                running[0].wait(_LOOK_S)
        return None

    def has_job(self, updates: int) -> bool:
        """Whether the estimates of an update are measured, or have been since the last checkpoint."""
        return any(job.info.updates == updates for job in self._jobs)

    @property
    def is_busy(self) -> bool:
        """Whether a job has not been reported yet."""
        return bool(self._pending)

    def saved(self, manifest: Manifest) -> None:
        """Forget the jobs that a complete checkpoint to resume from knows of."""
        if manifest.values["kind"] != "last":
            return
        for job in list(self._jobs):
            # Not one of the same update: its state may have been copied before the result came.
            if job.applied is not None and job.applied < manifest.updates:
                shutil.rmtree(job.folder, ignore_errors=True)
                self._jobs.remove(job)

    def forget(self) -> None:
        """Remove all files: the run has finished."""
        clear(self._folder)

    def close(self) -> None:
        """End the processes; what they had not finished is measured when the run is resumed."""
        for process in self._processes:
            process.kill()
        self._close_processes()

    @property
    def _pending(self) -> list[_Job]:
        return [job for job in self._jobs if job.applied is None]

    @property
    def _names(self) -> str:
        return ", ".join(self._settings.metrics)

    def _start_next(self) -> None:
        if self._processes or not self._pending:
            return
        job = self._pending[0]
        job.started = job.started or time.monotonic()
        shares = missing_shares(job.folder, job.info)
        if not shares:
            return
        self._errors = (job.folder / _ERRORS).open("wb")
        for share in shares[:1] if job.failures else shares:
            # Its standard input stays open: the process ends when this one does.
            # In a group of its own, which signals to this one leave alone, but in the same session: Linux
            # shares the processor out by session first, so that a low priority means nothing in another.
            self._processes.append(
                subprocess.Popen(
                    [*_COMMAND, str(job.folder), str(share)], stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL, stderr=self._errors, process_group=0,
                )
            )  # fmt: skip
            self._shares.append(share)

    def _close_processes(self) -> list[int]:
        """Close the processes, which have ended, and return the shares that they measured."""
        for process in self._processes:
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        self._processes.clear()
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        shares, self._shares = self._shares, []
        return shares

    def _report_retry(self, job: _Job) -> None:
        self._notice(
            "metrics-retried",
            f"{self._names} of update {job.info.updates}: a process failed ({_why(job)}); it is measured again, "
            "without other processes beside it",
        )

    def _report_failure(self, job: _Job) -> None:
        self._notice(
            "metrics-failed",
            f"{self._names} of update {job.info.updates} can't be measured: a process failed twice "
            f"({_why(job)}); training goes on without these values",
        )


def _require(config: RunConfig, recipe: Recipe) -> None:
    require_packages(config.validation.metrics)
    if not isinstance(recipe, GivesEstimates):
        text = f"the recipe {config.recipe!r} gives no estimates to measure; remove this setting"
        raise ConfigError([Problem("validation.metrics", text)])


def _why(job: _Job) -> str:
    """Return the last line that a process wrote before it failed."""
    lines = (job.folder / _ERRORS).read_text(errors="replace").split("\n")
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it was killed")


def _weights(name: str) -> str:
    return "average" if variant_of(name).ema else "raw"
