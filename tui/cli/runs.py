"""`sepdash runs`: the runs table."""

from __future__ import annotations

from typing import get_args

import click

from jobs.home import Home
from jobs.store.records import RunRecord, RunState
from tui import formats
from tui.cli.common import json_option, print_json, print_table, with_home

_EXAMPLES = """\b
Examples:
  sepdash runs
  sepdash runs --state failed --state stopped
  sepdash runs --json | jq -r '.[] | [.name, .best_si_sdr_ema] | @tsv'
"""
_HEADERS = ["ID", "NAME", "STATE", "DONE", "LEFT", "SI-SDR", "EMA", "SI-SDRi", "PRESET"]


@click.command(epilog=_EXAMPLES)
@click.option(
    "--state", "states", type=click.Choice(get_args(RunState)), multiple=True,
    help="Only runs in this state. May be repeated.",
)  # fmt: skip
@json_option
@with_home
def runs(*, states: tuple[str, ...], as_json: bool, home: Home) -> None:
    """List the runs: queued, running, ended; SI-SDR is the best so far, in dB."""
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        found = [run for run in reader.runs() if not states or run.state in states]
    if as_json:
        print_json(found)
    elif found:
        print_table(_HEADERS, [row(run) for run in found], right="ID DONE LEFT SI-SDR EMA SI-SDRi")
    else:
        click.echo("no runs yet: `sepdash presets` lists what can be enqueued", err=True)


def row(run: RunRecord) -> list[str]:
    """Return the cells of one run."""
    return [
        str(run.id),
        formats.clean(run.name),
        "stopping" if run.stopping else run.state,
        formats.percent(run.progress),
        formats.duration(run.eta_s),
        formats.level(run.best_si_sdr),
        formats.level(run.best_si_sdr_ema),
        formats.gain(improvement(run)),
        run.preset,
    ]


def improvement(run: RunRecord) -> float | None:
    """Return the best SI-SDR, raw or EMA, over that of the unprocessed input, in dB."""
    best = [value for value in (run.best_si_sdr, run.best_si_sdr_ema) if value is not None]
    return max(best) - run.input_si_sdr if best and run.input_si_sdr is not None else None
