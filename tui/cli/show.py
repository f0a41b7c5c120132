"""`sepdash show`: everything about one run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from engine.metrics.registry import metric_of, reading_of
from jobs.home import Home
from tui.cli.common import json_option, print_json, print_table, run_argument, with_home
from tui.reports import formats
from tui.reports.heard import newest

if TYPE_CHECKING:
    from jobs.store.reader import StoreReader
    from jobs.store.records import CheckpointRecord, ClipRecord, EventRecord, NeedRecord, RunRecord

_EXAMPLES = """\b
Examples:
  sepdash show baseline-1
  sepdash show 3 --config > mine.toml
  sepdash show 3 --json
"""


@click.command(epilog=_EXAMPLES)
@run_argument
@click.option("--config", "only_config", is_flag=True, help="Print the config of the run as TOML.")
@json_option
@with_home
def show(run: str, *, only_config: bool, as_json: bool, home: Home) -> None:
    """Show one run: state, metrics, checkpoints, config."""
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        record = reader.run(run)
        if as_json:
            print_json(_everything(reader, record))
        elif only_config:
            from presets.catalogue import to_toml

            click.echo(to_toml(reader.config(record.id)).rstrip())
        else:
            _print_run(record, home)
            _print_needs(reader.needs(record.id))
            latest = reader.latest(record.id)
            _print_latest(latest, _hint(reader, record, latest=latest))
            _print_heard(reader.clips(record.id))
            _print_checkpoints(reader.checkpoints(record.id))
            _print_events(reader.events(record.id, limit=20))


def _everything(reader: StoreReader, record: RunRecord) -> dict[str, object]:
    return {
        "run": record,
        "needs": reader.needs(record.id),
        "latest": reader.latest(record.id),
        "checkpoints": reader.checkpoints(record.id),
        "events": reader.events(record.id),
        "config": reader.config(record.id),
    }


def _print_run(record: RunRecord, home: Home) -> None:
    state: str = record.condition
    if record.waiting:
        state = f"{record.state}, {record.waiting}"
    done = (
        f"{record.updates} of {record.total_updates} updates ({formats.percent(record.progress)})"
    )
    speed = f", {record.speed:.2f} updates/s" if record.speed else ""
    left = f", {formats.duration(record.eta_s)} left" if record.eta_s is not None else ""
    epochs = f", {record.epochs:.2f} epochs" if record.epochs else ""
    fields = {
        "run": f"{record.id}  {formats.clean(record.name)}",
        "state": f"{state}: {record.message}" if record.message else state,
        "preset": record.preset or formats.MISSING,
        "config": f"{record.fingerprint}, seed {record.seed}",
        "progress": done + speed + left,
        "data seen": (
            f"{record.items} items{epochs}, {formats.duration(record.audio_seconds)} of audio"
        ),
        "train time": formats.duration(record.train_seconds),
        "created": _when(record.created_at),
        "started": _when(record.started_at),
        "ended": _when(record.ended_at),
        f"best {metric_of(record.metric).title}": _best(record),
        "folder": str(home.run_folder(record.id)),
    }
    for name, text in fields.items():
        click.echo(f"{name:<12} {text}")


def _print_needs(needs: list[NeedRecord]) -> None:
    for need in needs:
        run = f" (run {need.needed})" if need.needed is not None else ""
        started = (
            f": started from {need.checkpoint}, content {need.content}" if need.checkpoint else ""
        )
        click.echo(f"{need.key:<12} {formats.clean(need.reference)}{run}{started}")


def _best(record: RunRecord) -> str:
    if record.top is None:
        return formats.MISSING
    style = metric_of(record.metric)
    text = f"{style.with_unit(record.best)}, EMA {style.with_unit(record.best_ema)}"
    if record.gain is None:
        return text
    gain = f"gain {formats.gain(record.gain)} {style.unit}"
    return f"{text}; input {style.with_unit(record.input_score)}, {gain}"


def _hint(reader: StoreReader, record: RunRecord, *, latest: dict[str, float]) -> str:
    """Return how the terms of the loss are read; empty without terms, or where settings can't be read."""
    try:
        return reading_of(latest, reader.config(record.id)).hint
    except ValueError:
        return ""


def _print_latest(latest: dict[str, float], hint: str) -> None:
    if latest:
        click.echo(f"\nlatest values{f' ({hint})' if hint else ''}")
        print_table(
            ["SERIES", "VALUE"],
            [
                [k, metric_of(k).text(v) if metric_of(k).is_rate else formats.number(v, 5)]
                for k, v in latest.items()
            ],
            right="VALUE",
        )


def _print_heard(clips: list[ClipRecord]) -> None:
    rows = [[item.item, *map(formats.clean, (item.text, item.heard))] for item in newest(clips)]
    if rows:
        click.echo(f"\nwhat the judge heard in the clips of update {max(c.updates for c in clips)}")
        print_table(["ITEM", "TEXT", "HEARD"], rows, right="ITEM")


def _print_checkpoints(checkpoints: list[CheckpointRecord]) -> None:
    if not checkpoints:
        return
    click.echo("\ncheckpoints")
    rows = [
        [item.kind, str(item.updates), formats.size(item.size_bytes), item.path]
        for item in checkpoints
    ]
    print_table(["KIND", "UPDATES", "SIZE", "PATH"], rows, right="UPDATES SIZE")


def _print_events(events: list[EventRecord]) -> None:
    if events:
        click.echo("\nevents")
    for event in events:
        click.echo(f"{_when(event.time)}  {event.level:<7}  {formats.clean(event.message)}")


def _when(moment: float | None) -> str:
    if moment is None:
        return formats.MISSING
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
