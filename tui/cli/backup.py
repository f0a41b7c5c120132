"""`sepdash backup` and `sepdash restore`: what can't be trained again, in one file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from engine.config.errors import counted
from jobs.home import Home
from tui.cli.common import with_home
from tui.cli.paths import UserPath

_BACKUP_EXAMPLES = """\b
Examples:
  sepdash backup ~/sepdash-backup.tar
  sepdash backup ~/sepdash-backup.tar --replace    replace the file of yesterday
"""
_RESTORE_EXAMPLES = """\b
Examples:
  sepdash restore ~/sepdash-backup.tar --home ~/restored
  sepdash restore ~/sepdash-backup.tar --replace    what is there is put aside
"""


@click.command(epilog=_BACKUP_EXAMPLES)
@click.argument("file", type=UserPath(dir_okay=False))
@click.option("--replace", is_flag=True, help="Replace an existing file.")
@with_home
def backup(*, file: Path, replace: bool, home: Home) -> None:
    """Back up the run store, presets, searches, probes and listening answers; workers may be active.

    Checkpoints, logs and clips are not included: copy the folder runs of the home for those.
    """
    from jobs.backup import backup as write

    made = write(home, file, replace=replace)
    size = file.stat().st_size / 1e6
    click.echo(
        f"{file}: {counted(made.num_runs, 'run')} and {counted(made.num_files, 'other file')}, {size:.1f} MB"
    )
    click.echo(f"not included: checkpoints, logs and clips, which are in {home.root / 'runs'}")


@click.command(epilog=_RESTORE_EXAMPLES)
@click.argument("file", type=UserPath(exists=True, dir_okay=False))
@click.option("--replace", is_flag=True, help="Restore over an existing store, which is put aside.")
@with_home
def restore(*, file: Path, replace: bool, home: Home) -> None:
    """Restore a backup into a home that has no runs, or with --replace in place of what is there."""
    from jobs.backup import restore as read
    from jobs.backup import runs_without_files

    found = read(home, file, replace=replace)
    when = f"{datetime.fromtimestamp(found.created_at):%Y-%m-%d %H:%M}"
    click.echo(
        f"restored {counted(found.num_runs, 'run')} and {counted(found.num_files, 'other file')} of {when} to "
        f"{home.root}"
    )
    if found.put_aside is not None:
        click.echo(f"what was there is in {found.put_aside}")
    if lacking := runs_without_files(home):
        click.echo(
            f"{counted(lacking, 'run')} without files: copy their folders to {home.root / 'runs'}, or they have "
            "no checkpoints"
        )
