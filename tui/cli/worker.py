"""`sepdash worker`: the process that trains the queued runs."""

from __future__ import annotations

import click

from engine.config.errors import counted
from jobs.home import Home
from tui.cli.common import device_option, with_home

_EXAMPLES = """\b
Examples:
  sepdash worker                  run until Ctrl-C; the current run is saved and queued again
  sepdash worker --drain          run until the queue is empty
  sepdash worker --device cuda:1  one worker per GPU
"""


@click.command(epilog=_EXAMPLES)
@device_option()
@click.option(
    "--drain",
    is_flag=True,
    help="Exit when no queued run can start any more; exit code 1 if a run failed or waits for a "
    "failed one.",
)
@with_home
def worker(*, device: str, drain: bool, home: Home) -> None:
    """Train the queued runs one after another."""
    from jobs.worker.serve import serve

    num_failed = serve(home, device=device, drain=drain, echo=click.echo)
    if drain and num_failed:
        text = f"{counted(num_failed, 'run')} failed or still waiting; `sepdash runs` lists them"
        click.echo(text, err=True)
        click.get_current_context().exit(1)
