"""A search for the fastest settings of a config on a device of this machine; results are cached.

Owns the device, which nothing else may use meanwhile, the folder of results, and the environment of
the children; `engine.tuning` owns the search. Free of torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from engine.checkpoints.layout import best_name, choose_checkpoint
from engine.config.fields import list_settings
from engine.config.kinds import has_segments
from engine.config.loading import load_config
from engine.config.overrides import applied, config_with
from engine.config.references import BEST, LAST
from engine.config.schema import RunConfig
from engine.data.kinds import train_sizes
from engine.tuning.bench import Emit
from engine.tuning.cache import Place, cache_key, keep_result, read_result, still_fits
from engine.tuning.children import ChildMeasurer
from engine.tuning.law import memory_cap
from engine.tuning.machine import cpu_name, memory_of_machine
from engine.tuning.scaling import PROGRAM, ScalingJob, measure_scaling
from engine.tuning.search import search
from engine.tuning.setups import Options, Tuning, write_value
from jobs.home import Home
from jobs.machine.devices import (
    TORCHRUN,
    child_environment,
    devices_taken,
    num_gpus,
    open_gpu,
    ranks_environment,
    resolve_device,
)
from jobs.machine.lease import DeviceUse
from jobs.needs import folders_needed

# Time for several devices beside the search, as a share of its budget; and for the start of their processes.
_SCALING, _START_S = 0.2, 120.0


@dataclass(frozen=True, slots=True)
class Found:
    """A result, and whether it is from an earlier search."""

    result: Tuning
    kept: bool


def tunable_config(values: Mapping[str, Any], assignments: Iterable[str] = ()) -> RunConfig:
    """Return the config of a preset; audio folders that it does not set yet may be missing.

    Where all items have the same length, batches of noise replace the data. Elsewhere item lengths
    matter, so the data must exist.

    Raises:
        ConfigError: with every problem at once.
    """
    filled, problems = applied(values, assignments)
    section = filled.get("data")
    kind = section.get("kind") if isinstance(section, dict) else None
    if isinstance(section, dict) and has_segments(filled) and section.get("short_files") != "whole":
        for item in list_settings({"data": str(kind)} if kind else None):
            name = item.key.partition(".")[2]
            if item.key.startswith("data.") and item.required and item.type_name == "path":
                section.setdefault(name, "not-read")
    if problems:
        return config_with(values, assignments)
    return load_config(filled)


def tune(
    home: Home,
    config: RunConfig,
    *,
    options: Options,
    emit: Emit,
    fresh: bool = False,
    cancel: Event | None = None,
) -> Found:
    """Search for a config, or return the result of an equal earlier search.

    Args:
        home: where results are cached.
        config: the run.
        options: the user's options; the device may be auto.
        emit: called with each row as soon as it is measured.
        fresh: search again even if there is a cached result.
        cancel: once set, the search ends with `Cancelled` and kills its child.

    Raises:
        ValueError: when the device does not exist, a single item does not fit, or data can't be read.
        Cancelled: when the search was cancelled.
        LeaseError: when a run or another search is using the device.
        DeviceError: when there are fewer devices than `precision.devices`, or others are in use.
        OSError: when the result can't be saved.
    """
    config = _with_codec(home, config)
    device = resolve_device(options.device if options.device != "auto" else config.precision.device)
    count = config.precision.devices
    folder = home.root / "tuning"
    names = _devices(device, count)
    place = place_of(names, config)
    if count > 1 and device == "cpu" and options.memory_bytes is None:
        # The processes share the memory of the machine.
        available = memory_cap(place.total_bytes, place.free_bytes, own=0)
        options = replace(options, memory_bytes=available // count)
    options = replace(options, device=device.partition(":")[0])
    sizes = train_sizes(config.data) if config.data.items_differ else None
    key = cache_key(config, options, place=place, sizes=sizes)
    kept = None if fresh else read_result(folder, key)
    if kept is not None and still_fits(kept, place, options=options):
        return Found(kept, kept=True)
    home.create()
    with (
        device_reserved(home, device, purpose="sepdash tune"),
        devices_taken(device, count, locks=home.locks) as taken,
    ):
        environment = child_environment(device)
        if count > 1 and device == "cpu":
            environment = ranks_environment([device], count)
        measurer = ChildMeasurer(cancel=cancel, environment=environment)
        result = search(config, options, measurer=measurer, emit=emit, sizes=sizes)
        if count > 1:
            result = _with_scaling(
                result, config, devices=taken, budget_s=options.budget_s, cancel=cancel
            )
    result = replace(result, notes=(*result.notes, *_unequal(names)))
    keep_result(folder, key, result=result)
    return Found(result, kept=False)


def _with_codec(home: Home, config: RunConfig) -> RunConfig:
    """Return the config of a voice with its codec as a folder: the network depends on it, and trials know no runs.

    Raises:
        ConfigError: when it names no run.
    """
    if not config.loss.uses_codec:
        return config
    lines = []
    for key, need in folders_needed(home, config).items():
        if key in ("codec", "init_from"):
            folder, which = Path(need["folder"]), need["which"]
            kind = which if which == LAST else best_name(which)
            named = None if which in ("", BEST) else choose_checkpoint(folder, kind=kind)
            lines.append(f"{key}={named or folder}")
    return config_with(config.to_dict(), lines)


def _with_scaling(
    result: Tuning,
    config: RunConfig,
    *,
    devices: Sequence[str],
    budget_s: float,
    cancel: Event | None,
) -> Tuning:
    """Return the result with what several devices gain over one."""
    count = config.precision.devices
    lines = [f"{key}={write_value(value)}" for key, value in result.settings.items()]
    values = config_with(config.to_dict(), lines).to_dict()
    on_cpu = devices[0] == "cpu"
    values["precision"]["device"] = "cpu" if on_cpu else "cuda"
    job = ScalingJob(
        values, result.count, result.shape, result.micro_batches,
        limit_s=_SCALING * budget_s, threads=_num_threads() if on_cpu else 0,
    )  # fmt: skip
    command = (
        *TORCHRUN, f"--nproc-per-node={count}", "--no-python", "--",
        sys.executable, "-P", "-m", PROGRAM,
    )  # fmt: skip
    scaling = measure_scaling(
        job, command, environment=ranks_environment(devices, count), cancel=cancel,
        timeout_s=job.limit_s + _START_S,
    )  # fmt: skip
    return replace(result, scaling=scaling.rows, notes=(*result.notes, *scaling.notes))


def _devices(device: str, count: int) -> list[str]:
    """Return the devices that a run of so many processes would have, if all are free."""
    if count == 1 or device == "cpu":
        return [device]
    others = [f"cuda:{index}" for index in range(num_gpus()) if f"cuda:{index}" != device]
    return [device, *others[: count - 1]]


def _unequal(names: Sequence[str]) -> list[str]:
    """Warn of GPUs that differ in name or memory."""
    gpus = {name: gpu.sample() for name in names if (gpu := open_gpu(name)) is not None}
    about = {(one.name, round((one.total_bytes or 0) / 2**30)) for one in gpus.values()}
    if len(about) < 2:
        return []
    listed = ", ".join(
        f"{name} is a {one.name} with {(one.total_bytes or 0) / 2**30:.0f} GiB"
        for name, one in gpus.items()
    )
    return [
        f"unequal devices: {listed}; batches that fit the first may not fit the others, and every update waits "
        "for the slowest one"
    ]


@contextmanager
def device_reserved(home: Home, device: str, *, purpose: str) -> Iterator[None]:
    """Use a device for measurements: no worker starts a run on it until this context ends.

    Args:
        home: its workers are kept away; those of other homes are not known.
        device: its name, like cpu or cuda:0.
        purpose: the command that measures, like "sepdash tune".

    Raises:
        LeaseError: when a run or another measurement is using the device, with how to end it.
    """
    ends = f"{purpose}, which ends by itself (or with Ctrl-C, or Esc in the dashboard)"
    with DeviceUse(home.locks, device, purpose=ends):
        yield


def place_of(devices: Sequence[str], config: RunConfig) -> Place:
    """Return what devices are like now; memory is that of the first."""
    threads = config.precision.threads or _num_threads()
    samples = [gpu.sample() for device in devices if (gpu := open_gpu(device)) is not None]
    if not samples:
        free, total = memory_of_machine()
        return Place((cpu_name(),), total, free_bytes=free, threads=threads)
    total, used = samples[0].total_bytes or 0, samples[0].used_bytes or 0
    names = tuple(sample.name for sample in samples)
    return Place(names, total, free_bytes=total - used, threads=threads)


def _num_threads() -> int:
    """Return the CPU threads of a process that sets none."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else os.cpu_count() or 1
