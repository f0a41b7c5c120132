"""`sepdash plan`: how a preset is batched, shown before any training."""

from __future__ import annotations

import click

from jobs.home import Home
from tui.cli.common import json_option, preset_argument, print_json, set_option, with_home

_EXAMPLES = """\b
Examples:
  sepdash plan denoise/small --set data.train=~/speech/train --set data.noise=~/noise
  sepdash plan stems/vocals --set batch.items=64 --world 8
  sepdash plan stems/vocals --json
"""


@click.command(epilog=_EXAMPLES)
@preset_argument()
@set_option
@click.option(
    "--world", type=click.IntRange(1, 4096),
    help="Number of devices [default: precision.devices].",
)  # fmt: skip
@json_option
@with_home
def plan(
    preset: str, *, assignments: tuple[str, ...], world: int | None, as_json: bool, home: Home
) -> None:
    """Show how a preset is batched, and how long it trains.

    Global batch size, padding and skipped items; then updates, items, hours of audio, epochs and the
    expected time of the run, with warnings about spans that make no sense with so much data.
    """
    from engine.config.counters import UpdateSize
    from engine.config.overrides import config_with
    from presets.catalogue import Catalogue
    from tui.reports.batch_plan import plan_report, report_lines
    from tui.reports.run_time import time_text

    config = config_with(Catalogue(home.presets).read(preset), assignments)
    report = plan_report(config, world=world)
    if as_json:
        print_json(report)
        return
    time = time_text(home, config, size=UpdateSize(**report.size))
    for line in report_lines(report, time=time):
        click.echo(line)
