"""`sepdash runs`: the table of runs."""

from __future__ import annotations

from typing import get_args

import click

from engine.metrics.registry import common_title, metric_of
from jobs.home import Home
from jobs.store.records import RunRecord, RunState
from tui.cli.common import json_option, print_json, print_table, with_home
from tui.reports import formats

_EXAMPLES = """\b
Examples:
  sepdash runs
  sepdash runs --state failed --state stopped
  sepdash runs --json | jq -r '.[] | [.name, .best_ema] | @tsv'
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--state", "states", type=click.Choice([*get_args(RunState), "waiting"]), multiple=True,
    help="List only runs in this state (waiting: queued, but waiting for another run). Can be repeated.",
)  # fmt: skip
@json_option
@with_home
def runs(*, states: tuple[str, ...], as_json: bool, home: Home) -> None:
    """List runs: queued, running and ended, with what waiting runs wait for.

    The best result so far is the SI-SDR in dB, with its gain over the unprocessed input; for speech
    recognition, it is the word error rate.
    """
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        records = [
            run for run in reader.runs() if not states or {run.state, run.condition} & {*states}
        ]
    if as_json:
        print_json(records)
    elif records:
        best = common_title(run.metric for run in records).upper()
        headers = ["ID", "NAME", "STATE", "DONE", "LEFT", best, "EMA", "GAIN", "PRESET"]
        rows = [row(run) for run in records]
        if any(run.waiting for run in records):
            headers.append("WAITING FOR")
            for cells, run in zip(rows, records, strict=True):
                cells.append(formats.clean(run.waiting.removeprefix("waiting for ")))
        print_table(headers, rows, right=f"ID DONE LEFT {best} EMA GAIN")
    else:
        click.echo("no runs; `sepdash presets` lists presets to enqueue", err=True)


def row(run: RunRecord) -> list[str]:
    """Return the cells of one run."""
    return [
        str(run.id),
        formats.clean(run.name),
        run.condition,
        formats.percent(run.progress),
        formats.duration(run.eta_s),
        metric_of(run.metric).text(run.best),
        metric_of(run.metric).text(run.best_ema),
        formats.gain(run.gain),
        run.preset,
    ]
