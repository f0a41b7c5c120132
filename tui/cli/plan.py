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
    """Show how a preset is batched: global batch size, padding, skipped items."""
    from engine.config.overrides import config_with
    from presets.catalogue import Catalogue
    from tui.reports.batch_plan import plan_report, report_lines

    config = config_with(Catalogue(home.presets).read(preset), assignments)
    report = plan_report(config, world=world)
    if as_json:
        print_json(report)
        return
    for line in report_lines(report):
        click.echo(line)
