"""`sepdash worker`: the process that trains the queued runs."""

from __future__ import annotations

import click

from engine.config.errors import counted
from jobs.home import Home
from tui.cli.common import device_option, with_home
from tui.cli.numbers import Number

_EXAMPLES = """\b
Examples:
  sepdash worker                  run until Ctrl-C; the current run is saved and queued again
  sepdash worker --drain          run until the queue is empty
  sepdash worker --device cuda:1  one worker per GPU
  sepdash worker --detach         run in the background; survives the end of the SSH connection
"""


@click.command(epilog=_EXAMPLES)
@device_option()
@click.option(
    "--drain",
    is_flag=True,
    help="Exit when no queued run can start any more; exit code 1 if a run failed or waits for a "
    "failed one.",
)
@click.option(
    "--detach",
    is_flag=True,
    help="Start the worker in the background and return; it survives the terminal.",
)
@click.option(
    "--install",
    "installs",
    is_flag=True,
    help="Write a systemd unit of your user and print it with the commands that start it.",
)
@click.option(
    "--stall-after",
    "stall_s",
    type=Number(min=1.0),
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="End and retry a run that makes no progress for this long.",
)
@with_home
def worker(
    *, device: str, drain: bool, detach: bool, installs: bool, stall_s: float, home: Home
) -> None:
    """Train the queued runs one after another."""
    if installs and (detach or drain):
        raise click.UsageError("--install can't be combined with --detach or --drain")
    if installs:
        from jobs.worker.service import install

        click.echo("\n".join(install(home, device, stall_s=stall_s)))
        return
    if detach:
        from jobs.worker.detached import start_detached

        click.echo(start_detached(home, device=device, drain=drain, stall_s=stall_s))
        return
    from jobs.worker.serve import serve
    from jobs.worker.supervisor import Child

    child = Child(stall_s=stall_s)
    num_failed = serve(home, device=device, drain=drain, echo=click.echo, child=child)
    if drain and num_failed:
        text = f"{counted(num_failed, 'run')} failed or still waiting; `sepdash runs` lists them"
        click.echo(text, err=True)
        click.get_current_context().exit(1)
