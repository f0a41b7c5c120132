"""`sepdash checkpoints`: the checkpoints of a run, and what each can be used for."""

from __future__ import annotations

import time

import click

from jobs.home import Home
from tui.cli.common import json_option, print_json, print_table, run_argument, with_home
from tui.reports import formats

_EXAMPLES = """\b
Examples:
  sepdash checkpoints baseline-1
  sepdash resume baseline-1 --from last-000400
  sepdash enqueue denoise/small --set init_from=baseline-1@si_sdr
"""


@click.command(epilog=_EXAMPLES)
@run_argument
@json_option
@with_home
def checkpoints(*, run: str, as_json: bool, home: Home) -> None:
    """List the checkpoints of a run: update, epoch, metric, size, date, and what each can be used for.

    `last-*` are resume states: weights, optimizer and everything else. `best-*` hold weights only.
    """
    from engine.checkpoints.choosing import checkpoints_of, value_text
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        record = reader.run(run)
    found = checkpoints_of(home.run_folder(record.id), metric=record.metric)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(
            f"{formats.clean(record.name)} has no checkpoint yet (state: {record.state})", err=True
        )
        return
    rows = [
        [
            formats.clean(one.name),
            str(one.updates) if not one.problem else formats.MISSING,
            f"{one.epochs:.2f}" if one.epochs else formats.MISSING,
            value_text(one) or formats.MISSING,
            f"{one.size_bytes / 1e6:.1f} MB" if one.size_bytes else formats.MISSING,
            time.strftime("%F %H:%M", time.localtime(one.saved_at))
            if one.saved_at
            else formats.MISSING,
            one.problem or one.use.replace("RUN", formats.clean(record.name)),
        ]
        for one in found
    ]
    print_table(
        ["NAME", "UPDATE", "EPOCH", "METRIC", "SIZE", "SAVED", "USE"],
        rows,
        right="UPDATE EPOCH SIZE",
    )
