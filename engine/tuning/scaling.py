"""How much faster several devices are than one: updates of all of them together, raced on the devices.

Free of torch: `engine.programs.tuning_ranks`, one process a device, measures. Letters: N devices, B items of
a micro-batch, k micro-batches of an update on each device.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Event
from typing import Any

from engine.child_processes import how_it_ended, killed, lines_of
from engine.config.errors import counted
from engine.tuning.race import compare_times, replay
from engine.tuning.setups import Scaled

PROGRAM = "engine.programs.tuning_ranks"
# Every update waits for the slowest device; a smaller difference is not worth a word.
_UNEQUAL = 1.1
_ALPHA = 0.025


@dataclass(frozen=True, slots=True)
class ScalingJob:
    """What the processes measure.

    Attributes:
        values: the config, as in a preset; `precision.devices` is N.
        count: B.
        shape: padded size of each item; empty where all have the same size.
        micro_batches: k.
        limit_s: time limit of the race.
        threads: CPU threads of the process that is timed alone; 0: as in the others.
    """

    values: Mapping[str, Any]
    count: int
    shape: tuple[float, ...]
    micro_batches: int
    limit_s: float
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Scaling:
    """What was measured: one device first, then several with and without accumulation; and remarks."""

    rows: tuple[Scaled, ...]
    notes: tuple[str, ...] = ()


def ways(job: ScalingJob) -> list[tuple[int, int]]:
    """Return (devices, micro-batches of each) to time: one device makes the same update as all of them."""
    world = int(job.values["precision"]["devices"])
    found = [(1, world * job.micro_batches), (world, job.micro_batches)]
    return found if job.micro_batches == 1 else [*found, (world, 1)]


def measure_scaling(
    job: ScalingJob,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    cancel: Event | None = None,
    timeout_s: float,
) -> Scaling:
    """Measure in one process a device.

    Args:
        job: what to measure.
        command: starts the processes; the file of the job is appended.
        environment: of the processes.
        cancel: once set, they are killed and `Cancelled` raised.
        timeout_s: after this time they are killed.

    Raises:
        Cancelled: when it was cancelled.
    """
    times: list[list[float]] = [[] for _ in ways(job)]
    own: list[list[float]] = []
    done, problem = False, ""
    with (
        tempfile.NamedTemporaryFile("w", suffix=".json") as file,
        tempfile.TemporaryFile() as errors,
    ):
        json.dump(asdict(job), file)
        file.flush()
        process = subprocess.Popen(
            [*command, file.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            for line in lines_of(process, time.monotonic() + timeout_s, cancel=cancel):
                said = _answer(line)
                for index, seconds in said.get("round", ()):
                    times[index].append(seconds)
                own += [said["own"]] if "own" in said else []
                done = done or "done" in said
                problem = said.get("problem", problem)
        finally:
            # The processes that it started end with their standard input.
            code = killed(process)
        ending = problem or ("timed out" if code == -signal.SIGKILL else how_it_ended(code, errors))
    notes = () if done else (f"several devices could not be timed to the end: {ending}",)
    return scaling_of(job, times, own=own, notes=notes)


def _answer(line: bytes) -> dict[str, Any]:
    """Return an answer of the processes; nothing for a line that their launcher wrote."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def scaling_of(
    job: ScalingJob,
    times: Sequence[Sequence[float]],
    *,
    own: Sequence[Sequence[float]] = (),
    notes: Sequence[str] = (),
) -> Scaling:
    """Return what times say.

    Args:
        job: what was measured.
        times: of each of `ways`, seconds for as many items as an update of one device holds, a round.
        own: in each round, seconds of each device by itself.
        notes: remarks so far.
    """
    race = replay(times, reference=0)
    goal = ways(job)[0][1] * job.count
    rows = []
    for index, (devices, micro_batches) in enumerate(ways(job)):
        ratio = race.ratio(index, 0)
        seconds = sorted(times[index])[len(times[index]) // 2] if times[index] else 0.0
        rows.append(
            Scaled(
                devices, micro_batches, devices * micro_batches * job.count,
                goal / seconds if seconds else 0.0, ratio if ratio.rounds else None,
            )
        )  # fmt: skip
    return Scaling(tuple(rows), (*notes, *_gain(rows), *_unequal(own)))


def _gain(rows: Sequence[Scaled]) -> list[str]:
    ratio, devices = rows[1].ratio, rows[1].devices
    if ratio is None:
        return []
    if ratio.high < 1:
        return [f"{devices} devices are slower than one here ({ratio.middle:.2f}x): use one"]
    if ratio.low <= 1:
        if ratio.low * _UNEQUAL < 1 or ratio.high > _UNEQUAL:
            high = f"{ratio.high:.2f}x" if math.isfinite(ratio.high) else "no limit"
            return [
                f"can't tell whether {devices} devices are faster than one: {ratio.middle:.2f}x, interval "
                f"{ratio.low:.2f}x to {high} after {counted(ratio.rounds, 'round')}; raise --budget-s"
            ]
        return [f"no difference between {devices} devices and one ({ratio.middle:.2f}x)"]
    return [
        f"{devices} devices run at {ratio.middle:.2f}x the speed of one, {ratio.middle / devices:.0%} of "
        f"{devices}x"
    ]


def _unequal(own: Sequence[Sequence[float]]) -> list[str]:
    """Warn of devices that differ in speed."""
    if not own:
        return []
    columns = list(zip(*own, strict=True))
    totals = [sum(column) for column in columns]
    slowest, fastest = totals.index(max(totals)), totals.index(min(totals))
    ratio = compare_times(columns[fastest], columns[slowest], alpha=_ALPHA)
    if ratio.low <= 1 or ratio.middle < _UNEQUAL:
        return []
    return [
        f"unequal devices: device {slowest} takes {ratio.middle:.2f}x as long as device {fastest} for the same "
        "work, and every update waits for the slowest one; use equal devices, or only the fast ones"
    ]
