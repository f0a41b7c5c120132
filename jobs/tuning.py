"""A search for the fastest way to run a config, on a device of this machine; results are kept.

Owns which device, where results lie, and the environment of the children; what is tried is
`engine.tuning`'s. Free of torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Event

from engine.config.schema import RunConfig
from engine.tuning.bench import Tell
from engine.tuning.cache import cache_key, keep_result, read_result
from engine.tuning.children import ChildMeasurer
from engine.tuning.machine import cpu_name
from engine.tuning.search import search
from engine.tuning.setups import Options, Tuning
from jobs.devices import child_environment, open_gpu, resolve_device
from jobs.home import Home


@dataclass(frozen=True, slots=True)
class Found:
    """A result, and whether it was kept from an earlier search."""

    result: Tuning
    kept: bool


def tune(
    home: Home,
    config: RunConfig,
    options: Options,
    *,
    tell: Tell,
    fresh: bool = False,
    cancel: Event | None = None,
) -> Found:
    """Search for a config, or return what an equal search found before.

    Args:
        home: where results are kept.
        config: the run.
        options: what is asked for; its device may be auto.
        tell: hears each row as soon as it is known.
        fresh: search anew, whatever is kept.
        cancel: once set, the search ends with `Cancelled`, leaving no child.

    Raises:
        ValueError: for what can't be searched: no such device, no room for one item, unreadable data.
        Cancelled: when it was called off.
        OSError: when the result can't be kept.
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
    result = search(config, options, measurer=measurer, tell=tell)
    home.create()
    keep_result(folder, key, result)
    return Found(result, kept=False)
