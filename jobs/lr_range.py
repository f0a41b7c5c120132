"""A learning-rate range test of a config on a device of this machine, in a child process.

Owns the device, the references to runs, and the child; `engine.tuning.lr_curve` says what the points
mean. Nothing of it is queued or stored. Free of torch.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.child_processes import answers_of
from engine.config.schema import RunConfig
from engine.tuning.lr_curve import LrFinding, LrPoint, find, range_of
from jobs.home import Home
from jobs.machine.devices import child_environment, resolve_device
from jobs.needs import folders_needed
from jobs.tuning import device_reserved

_COMMAND = (sys.executable, "-P", "-m", "engine.programs.lr_range")


@dataclass(frozen=True, slots=True)
class LrTest:
    """What to test: from which learning rate to which, in how many updates."""

    low: float = 1e-6
    high: float = 1.0
    updates: int = 200


@dataclass(frozen=True, slots=True)
class LrResult:
    """The points of a test, and what they say; `device` is where it ran."""

    device: str
    points: tuple[LrPoint, ...]
    finding: LrFinding


@dataclass(frozen=True, slots=True)
class Progress:
    """What happens in the child: a measured point, or text about the preparation."""

    point: LrPoint | None = None
    text: str = ""
    is_warning: bool = False


def find_lr(
    home: Home,
    config: RunConfig,
    *,
    test: LrTest,
    device: str,
    emit: Callable[[Progress], None],
) -> LrResult:
    """Run a test on a device that no run is using.

    Args:
        home: where the runs are that the config refers to.
        config: the run; its own learning rate and schedule do not matter.
        test: what to test.
        device: auto, cpu, cuda or cuda:N; auto: what the config says.
        emit: called with each point as soon as it is measured.

    Raises:
        ConfigError: when a run that the config refers to has no checkpoint to start from.
        ValueError: when the device does not exist, the data can't be read, or the child failed.
        LeaseError: when a run or another measurement is using the device.
    """
    name = resolve_device(device if device != "auto" else config.precision.device)
    needs = folders_needed(home, config)
    home.create()
    points: list[LrPoint] = []
    with (
        device_reserved(home, name, purpose="sepdash lr-find"),
        tempfile.TemporaryDirectory(prefix="sepdash-lr-") as folder,
    ):
        job = {
            "config": config.to_dict(), "needs": needs, "folder": folder,
            "lrs": range_of(test.low, test.high, updates=test.updates),
            "device": name.partition(":")[0],
        }  # fmt: skip
        for answer in answers_of(_COMMAND, job, environment=child_environment(name)):
            if "lr" in answer:
                points.append(_point(answer))
                emit(Progress(points[-1]))
            elif text := answer.get("warning") or answer.get("note"):
                emit(Progress(text=str(text), is_warning="warning" in answer))
    return LrResult(name, tuple(points), find(points))


def _point(answer: Mapping[str, Any]) -> LrPoint:
    loss, norm = (
        float("nan") if answer[key] is None else float(answer[key]) for key in ("loss", "grad_norm")
    )
    return LrPoint(float(answer["lr"]), loss, grad_norm=norm)
