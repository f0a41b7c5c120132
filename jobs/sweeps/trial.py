"""Times configs that no earlier run resembles: short real runs, one after the other.

They train on the real data in a child process, as the worker would, in a home of their own inside the
home; their times stay there for later plans, their checkpoints do not. A first run of a few updates
tells how many more make a measurement.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from math import ceil

from engine.child_processes import killed
from engine.config.loading import load_config
from engine.config.references import references_of
from engine.config.schema import RunConfig
from engine.data.update_size import planned_size
from engine.training.schedules import total_updates
from engine.tuning.machine import cpu_name
from jobs.child.command import RUNNER
from jobs.home import Home
from jobs.machine.devices import child_environment, open_gpu, resolve_device
from jobs.machine.processes import own_token, process_token
from jobs.store.outcomes import end
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from jobs.submit import absolute, enqueue
from jobs.sweeps.expand import put
from jobs.sweeps.measured import Measured
from jobs.sweeps.night import NightError
from jobs.tuning import device_reserved

_FIRST_UPDATES = 4
# Long enough that the pauses of a machine average out, short enough to wait for.
_TIMED_S = 20.0
_MOST_UPDATES = 100_000


def read_measured(home: Home) -> Measured:
    """Return what earlier runs on the devices of the workers tell, those that were only timed included.

    Raises:
        StoreError: when a store can't be read.
    """
    with StoreReader(home.store) as reader:
        devices = _devices(reader)
        gpus = {gpu.name if (gpu := open_gpu(device)) is not None else "" for device in devices}
        with StoreReader(_timing_home(home, devices[0]).store) as timed:
            return Measured.of(reader, timed=timed, gpus=gpus)


def time_configs(
    home: Home, configs: Iterable[tuple[str, RunConfig]], *, echo: Callable[[str], None]
) -> Measured:
    """Time configs that lack it, and return what is known then.

    Args:
        home: the user's.
        configs: with a name for each; one of each that take equal times is timed.
        echo: receives one line before and after each.

    Raises:
        NightError: when a config can't be timed, or its training fails.
        LeaseError: when a run or another measurement is using the device.
        DataError: with every problem of the data.
    """
    measured = read_measured(home)
    with StoreReader(home.store) as reader:
        device = _devices(reader)[0]
    scratch = _timing_home(home.create(), device).create()
    for name, config in configs:
        if _is_known(measured, config):
            continue
        short = _short(name, config)
        with device_reserved(home, device, purpose="sepdash sweep --measure"):
            _clear(scratch)
            echo(f"timing {name} ...")
            seconds = _time(scratch, short, device=device)
            echo(f"timing {name}: {seconds:.3g} s per update")
        measured = read_measured(home)
        if not _is_known(measured, config):
            raise NightError(f"the time of {name} can't be measured by a short run; train it once")
    return measured


def _devices(reader: StoreReader) -> list[str]:
    """Return the devices of the living workers, or that of one that starts now."""
    alive = [worker.device for worker in reader.workers() if worker.alive]
    return alive or [resolve_device("auto")]


def _timing_home(home: Home, device: str) -> Home:
    """Return the home of the runs that were only made to be timed on a device of one kind."""
    gpu = open_gpu(device)
    name = re.sub("[^a-z0-9]+", "-", (gpu.name if gpu is not None else cpu_name()).lower())
    return Home(home.root / "timing" / (name.strip("-") or "device"))


def _is_known(measured: Measured, config: RunConfig) -> bool:
    size = planned_size(config)
    total = total_updates(config.schedule.length, size)
    return measured.duration(config, size, total=total) is not None


def _short(name: str, config: RunConfig) -> RunConfig:
    """Return the config to time: without the weights that it starts from, which change no time."""
    values = put(absolute(config).to_dict(), "init_from", value=None)
    values = put(values, "logging", value={"every": "1 updates", "wandb": "off"})
    rare = [name for name in values["validation"] if name in ("full_every", "metrics_every")]
    values = put(values, "validation", value={"at_start": True, **dict.fromkeys(rare)})
    # A rule for early stopping would end the measurement.
    values.pop("stop_when", None)
    short = load_config(values)
    if needed := references_of(short):
        raise NightError(
            f"{name} can't be timed beforehand: its {needed[0].key} = {needed[0].text!r} needs another "
            "run; train one like it first"
        )
    if short.precision.devices > 1:
        raise NightError(
            f"{name} can't be timed beforehand: precision.devices = {short.precision.devices}; train "
            "one like it first"
        )
    return short


def _of_length(config: RunConfig, updates: int) -> RunConfig:
    values = config.to_dict()
    for key in ("schedule.length", "checkpoint.every"):
        values = put(values, key, value=f"{updates} updates")
    # One evaluation amid the updates: the first has the warm-up, and the last may be of whole files.
    values = put(values, "validation.every", value=f"{max(1, updates // 2)} updates")
    return load_config(values)


def _time(scratch: Home, config: RunConfig, *, device: str) -> float:
    """Train for about `_TIMED_S` seconds; return the seconds of an update."""
    first, seconds = _train(scratch, _of_length(config, _FIRST_UPDATES), device=device)
    if seconds * _FIRST_UPDATES >= _TIMED_S:
        return seconds
    updates = min(_MOST_UPDATES, max(_FIRST_UPDATES, ceil(_TIMED_S / seconds)))
    _, seconds = _train(scratch, _of_length(config, updates), device=device)
    with StoreWriter(scratch.store) as store:
        store.delete_run(first)
    return seconds


def _train(scratch: Home, config: RunConfig, *, device: str) -> tuple[int, float]:
    """Train a run to its end; return its id, and the seconds of an update."""
    run_id = enqueue(scratch, config)
    folder = scratch.run_folder(run_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with StoreWriter(scratch.store) as store:
            worker = store.add_worker(device, pid=os.getpid(), token=own_token())
            store.claim(worker)
            _run_child(scratch, store, run_id=run_id, device=device, worker=worker)
            store.remove_worker(worker)
        with StoreReader(scratch.store) as reader:
            run = reader.run(run_id)
            if run.state != "finished":
                raise NightError(f"timing failed: {run.message or run.state}")
            measured = Measured.of(reader)
            update = measured.update_time(config)
        assert update is not None
        return run_id, update.mean
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_child(scratch: Home, store: StoreWriter, *, run_id: int, device: str, worker: int) -> None:
    folder = scratch.run_folder(run_id)
    words = ["--home", str(scratch.root), "--run", str(run_id), "--device", device]
    words += ["--worker", str(worker)]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [*RUNNER, *words], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder,
            env=child_environment(device), start_new_session=True,
        )  # fmt: skip
    try:
        store.update_run(run_id, pid=process.pid, pid_token=process_token(process.pid))
        process.wait()
    finally:
        code = killed(process)
        text = f"its process exited with status {code}"
        end(store, run_id, claim=worker, to="failed", message=text)


def _clear(scratch: Home) -> None:
    """Delete what an interrupted measurement left behind."""
    with StoreReader(scratch.store) as reader:
        runs = [run for run in reader.runs() if run.state != "finished"]
    if runs:
        with StoreWriter(scratch.store) as store:
            for run in runs:
                store.move(run.id, "failed", ("running",))
                store.delete_run(run.id)
                shutil.rmtree(scratch.run_folder(run.id), ignore_errors=True)
