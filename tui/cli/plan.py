"""`sepdash plan`: how a preset is batched, shown before any training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from jobs.home import Home
from tui.cli.common import json_option, preset_argument, print_json, set_option, with_home

if TYPE_CHECKING:
    from engine.config.schema import RunConfig

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
    report = replace(report, warnings=(*report.warnings, *_missing(home, config)))
    if as_json:
        print_json(report)
        return
    time = time_text(home, config, size=UpdateSize(**report.size))
    for line in report_lines(report, time=time):
        click.echo(line)


def _missing(home: Home, config: RunConfig) -> list[str]:
    """Say which runs that the config refers to can't be used: batches are planned without them."""
    from engine.config.errors import ConfigError
    from jobs.needs import check_needs

    try:
        check_needs(home, {"": config})
    except ConfigError as error:
        return [f"it can't be queued like this: {problem}" for problem in error.problems]
    return []
