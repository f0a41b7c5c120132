"""`sepdash data voice`: recordings and their texts, as people have them, become manifests for training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.home import Home
from models.user_paths import expanded
from tui.cli.common import (
    counter_of,
    json_option,
    out_option,
    plain,
    print_json,
    set_option,
    with_home,
)
from tui.cli.numbers import Number
from tui.cli.paths import UserPath

if TYPE_CHECKING:
    from engine.config.text_data import TextData
    from engine.data.corpus.survey import Corpus

_EXAMPLES = """\b
Examples:
  sepdash data voice ~/LJSpeech-1.1 -o data/lj           metadata.csv beside wavs/
  sepdash data voice ~/anna/train.txt --speaker anna     a list: path|text or path|text|speaker
  sepdash data voice ~/anna ~/theo -o data/voices        a voice in each folder
  sepdash data voice ~/voices --dry-run --all            only list what is wrong
  sepdash data voice ~/voices --set data.tokens=phonemes --set data.language=de
"""
DEFAULT_PRESET = "voice/base"
_MOST_SHOWN = 10
_MOST_CHARACTERS = 200


@click.command(epilog=_EXAMPLES)
@click.argument("folders", metavar="FOLDER|TABLE...", nargs=-1, required=True, type=UserPath())
@out_option(
    "Output folder [default: FOLDER-manifests (of the first FOLDER) in the current folder]."
)
@click.option(
    "--replace", is_flag=True, help="Replace what an earlier call wrote to the output folder."
)
@click.option("--dry-run", is_flag=True, help="Only report; write nothing.")
@click.option(
    "--valid", "share", type=Number(0, 0.5), default=0.05, show_default=True,
    help="Fraction of the clips of each speaker that is held out for validation, drawn at random; at least one.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True,
    help="Random seed of the draw.",
)  # fmt: skip
@click.option(
    "--keep-split", is_flag=True,
    help="Hold out the clips of validation.txt, valid.jsonl and the like instead.",
)  # fmt: skip
@click.option("--speaker", help="Speaker of rows that name none [default: the name of the folder].")
@click.option(
    "--speaker-folders",
    is_flag=True,
    help="Take the folder of a file as its speaker where a row names none.",
)
@click.option(
    "--min", "min_s", type=Number(0.05, 300),
    help="Minimum length of a clip in seconds [default: data.min_s of the preset].",
)  # fmt: skip
@click.option(
    "--max", "max_s", type=Number(0.1, 300),
    help="Maximum length of a clip in seconds [default: data.max_s of the preset].",
)  # fmt: skip
@click.option(
    "--max-chars", type=click.IntRange(1, 100_000),
    help="Maximum length of a normalised text, in characters or phonemes [default: 200, or what the model of "
    "the preset has room for if that is less].",
)  # fmt: skip
@click.option(
    "--max-silence", type=Number(0.05, 60), default=0.5, show_default=True,
    help="Report clips with more seconds of silence at an end.",
)  # fmt: skip
@click.option(
    "--preset", default=DEFAULT_PRESET, show_default=True,
    help="Preset to train with: its settings of texts and lengths are used.",
)  # fmt: skip
@set_option
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help=f"List all findings, not only {_MOST_SHOWN} of each kind.",
)
@json_option
@with_home
def voice(
    folders: tuple[Path, ...],
    *,
    out: Path | None,
    replace: bool,
    dry_run: bool,
    show_all: bool,
    as_json: bool,
    home: Home,
    **options: Any,
) -> None:
    """Make training and validation manifests of recordings with texts, and report what is wrong with them.

    A FOLDER holds metadata.csv (id|text, as LJSpeech), train.txt (path|text or path|text|speaker) or JSON lines.
    Nothing in it is changed. Clips that can't be used are left out and listed, and what training makes of the
    texts is shown. Several folders make one corpus, each a voice of its name.
    """
    from engine.data.corpus.manifests import check_out, figures, require_clips, write_corpus

    preset, assignments = options.pop("preset"), options.pop("assignments")
    targets = [expanded(folder).absolute() for folder in folders]
    name = targets[0].stem if targets[0].is_file() else targets[0].name
    out = expanded(out).absolute() if out else Path.cwd() / f"{name}-manifests"
    if not dry_run:
        check_out(out, replace=replace)
    data, room = _settings(
        home, preset, assignments=(*assignments, f"data.train={out}", f"data.valid={out}")
    )
    options["max_chars"] = options["max_chars"] or min(_MOST_CHARACTERS, room)
    corpus = _survey(targets, data, **options)
    about = {"valid": options["share"], "seed": options["seed"]}
    if as_json:
        print_json(
            {"out": None if dry_run else str(out), **plain(figures(corpus, data=data, about=about))}
        )
    else:
        from tui.reports.corpus import report

        for line in report(corpus, data, most=None if show_all else _MOST_SHOWN):
            click.echo(line)
    if dry_run:
        require_clips(corpus)
        return
    write_corpus(corpus, out, data=data, about=about)
    if not as_json:
        click.echo(f"wrote {out / 'train.jsonl'} and {out / 'valid.jsonl'}")
        from engine.config.overrides import set_options

        splits = [f"data.{split}={out / f'{split}.jsonl'}" for split in ("train", "valid")]
        click.echo(
            f"to train on them: sepdash enqueue {preset} {set_options([*splits, *assignments])}"
        )


def _settings(home: Home, preset: str, *, assignments: tuple[str, ...]) -> tuple[TextData, int]:
    """Return the settings of data of a preset, and how many tokens of a text its model has room for."""
    from engine.config.loading import load_data
    from engine.config.overrides import apply_overrides
    from engine.config.text_data import TextData
    from presets.catalogue import Catalogue, PresetError

    try:
        values = Catalogue(home.presets).read(preset)
    except PresetError as error:
        raise click.UsageError(f"--preset: {error}") from None
    if other := next((text for text in assignments if not text.strip().startswith("data.")), None):
        raise click.UsageError(
            f"--set {other}: only settings of data apply here, as in data.case=keep"
        )
    data = load_data(apply_overrides(values, assignments))
    if not isinstance(data, TextData):
        raise click.UsageError(f"--preset {preset}: its data have no texts; use {DEFAULT_PRESET}")
    places = values.get("model", {}).get("max_text")  # with START and STOP
    return data, places - 2 if isinstance(places, int) else _MOST_CHARACTERS


def _survey(
    targets: Sequence[Path],
    data: TextData,
    *,
    share: float,
    seed: int,
    keep_split: bool,
    speaker: str | None,
    **options: Any,
) -> Corpus:
    from engine.data.corpus.survey import Drawing, Limits, survey_corpus

    limits = Limits(
        options["min_s"] or getattr(data, "min_s", 0.5),
        options["max_s"] or getattr(data, "max_s", 20.0),
        max_chars=options["max_chars"],
        silence_s=options["max_silence"],
    )
    if limits.min_s >= limits.max_s:
        raise click.UsageError(f"--min {limits.min_s:g} must be below --max {limits.max_s:g}")
    return survey_corpus(
        targets,
        data,
        limits=limits,
        drawing=Drawing(share, seed=seed, keep=keep_split),
        speaker=speaker or "",
        by_folder=options["speaker_folders"],
        progress=counter_of("listened to {} of {} clips", every=20),
    )
