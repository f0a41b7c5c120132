"""A search for the fastest settings of a config on a device of this machine; results are cached.

Owns the device, which nothing else may use meanwhile, the folder of results, and the environment of
the children; `engine.tuning` owns the search. Free of torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import psutil

from engine.config.fields import list_settings
from engine.config.kinds import has_segments
from engine.config.loading import load_config
from engine.config.overrides import applied, config_with
from engine.config.schema import RunConfig
from engine.data.kinds import train_sizes
from engine.tuning.bench import Emit
from engine.tuning.cache import Place, cache_key, keep_result, read_result, still_fits
from engine.tuning.children import ChildMeasurer
from engine.tuning.machine import cpu_name, memory_of_machine
from engine.tuning.search import search
from engine.tuning.setups import Options, Tuning
from jobs.home import Home
from jobs.machine.devices import child_environment, open_gpu, resolve_device
from jobs.machine.lease import DeviceUse


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
        OSError: when the result can't be saved.
    """
    device = resolve_device(options.device if options.device != "auto" else config.precision.device)
    options = replace(options, device=device.partition(":")[0])
    folder = home.root / "tuning"
    place = place_of(device, config)
    sizes = train_sizes(config.data) if config.data.items_differ else None
    key = cache_key(config, options, place=place, sizes=sizes)
    kept = None if fresh else read_result(folder, key)
    if kept is not None and still_fits(kept, place, options=options):
        return Found(kept, kept=True)
    home.create()
    with device_reserved(home, device, purpose="sepdash tune"):
        measurer = ChildMeasurer(cancel=cancel, environment=child_environment(device))
        result = search(config, options, measurer=measurer, emit=emit, sizes=sizes)
    keep_result(folder, key, result=result)
    return Found(result, kept=False)


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


def place_of(device: str, config: RunConfig) -> Place:
    """Return what a device is like now."""
    gpu = open_gpu(device)
    threads = config.precision.threads or _num_threads()
    if gpu is None:
        free, total = memory_of_machine()
        return Place((cpu_name(),), total, free_bytes=free, threads=threads)
    sample = gpu.sample()
    total, used = sample.total_bytes or 0, sample.used_bytes or 0
    return Place((sample.name,), total, free_bytes=total - used, threads=threads)


def _num_threads() -> int:
    """Return the CPU threads of a process that sets none."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else os.cpu_count() or 1
