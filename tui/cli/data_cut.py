"""`sepdash data cut`: long recordings become pieces that can be transcribed and trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from models.user_paths import expanded
from tui.cli.common import counter_of, json_option, out_option, plain, print_json
from tui.cli.numbers import Number
from tui.cli.paths import UserPath
from tui.reports.formats import clean, duration

if TYPE_CHECKING:
    from engine.data.corpus.cutting import CutFile

_EXAMPLES = """\b
Examples:
  sepdash data cut ~/interview -o anna                      pieces of 1 to 10 s, and metadata.csv to fill in
  sepdash transcribe digits-1 anna/wavs -o anna/texts.jsonl   or let a recogniser fill it in
  sepdash data voice anna/texts.jsonl --speaker anna
"""
_MOST_SHOWN = 20


@click.command(epilog=_EXAMPLES)
@click.argument("source", metavar="FOLDER|FILE", type=UserPath())
@out_option("Output folder.", required=True)
@click.option(
    "--min", "min_s", type=Number(0.1, 3600), default=1.0, show_default=True,
    help="Minimum length of a piece in seconds.",
)  # fmt: skip
@click.option(
    "--max", "max_s", type=Number(0.2, 3600), default=10.0, show_default=True,
    help="Maximum length of a piece in seconds.",
)  # fmt: skip
@click.option(
    "--pause", "pause_s", type=Number(0.05, 10), default=0.25, show_default=True,
    help="Minimum pause to cut at, in seconds; stretches without one are cut at shorter pauses.",
)  # fmt: skip
@json_option
def cut(
    source: Path, *, out: Path, min_s: float, max_s: float, pause_s: float, as_json: bool
) -> None:
    """Cut recordings at silences into WAV files of the same rate and bit depth.

    Writes DIR/wavs, and DIR/metadata.csv with an empty text for each piece: fill it in, or transcribe the pieces.
    Sound between two pauses that is longer than --max is left out and listed.
    """
    from engine.data.corpus.cutting import cut_recordings
    from engine.data.files.audio_files import probe, scan_folder

    if min_s >= max_s:
        raise click.UsageError(f"--min {min_s:g} must be below --max {max_s:g}")
    source, out = expanded(source).absolute(), expanded(out).absolute()
    infos = [probe(source)] if source.is_file() else scan_folder(source, setting="")
    show = counter_of("cut {} of {} recordings") or (lambda done, total: None)
    files = cut_recordings(infos, out, min_s=min_s, max_s=max_s, pause_s=pause_s, progress=show)
    if as_json:
        print_json({"out": str(out), "recordings": plain(files)})
    else:
        _print(files, out)


def _print(files: list[CutFile], out: Path) -> None:
    number = sum(file.num_pieces for file in files)
    seconds = sum(file.pieces_s for file in files)
    total = sum(file.info.duration_s for file in files)
    lost = [(file.info.path, *part) for file in files for part in file.lost]
    click.echo(
        f"wrote {number} pieces, {duration(seconds)} of {duration(total)} in {len(files)} "
        f"recording{'' if len(files) == 1 else 's'}, to {out / 'wavs'}"
    )
    if lost:
        lost_s = sum(end - start for _, start, end in lost)
        click.echo(
            f"left out: {len(lost)} stretches of sound, {lost_s:.1f} s, too short to be a piece or too long "
            "without a pause"
        )
        for path, start, end in lost[:_MOST_SHOWN]:
            click.echo(clean(f"  {path}: {start:.2f} to {end:.2f} s"))
        if len(lost) > _MOST_SHOWN:
            click.echo(f"  ... and {len(lost) - _MOST_SHOWN} more")
    click.echo(f"next: fill in the texts of {out / 'metadata.csv'}, then: sepdash data voice {out}")
    click.echo(
        f"or: sepdash transcribe RUN {out / 'wavs'} -o {out / 'texts.jsonl'}, then: "
        f"sepdash data voice {out / 'texts.jsonl'}"
    )
