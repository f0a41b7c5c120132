"""A search for the fastest settings of a config on a device of this machine; results are cached.

Owns the device, the folder of results, and the environment of the children; `engine.tuning` owns the
search. Free of torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

from engine.config.fields import list_settings
from engine.config.kinds import has_segments
from engine.config.loading import load_config
from engine.config.overrides import applied, config_with
from engine.config.schema import RunConfig
from engine.tuning.bench import Emit
from engine.tuning.cache import cache_key, keep_result, read_result
from engine.tuning.children import ChildMeasurer
from engine.tuning.machine import cpu_name
from engine.tuning.search import search
from engine.tuning.setups import Options, Tuning
from jobs.home import Home
from jobs.machine.devices import child_environment, open_gpu, resolve_device


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
        OSError: when the result can't be saved.
    """
    device = resolve_device(options.device if options.device != "auto" else config.precision.device)
    gpu = open_gpu(device)
    name = gpu.name if gpu is not None else cpu_name()
    options = replace(options, device=device.partition(":")[0])
    folder = home.root / "tuning"
    key = cache_key(config, options, device_name=name)
    kept = None if fresh else read_result(folder, key)
    if kept is not None:
        return Found(kept, kept=True)
    measurer = ChildMeasurer(cancel=cancel, environment=child_environment(device))
    result = search(config, options, measurer=measurer, emit=emit)
    home.create()
    keep_result(folder, key, result=result)
    return Found(result, kept=False)
