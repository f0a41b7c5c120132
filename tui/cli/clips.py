"""`sepdash clips`: the audio clips that a run kept at its evaluations."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.home import Home
from models.user_paths import expanded
from tui.cli.common import (
    json_option,
    out_option,
    print_json,
    print_table,
    run_argument,
    with_home,
)
from tui.reports import formats
from tui.reports.heard import heard_in, texts_of

if TYPE_CHECKING:
    from jobs.store.records import ClipRecord, RunRecord

_EXAMPLES = """\b
Examples:
  sepdash clips baseline-1
  sepdash clips baseline-1 --newest -o listen
"""


@click.command(epilog=_EXAMPLES)
@run_argument
@click.option(
    "--newest", is_flag=True, help="Include only inputs, targets and the latest estimates."
)
@out_option("Copy audio and spectrograms to this folder (created if missing).")
@json_option
@with_home
def clips(run: str, *, newest: bool, out: Path | None, as_json: bool, home: Home) -> None:
    """List or export the clips of a run: audio kept of its evaluations, if `validation.clips` is set."""
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        record = reader.run(run)
        clips = reader.clips(record.id)
        wanted = reader.config(record.id).get("validation", {}).get("clips", 0)
    if newest and clips:
        last = max(clip.updates for clip in clips)
        clips = [clip for clip in clips if clip.updates in (0, last)]
    folder = home.run_folder(record.id)
    for path in (path for clip in clips for path in (clip.path, clip.spectrogram) if path):
        home.file_of_run(record.id, path)
    if out is not None and clips:
        _export(record, clips, folder=folder, out=expanded(out))
    if as_json:
        print_json(clips)
    elif not clips:
        why = "none yet" if wanted else "none: set validation.clips before the run is queued"
        click.echo(f"clips of {formats.clean(record.name)}: {why}", err=True)
    elif out is None:
        _list(clips, folder)


def _list(clips: list[ClipRecord], folder: Path) -> None:
    """Print a row for each clip: with the text where it is known, and with what a judge heard."""
    said = texts_of(clips)
    rows = [
        [
            str(clip.updates) if clip.updates else "", clip.item, clip.kind,
            formats.clean(said.get(clip.item, "")), formats.clean(heard_in(clip)), str(folder / clip.path),
        ]
        for clip in clips
    ]  # fmt: skip
    titles = ["UPDATES", "ITEM", "KIND", "TEXT", "HEARD", "PATH"]
    empty = [at for at in (4, 3) if not any(row[at] for row in rows)]
    for at in empty:
        for row in (titles, *rows):
            del row[at]
    print_table(titles, rows, right="UPDATES ITEM")


def _export(run: RunRecord, clips: list[ClipRecord], *, folder: Path, out: Path) -> None:
    copies = {
        folder / path: out
        / f"{run.name.replace('/', '-')}.{Path(path).parent.name}.{Path(path).name}"
        for clip in clips
        for path in (clip.path, clip.spectrogram)
        if path
    }
    if gone := [str(path) for path in copies if not path.is_file()]:
        raise click.UsageError(f"files missing on disk, nothing copied: {', '.join(gone)}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for source, target in copies.items():
            shutil.copyfile(source, target)
    except OSError as error:
        raise click.UsageError(f"{out} can't be written: {error.strerror}") from None
    click.echo(f"copied {len(copies)} files to {out}", err=True)
