"""`sepdash data`: checks and indexes audio folders before training; builds manifests of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.home import Home
from models.folders import NoAnswer, kind_of
from models.user_paths import expanded
from tui.cli.common import (
    counter_of,
    json_option,
    note_new_names,
    out_option,
    plain,
    print_json,
    with_home,
)
from tui.cli.data_cut import cut
from tui.cli.data_voice import voice
from tui.cli.numbers import Number
from tui.cli.paths import UserPath

if TYPE_CHECKING:
    from engine.data.checks.findings import Finding, Survey

_CHECK_EXAMPLES = """\b
Examples:
  sepdash data check ~/musdb18hq                        any folder of audio
  sepdash data check ~/speech/train.jsonl               utterances, with or without transcripts
  sepdash data check stems/vocals --set data.train=~/musdb18hq/train
  sepdash data check ~/speech --allow short             accept short files
"""
_INDEX_EXAMPLES = """\b
Examples:
  sepdash data index ~/speech                  write speech/sepdash-index.jsonl
  sepdash data index ~/speech --hash           include a hash of each file
  sepdash data index ~/speech --verify         list changes since then
"""
_DIGITS_EXAMPLES = """\b
Examples:
  sepdash data digits ~/digits -o data/digit-strings
  sepdash data digits ~/digits -o data/digit-strings --utterances 500 --seed 1
"""
_INDEX_NAME = "sepdash-index.jsonl"
_MOST_SHOWN = 20
_PROBLEMS_CODE = 2


@click.group(epilog=_CHECK_EXAMPLES)
def data() -> None:
    """Check audio folders before training, index them, make manifests of utterances."""


@data.command(epilog=_CHECK_EXAMPLES)
@click.argument("target", metavar="PATH|PRESET")
@click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, callback=note_new_names,
    help="Override a setting of the preset. Can be repeated.",
)  # fmt: skip
@click.option(
    "--segment", "segment_s", type=Number(0.01, 60), default=2.0, show_default=True,
    help="Minimum file length in PATH, in seconds; a preset uses its own segment length.",
)  # fmt: skip
@click.option(
    "--allow", metavar="KIND", multiple=True,
    help="Report problems of this kind as warnings only. Can be repeated.",
)  # fmt: skip
@click.option(
    "--headers", is_flag=True, help="Read file headers only (does not detect silence or clipping)."
)
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help=f"List all problems, not only {_MOST_SHOWN} of each kind.",
)
@json_option
@with_home
def check(
    target: str,
    *,
    assignments: tuple[str, ...],
    allow: tuple[str, ...],
    as_json: bool,
    show_all: bool,
    **options: float | bool | Home,
) -> None:
    """List all problems in an audio folder or in the folders of a preset; exit code 2 if any.

    Kinds: empty, unreadable, header, rows, repeated, stems, rate, channels, short, silent, clipped, settings.
    """
    from engine.data.checks.findings import KINDS

    if unknown := set(allow) - set(KINDS):
        raise click.UsageError(f"--allow {min(unknown)}: unknown kind; expected {', '.join(KINDS)}")
    surveys = _survey(target, assignments, **options)  # type: ignore[arg-type]
    counted = [item for survey in surveys for item in survey.findings if item.kind not in allow]
    if as_json:
        print_json({"num_problems": len(counted), "folders": plain(surveys)})
    else:
        _print(surveys, allow, most=None if show_all else _MOST_SHOWN)
        click.echo(_summary(surveys, len(counted)))
    click.get_current_context().exit(_PROBLEMS_CODE if counted else 0)


def _survey(
    target: str, assignments: Sequence[str], *, segment_s: float, headers: bool, home: Home
) -> list[Survey]:
    from engine.data.checks.survey import survey_folder
    from engine.data.kinds import survey_data

    progress = counter_of("checked {} of {} files")
    folder = expanded(target).absolute()
    try:
        kind = kind_of(folder)
    except NoAnswer as error:
        raise click.UsageError(str(error)) from None
    if not kind:
        from engine.config.overrides import config_with
        from presets.catalogue import Catalogue, PresetError

        try:
            values = Catalogue(home.presets).read(target)
        except PresetError as error:
            raise click.UsageError(f"{target} is not a file, folder or preset: {error}") from None
        config = config_with(values, assignments)
        return survey_data(config.data, content=not headers, progress=progress)
    if assignments:
        raise click.UsageError(f"--set applies to presets, but {target} is a file or folder")
    return [survey_folder(folder, segment_s=segment_s, content=not headers, progress=progress)]


def _print(surveys: Sequence[Survey], allow: Sequence[str], *, most: int | None) -> None:
    for survey in surveys:
        click.echo(" ".join(filter(None, [survey.setting, str(survey.folder)])))
        if survey.num_files:
            click.echo(f"  {_contents(survey)}")
        for note in survey.notes:
            click.echo(f"  {note}")
        if survey.dataset:
            click.echo(f"  {survey.dataset}; to train on it: {survey.use}")
        kinds = dict.fromkeys(item.kind for item in survey.findings)
        for kind in kinds:
            problems = [item for item in survey.findings if item.kind == kind]
            _print_kind(survey, problems, allowed=kind in allow, most=most)
        click.echo("" if kinds else "  no problems\n")


def _print_kind(
    survey: Survey, problems: Sequence[Finding], *, allowed: bool, most: int | None
) -> None:
    from engine.data.checks.findings import KINDS

    kind = problems[0].kind
    mark = ", allowed" if allowed else ""
    click.echo(f"  {kind}: {len(problems)}{mark} ({KINDS[kind]})")
    for item in problems[:most]:
        click.echo(f"    {item.message.replace(f'{survey.folder}/', '')}")
    if most is not None and len(problems) > most:
        click.echo(f"    ... and {len(problems) - most} more (use --all to list them)")


def _contents(survey: Survey) -> str:
    rates = ", ".join(f"{rate} Hz{_share(survey, n)}" for rate, n in survey.rates_hz.items())
    names = {1: "mono", 2: "stereo"}
    channels = ", ".join(
        f"{names.get(count, f'{count} channels')}{_share(survey, n)}"
        for count, n in survey.channels.items()
    )
    files = f"{survey.num_files} file{'s' if survey.num_files > 1 else ''}"
    return f"{survey.layout}: {files}, {_hours(survey.duration_s)}, {rates}, {channels}"


def _share(survey: Survey, number: int) -> str:
    return "" if number == survey.num_files else f" ({number} file{'s' if number > 1 else ''})"


def _summary(surveys: Sequence[Survey], num_problems: int) -> str:
    files = sum(survey.num_files for survey in surveys)
    seconds = sum(survey.duration_s for survey in surveys)
    noun = "problem" if num_problems == 1 else "problems"
    return f"{num_problems or 'no'} {noun}; {files} readable file{'' if files == 1 else 's'}, {_hours(seconds)} in total"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 36 else f"{seconds:.1f} s"


@data.command(epilog=_INDEX_EXAMPLES)
@click.argument("folder", metavar="PATH", type=UserPath(file_okay=False))
@out_option(f"Manifest file [default: PATH/{_INDEX_NAME}].", metavar="FILE")
@click.option("--hash", "hashes", is_flag=True, help="Include a hash of each file's content.")
@click.option(
    "--verify",
    is_flag=True,
    help="Compare the folder with the manifest; exit code 2 if it has changed.",
)
def index(folder: Path, *, out: Path | None, hashes: bool, verify: bool) -> None:
    """Write a manifest of the audio files in a folder, or list changes since it was written."""
    from engine.data.files.index import index_changes, make_index, read_index, write_index

    folder = expanded(folder).absolute()
    path = out or folder / _INDEX_NAME
    if not verify:
        entries = make_index(folder, hashes=hashes)
        write_index(path, entries)
        hours = _hours(sum(entry.frames / entry.rate_hz for entry in entries))
        click.echo(f"wrote {path}: {len(entries)} files, {hours}")
        return
    entries = read_index(path)
    changes = list(index_changes(folder, entries))
    for change in changes:
        click.echo(f"{change.what:<8} {change.path}")
    click.echo(
        f"{len(changes) or 'no'} change{'' if len(changes) == 1 else 's'}; {path} lists {len(entries)} files"
    )
    click.get_current_context().exit(_PROBLEMS_CODE if changes else 0)


@data.command(epilog=_DIGITS_EXAMPLES)
@click.argument("folder", metavar="PATH", type=UserPath())
@out_option("Output folder.", required=True)
@click.option(
    "--utterances", type=click.IntRange(1, 1_000_000), default=3_000, show_default=True,
    help="Number of training utterances.",
)  # fmt: skip
@click.option(
    "--valid", "num_valid", type=click.IntRange(1, 1_000_000), default=200, show_default=True,
    help="Number of validation utterances.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
def digits(folder: Path, *, out: Path, utterances: int, num_valid: int, seed: int) -> None:
    """Join recordings of digits, PATH/<speaker>/<digit>_<take>.flac, into utterances with transcripts.

    Writes DIR/train.jsonl and DIR/valid.jsonl: utterances of 1 to 15 s by one speaker, with pauses.
    Takes 00 to 04 and one in four digit strings are reserved for validation.
    """
    from engine.config.overrides import set_options
    from engine.data.speech.digit_strings import build_digit_strings

    folder, out = expanded(folder).absolute(), expanded(out).absolute()
    progress = counter_of("wrote {} of {} utterances", every=50) or (lambda done, total: None)
    build_digit_strings(
        folder, out, num_train=utterances, num_valid=num_valid, seed=seed, progress=progress
    )
    click.echo(f"wrote {utterances} training and {num_valid} validation utterances to {out}")
    click.echo(
        "to train on them: sepdash enqueue transducer/digits "
        + set_options([f"data.train={out / 'train.jsonl'}", f"data.valid={out / 'valid.jsonl'}"])
    )


data.add_command(voice)
data.add_command(cut)
