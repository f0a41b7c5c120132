"""Rows of the run store as values. No slow imports: the dashboard loads this at start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from engine.metrics.registry import metric_of

RunState = Literal["queued", "running", "finished", "stopped", "failed"]
RUN_STATES: tuple[RunState, ...] = get_args(RunState)
EventLevel = Literal["info", "warning", "error"]
EVENT_LEVELS: tuple[EventLevel, ...] = get_args(EventLevel)

# A bucket of rollup level L covers ROLLUP_FACTOR ** L updates.
ROLLUP_LEVELS = (1, 2, 3, 4)
ROLLUP_FACTOR = 16
# As `max_points` of a curve: every point that is stored.
ALL_POINTS = 10**12


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One row of `runs`. Times are Unix seconds, None for events still to come.

    Attributes:
        epochs: passes over the training items; 0 of runs of a version that did not count them.
        metric: the headline metric, such as si_sdr (dB) or wer (a fraction).
        best, best_ema: its best value so far, of the weights and of their average.
        input_score: its value for the unprocessed input, where defined.
        waiting: what a queued run waits for, in words; empty where it can start. No column.
    """

    id: int
    name: str
    preset: str
    state: RunState
    stopping: bool
    position: float
    fingerprint: str
    seed: int
    experiment: str
    variant: str
    parent: int | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    heartbeat_at: float | None
    pid: int | None
    attempts: int
    updates: int
    total_updates: int
    items: int
    audio_seconds: float
    epochs: float
    train_seconds: float
    speed: float | None
    metric: str
    best: float | None
    best_ema: float | None
    input_score: float | None
    message: str
    waiting: str = ""

    @property
    def condition(self) -> str:
        """The state as a person sees it.

        A running run that was asked to stop is stopping, a queued one that can't start yet is waiting.
        """
        if self.state == "running" and self.stopping:
            return "stopping"
        return "waiting" if self.waiting else self.state

    @property
    def top(self) -> float | None:
        """The better of the two best values; None before the first evaluation."""
        return metric_of(self.metric).best((self.best, self.best_ema))

    @property
    def gain(self) -> float | None:
        """The better of the two minus the value of the unprocessed input, None if unknown."""
        top, level = self.top, self.input_score
        return None if top is None or level is None else top - level

    @property
    def progress(self) -> float:
        """Completed fraction of the run, 0 to 1."""
        return min(1.0, max(0.0, self.updates / self.total_updates)) if self.total_updates else 0.0

    @property
    def eta_s(self) -> float | None:
        """Remaining seconds at the current speed, None when unknown."""
        if self.state != "running" or not self.speed:
            return None
        return max(0.0, (self.total_updates - self.updates) / self.speed)


@dataclass(frozen=True, slots=True)
class NeedRecord:
    """One row of `run_needs`: a setting of a run that refers to another run, or to a folder.

    Attributes:
        key: dotted, of the setting; `reference` is what it says.
        needed, needed_name: the run as it was when this one was queued; None and "" for a folder.
        which: the checkpoint of it: best, last, or a metric; curve, where its validation curve is meant.
        only_at_start: a run that has a checkpoint of its own does without.
        checkpoint, content: folder (file of a curve) and content of what the run began with; empty until then.
    """

    run: int
    key: str
    reference: str
    needed: int | None
    needed_name: str
    which: str
    only_at_start: bool
    checkpoint: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """What keeps a queued run from starting: a run it needs that has not finished.

    Attributes:
        needed, name, state, progress: of that run; the state is None once it was removed.
    """

    run: int
    key: str
    needed: int
    name: str
    state: RunState | None
    progress: float

    @property
    def text(self) -> str:
        """Name and state of the run that is waited for, and what to do if it will not finish."""
        if self.state == "running":
            # 0.29 * 100 is a little below 29.
            return f"{self.name} (running, {int(self.progress * 100 + 1e-6)}%)"
        if self.state == "queued":
            return f"{self.name} (queued)"
        if self.state is None:
            return f"{self.name}, which was removed: remove this run and enqueue it with another {self.key}"
        how = "failed" if self.state == "failed" else "was stopped"
        return f"{self.name}, which {how}: resume it, or remove this run"


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One row of `events`: a notice about a run or a worker."""

    id: int
    run: int | None
    time: float
    level: EventLevel
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """One row of `checkpoints`."""

    run: int
    kind: str
    path: str
    updates: int
    metrics: dict[str, float]
    size_bytes: int
    created_at: float


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One row of `evaluations`.

    Attributes:
        train_seconds: training time of the run up to here, evaluations included.
        items_key: identifies the items: equal keys mean equal items in the same order.
    """

    run: int
    updates: int
    train_seconds: float
    items_key: str


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One row of `clips`: an audio clip of an evaluation.

    Attributes:
        item: number of the validation item.
        kind: input, target, or estimate.
        path, spectrogram: files in the run's folder; the spectrogram may be empty.
        text: of an input, what is to be said; of an estimate, what a judge heard. None where that is not known.
    """

    run: int
    updates: int
    item: str
    kind: str
    path: str
    spectrogram: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class SystemRecord:
    """One system sample; GPU fields are None without a GPU."""

    time: float
    run: int | None
    cpu_percent: float
    ram_bytes: int
    ram_total_bytes: int
    process_ram_bytes: int | None
    gpu_percent: float | None
    vram_bytes: int | None
    vram_total_bytes: int | None
    gpu_name: str | None


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One row of `workers`; the reader sets `alive` when its process exists."""

    id: int
    device: str
    pid: int
    started_at: float
    run: int | None
    alive: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one series, ready to draw.

    Attributes:
        updates: x, the update of each point (first update of a bucket).
        low, high, mean, last: y per point; all equal where `bucket` is 1.
        bucket: updates per point.
    """

    name: str
    unit: str
    bucket: int
    updates: list[int]
    low: list[float | None]
    high: list[float | None]
    mean: list[float | None]
    last: list[float | None]
