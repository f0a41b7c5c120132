"""`sepdash logs`: the captured output of a run."""

from __future__ import annotations

import time
from codecs import getincrementaldecoder
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from jobs.home import Home
from tui.cli.common import run_argument, with_home

if TYPE_CHECKING:
    from jobs.store.reader import StoreReader
    from jobs.store.records import RunRecord

_EXAMPLES = """\b
Examples:
  sepdash logs baseline-1
  sepdash logs 3 -n 20 -f
"""
_POLL_S = 0.2


@click.command(epilog=_EXAMPLES)
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the run ends.")
@click.option(
    "-n",
    "--lines",
    metavar="N",
    type=click.IntRange(min=0),
    help="Print only the last N lines written so far.",
)
@with_home
def logs(run: str, *, follow: bool, lines: int | None, home: Home) -> None:
    """Print the log of a run."""
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        record = reader.run(run)
        path = home.run_folder(record.id) / "log.txt"
        if follow:
            if record.waiting:
                click.echo(f"run {record.name} is {_state(record)}", err=True)
            _follow(reader, record.id, path=path, lines=lines)
        elif path.is_file():
            with path.open("rb") as file:
                _print_tail(file, lines)
        else:
            click.echo(f"run {record.name} has no log yet (state: {_state(record)})", err=True)


def _state(record: RunRecord) -> str:
    return f"{record.state}, {record.waiting}" if record.waiting else record.state


def _print_tail(file: BinaryIO, lines: int | None) -> None:
    for line in file if lines is None else deque(file, maxlen=lines):
        click.echo(line.decode(errors="replace"), nl=False)


def _follow(reader: StoreReader, run_id: int, *, path: Path, lines: int | None) -> None:
    while not path.is_file():
        if reader.run(run_id).state not in ("queued", "running"):
            return
        time.sleep(_POLL_S)
    with path.open("rb") as file:
        _print_tail(file, lines)
        # The bytes of a character that is half written wait for the rest.
        decoder = getincrementaldecoder("utf-8")("replace")
        while True:
            # Read the state before the file, so that the last lines of an ended run are still printed.
            going = reader.run(run_id).state in ("queued", "running")
            if text := decoder.decode(file.read(), final=not going):
                click.echo(text, nl=False)
            if not going:
                return
            time.sleep(_POLL_S)
