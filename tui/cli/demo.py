"""`sepdash demo`: a complete example on synthetic audio, in a separate home."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.metrics.registry import metric_of, stored_name
from jobs.home import Home
from tui.cli.common import has_terminal, print_table, with_home
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.store.reader import StoreReader
    from jobs.store.records import RunRecord

_EXAMPLES = """\b
Examples:
  sepdash demo               train, with the dashboard
  sepdash demo --headless    print progress and a table of results, then exit
"""
_PRESETS = ("demo/baseline", "demo/batch2x")
_TRACKS = 16
# A comparison needs ten validation items.
_VALID_TRACKS = 12
_POLL_S = 0.25
_STOP_S = 30.0


@click.command(epilog=_EXAMPLES)
@click.option("--headless", is_flag=True, help="Print progress instead of opening the dashboard.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--keep", is_flag=True, help="Keep the runs of earlier demos.")
@with_home
def demo(*, headless: bool, seed: int, keep: bool, home: Home) -> None:
    """Train two small models on synthetic audio and compare them.

    Takes two to four minutes on two CPU cores.
    Generates a dataset, queues two runs that see the same number of training items with different
    batch sizes, and starts a worker, all in the folder `demo` of the home.
    """
    demo_home = Home(home.root / "demo")
    run_ids = prepare(demo_home, seed=seed, keep=keep)
    with _worker(demo_home) as worker:
        if headless or not has_terminal():
            _end_orderly_on_signals()
            watch(demo_home, run_ids, worker=worker)
        else:
            from tui.apps.dashboard import SepdashApp

            SepdashApp(demo_home, select=run_ids).run()
    code = report(demo_home, run_ids)
    click.get_current_context().exit(code)


def prepare(home: Home, *, seed: int, keep: bool) -> list[int]:
    """Write the dataset and queue the two runs; return their ids.

    Raises:
        click.UsageError: when an earlier demo still runs there.
    """
    from engine.config.loading import load_config
    from engine.config.overrides import apply_overrides
    from engine.data.synthetic import write_dataset
    from jobs.store.reader import StoreReader
    from jobs.submit import enqueue
    from presets.catalogue import Catalogue

    with StoreReader(home.store) as reader:
        alive = [worker.pid for worker in reader.workers() if worker.alive]
    if alive:
        raise click.UsageError(
            f"a demo is already running (process {alive[0]}); open it with "
            f"`sepdash --home {shlex.quote(str(home.root))}`"
        )
    if not keep:
        _clear(home)
    home.create()
    data = home.root / "data" / f"seed-{seed}"
    write_dataset(data, seed=seed, tracks=_TRACKS, valid_tracks=_VALID_TRACKS)
    where = [f"data.train='{data / 'train'}'", f"data.valid='{data / 'valid'}'", f"seed={seed}"]
    catalogue = Catalogue()
    configs = [load_config(apply_overrides(catalogue.read(name), where)) for name in _PRESETS]
    return [
        enqueue(home, config, preset=name) for name, config in zip(_PRESETS, configs, strict=True)
    ]


def watch(home: Home, run_ids: list[int], *, worker: subprocess.Popen[bytes]) -> None:
    """Print one line per state change and per evaluation, until the runs have ended."""
    from jobs.store.reader import StoreReader

    click.echo(
        f"demo in {home.root}; open its dashboard with: sepdash --home {shlex.quote(str(home.root))}"
    )
    start = time.monotonic()
    reported: dict[int, tuple[str, int]] = {}
    with StoreReader(home.store) as reader:
        while True:
            working = worker.poll() is None
            records = [reader.run(run_id) for run_id in run_ids]
            for record in records:
                for line in _news(reader, record, reported=reported):
                    click.echo(f"{time.monotonic() - start:6.1f} s  {record.name:<12}  {line}")
            if not working or all(r.state not in ("queued", "running") for r in records):
                return
            time.sleep(_POLL_S)


def _news(
    reader: StoreReader, record: RunRecord, *, reported: dict[int, tuple[str, int]]
) -> Iterator[str]:
    """Yield what is new since `reported`, and update `reported`."""
    state, update = reported.get(record.id, ("", 0))
    if record.state != state and record.state in ("queued", "running"):
        yield record.state
    metric = metric_of(record.metric)
    names = (metric.name, stored_name(metric.name, ema=True))
    curves = reader.curves(record.id, names, first=update + 1)
    raw, ema = (curves[name] for name in names)
    averages = dict(zip(ema.updates, ema.last, strict=True))
    for at, value in zip(raw.updates, raw.last, strict=True):
        yield (
            f"update {at:>4} of {record.total_updates}   {metric.title} {metric.with_unit(value)}   "
            f"EMA {metric.with_unit(averages.get(at))}   input {metric.with_unit(record.input_score)}"
        )
        update = at
    if record.state != state and record.state not in ("queued", "running"):
        yield f"{record.state}{f': {record.message}' if record.message else ''}"
    reported[record.id] = (record.state, update)


def report(home: Home, run_ids: list[int]) -> int:
    """Print the comparison of the runs; return 0 when all have finished, else 1."""
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        records = [reader.run(run_id) for run_id in run_ids]
        batches = [str(reader.config(run_id)["batch"]["items"]) for run_id in run_ids]
    headers = [
        "RUN",
        "STATE",
        "BATCH",
        "UPDATES",
        "ITEMS",
        "TIME",
        "INPUT",
        "SI-SDR",
        "EMA",
        "SI-SDRi",
    ]
    rows = [
        [
            run.name, run.state, batch, str(run.updates), str(run.items), formats.duration(run.train_seconds),
            formats.level(run.input_score), formats.level(run.best), formats.level(run.best_ema),
            formats.gain(run.gain),
        ]
        for run, batch in zip(records, batches, strict=True)
    ]  # fmt: skip
    click.echo()
    print_table(headers, rows, right=" ".join(headers[2:]))
    if all(run.state == "finished" for run in records):
        _compare(home, records)
        return 0
    click.echo(
        f"not all runs finished; continue with: sepdash --home {shlex.quote(str(home.root))} worker --drain",
        err=True,
    )
    return 1


def _compare(home: Home, records: list[RunRecord]) -> None:
    """Print the table that decides, with what limits it."""
    from jobs.comparison.compare import compare
    from jobs.store.reader import StoreReader
    from tui.cli.comparison_tables import print_comparison

    with StoreReader(home.store) as reader:
        comparison = compare(reader, records, metrics=[records[0].metric])
    click.echo()
    print_comparison(comparison)
    names = " ".join(run.name for run in records)
    click.echo(f"\nall metrics: sepdash --home {shlex.quote(str(home.root))} compare {names}")


@contextmanager
def _worker(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """Run `sepdash worker --drain` in the background; on exit, stop it, so that its run saves a checkpoint."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "tui.main",
        "--home",
        str(home.root),
        "worker",
        "--drain",
    ]
    log = home.root / "worker.log"
    with log.open("wb") as file:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield worker
        if worker.poll():
            click.echo(log.read_text(errors="replace").rstrip()[-2000:], err=True)
    finally:
        _end(worker)


def _end_orderly_on_signals() -> None:
    """Exit through our `finally` on SIGTERM and SIGHUP, so that the worker is stopped, too."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


def _end(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _clear(home: Home) -> None:
    """Remove what an earlier demo wrote, by name, and nothing else."""
    for name in ("runs", "data", "locks"):
        shutil.rmtree(home.root / name, ignore_errors=True)
    for path in (home.store, home.queue):
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
