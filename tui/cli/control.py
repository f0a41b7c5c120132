"""`sepdash stop`, `resume`, `move` and `rm`: commands for existing runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import click

from jobs.home import Home
from tui.cli.common import run_argument, runs_argument, set_option, with_home

if TYPE_CHECKING:
    from jobs.store.records import RunRecord
    from jobs.submit import Place

_STOP = """\b
Example:
  sepdash stop baseline-1
"""
_RESUME = """\b
Examples:
  sepdash resume baseline-1
  sepdash resume baseline-1 --from last-000400     go back to an older state
  sepdash resume baseline-1 --devices 2     continue with two processes
  sepdash resume baseline-1 --set stop_when.patience=none     go on with a run that stopped early
"""
_MOVE = """\b
Examples:
  sepdash move 7 top
  sepdash move night-3 down
  sepdash move 7 2          to position 2
"""
_RM = """\b
Examples:
  sepdash rm 3 4
  sepdash rm baseline-1 --keep-files
"""
_PLACES = ("up", "down", "top", "bottom")


def _find(home: Home, names: tuple[str, ...]) -> list[RunRecord]:
    """Look up every run before changing anything, so that a typo has no effect."""
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        return [reader.run(name) for name in names]


@click.command(epilog=_STOP)
@runs_argument
@with_home
def stop(*, runs: tuple[str, ...], home: Home) -> None:
    """Stop runs; they save a checkpoint and can be resumed."""
    from jobs import submit

    for run in _find(home, runs):
        submit.stop(home, run.id)
        how = "saves its state and stops" if run.state == "running" else "is stopped"
        click.echo(f"run {run.id} {run.name} {how}")


@click.command(epilog=_RESUME)
@runs_argument
@click.option(
    "--devices", type=click.IntRange(1, 64),
    help="Continue with N processes. Requires batch.mode = exact (other modes assign data by process "
    "count).",
)  # fmt: skip
@click.option(
    "--from", "checkpoint", metavar="CHECKPOINT", default="",
    help="Continue from an older resume state, by its name or its update (`sepdash checkpoints RUN` lists "
    "them); newer ones are set aside.",
)  # fmt: skip
@set_option
@with_home
def resume(
    *,
    runs: tuple[str, ...],
    devices: int | None,
    checkpoint: str,
    assignments: tuple[str, ...],
    home: Home,
) -> None:
    """Queue stopped or failed runs again; they continue from their last checkpoint.

    --set changes settings of stop_when only. A run that stop_when ended early continues once its rules
    are changed.
    """
    from jobs import submit

    if checkpoint and len(runs) > 1:
        raise click.UsageError("--from is a checkpoint of one run; resume the others by themselves")
    for run in _find(home, runs):
        submit.resume(home, run.id, devices=devices, assignments=assignments, checkpoint=checkpoint)
        (queued,) = _find(home, (str(run.id),))
        waiting = f", {queued.waiting}" if queued.waiting else ""
        where = f"checkpoint {checkpoint}" if checkpoint else f"update {run.updates}"
        click.echo(f"run {run.id} {run.name} is queued again and continues from {where}{waiting}")


@click.command(epilog=_MOVE)
@run_argument
@click.argument("place", metavar="up|down|top|bottom|PLACE")
@with_home
def move(run: str, place: str, *, home: Home) -> None:
    """Move a queued run within the queue; PLACE is a position, starting at 1."""
    from jobs import submit

    if place not in _PLACES and not (place.isdecimal() and int(place) > 0):
        raise click.BadParameter(
            f"expected up, down, top, bottom or a position (1, 2, ...), found {place!r}"
        )
    (record,) = _find(home, (run,))
    submit.move(home, record.id, to=cast("Place", place) if place in _PLACES else int(place))
    click.echo(f"run {record.id} {record.name} moved: {place}")


@click.command(epilog=_RM)
@runs_argument
@click.option("--keep-files", is_flag=True, help="Keep the log and checkpoints on disk.")
@click.option("--force", is_flag=True, help="Also remove runs that other runs need.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@with_home
def rm(*, runs: tuple[str, ...], keep_files: bool, force: bool, yes: bool, home: Home) -> None:
    """Remove runs and their files; asks for confirmation in a terminal.

    A run that unfinished runs need is kept, unless they are removed with it.
    """
    from jobs import submit

    records = _find(home, runs)
    names = ", ".join(run.name for run in records)
    if not yes and sys.stdin.isatty():
        files = "" if keep_files else " with their logs and checkpoints"
        click.confirm(f"Remove {names}{files}?", abort=True)
    together = [run.id for run in records]
    for run in records:
        submit.remove(home, run.id, keep_files=keep_files, force=force, together=together)
        click.echo(f"run {run.id} {run.name} is removed")
