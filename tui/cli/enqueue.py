"""`sepdash enqueue`: from a preset and overrides to a queued run."""

from __future__ import annotations

import click

from jobs.home import Home
from tui.cli.common import preset_argument, set_option, with_home

_EXAMPLES = """\b
Examples:
  sepdash enqueue bandwidth/small --set data.train=~/speech/train --set data.valid=~/speech/test
  sepdash enqueue denoise/small --set optimizer.lr=3e-3 --set 'model.strides=[2, 4, 8]'
  sepdash enqueue demo/baseline --name night-1 --set seed=1
  sepdash enqueue demo/baseline --set init_from=night-1   starts when night-1 has finished
"""


@click.command(epilog=_EXAMPLES)
@preset_argument()
@set_option
@click.option("--name", help="Run name [default: derived from the preset].")
@with_home
def enqueue(preset: str, *, assignments: tuple[str, ...], name: str | None, home: Home) -> None:
    """Queue a run of a preset."""
    from engine.config.overrides import config_with
    from engine.data.kinds import data_warnings
    from engine.data.update_size import mean_update_size
    from engine.training.run_length import run_length
    from engine.training.run_warnings import run_warnings
    from jobs.store.reader import StoreReader
    from jobs.submit import enqueue as submit
    from presets.catalogue import Catalogue
    from tui.reports.run_time import time_text

    config = config_with(Catalogue(home.presets).read(preset), assignments)
    run_id = submit(home, config, name=name, preset=preset)
    with StoreReader(home.store) as reader:
        record = reader.run(run_id)
        idle = not any(worker.alive for worker in reader.workers())
    waiting = f", {record.waiting}" if record.waiting else ""
    click.echo(f"run {record.id} {record.name} is queued{waiting}")
    try:
        size = mean_update_size(config, epochs=True)
        click.echo(f"length: {run_length(config, size).text}")
        click.echo(f"time: {time_text(home, config, size=size)}")
    except ValueError as error:
        # The run is queued; what is wrong with its batches, it says when it starts, as `sepdash plan` does.
        size = config.update_size
        click.echo(f"warning: its length is unknown: {error}", err=True)
    for warning in [*run_warnings(config, size=size), *data_warnings(config.data)]:
        click.echo(f"warning: {warning}", err=True)
    if idle:
        click.echo("no worker is running; start one with `sepdash worker`", err=True)
