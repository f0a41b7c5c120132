"""`sepdash probe`: did pre-training help? Linear probes, ABX and clusters of frozen features."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.home import Home
from models.user_paths import expanded
from tui.cli.checkpoints import locate_checkpoint
from tui.cli.common import (
    checkpoint_option,
    complete_model,
    device_option,
    json_option,
    print_json,
    with_home,
    write_file,
)
from tui.cli.paths import UserPath
from tui.reports import probing as words
from tui.reports.formats import aligned, clean

if TYPE_CHECKING:
    from jobs.probing.probe import Model, Progress
    from jobs.probing.result import ProbeResult

_EXAMPLES = """\b
Examples:
  sepdash probe hubert-small --data ~/digits              <speaker>/<label>_<take>.flac
  sepdash probe run-a run-b --data words.jsonl            two runs, MFCC, and both untrained
  sepdash probe hubert-small --data train.jsonl --test test.jsonl --csv probe.csv
"""


@click.command(epilog=_EXAMPLES)
@click.argument(
    "models",
    metavar="RUN|CHECKPOINT|EXPERIMENT...",
    nargs=-1,
    required=True,
    shell_complete=complete_model,
)
@click.option(
    "--data", metavar="PATH", type=UserPath(),
    help="Labelled recordings; without it, the result that [probe] of EXPERIMENT asked for is shown. A "
    "manifest (.jsonl) with path, speaker and text (one word) or words; a "
    "folder that `sepdash data digits` wrote; or a folder of <speaker>/<label>_<take>.<extension>.",
)  # fmt: skip
@click.option(
    "--test", metavar="PATH", type=UserPath(),
    help="Manifest of test recordings; all of --data trains the probes [default: some takes of --data].",
)  # fmt: skip
@checkpoint_option(of="each run")
@click.option(
    "--layer", "layers", type=click.IntRange(0, 1000), multiple=True,
    help="Layer to measure; 0 is the input of layer 1. Can be repeated [default: all].",
)  # fmt: skip
@click.option("--no-baselines", is_flag=True, help="Leave out MFCC and the untrained networks.")
@click.option(
    "--clusters", type=click.IntRange(2, 10_000), default=100, show_default=True,
    help="Number of clusters for PNMI and purity.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(10, 1_000_000), default=2_000, show_default=True,
    help="Maximum number of recordings for training, and for testing; of more, a sample is used.",
)  # fmt: skip
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of clusters and samples.",
)
@device_option()
@click.option(
    "--csv", "csv_file", type=UserPath(dir_okay=False),
    help="Also write all values and comparisons to a CSV file; - writes them to standard output instead.",
)  # fmt: skip
@json_option
@with_home
def probe(
    models: tuple[str, ...],
    *,
    data: Path | None,
    test: Path | None,
    csv_file: Path | None,
    as_json: bool,
    home: Home,
    **asked: Any,
) -> None:
    """Measure what the features of pre-trained models are worth, without fine-tuning.

    For each layer: linear probes for words and speakers, ABX errors, and how well clusters agree with
    words; beside it MFCC and the same network untrained. Several seeds of a run give a verdict.
    """
    to_stdout = str(csv_file) == "-"
    if as_json and to_stdout:
        raise click.UsageError("only one of --json and --csv - can use standard output")
    if csv_file is not None and not expanded(csv_file).absolute().parent.is_dir():
        # Now, not after minutes of measuring.
        raise click.UsageError(f"{csv_file} can't be written: its folder does not exist")
    if data is None:
        result = _kept(home, models)
    else:
        result = _probed(home, models, data=data, test=test, **asked)
    # Shown first: a table that can't be written loses nothing then.
    if as_json:
        print_json(result)
    elif not to_stdout:
        print_result(result)
    if csv_file is not None:
        write_file(csv_file, csv_text(result))
        if not to_stdout:
            click.echo(f"wrote {csv_file}", err=True)


def _kept(home: Home, names: tuple[str, ...]) -> ProbeResult:
    """Return the result of an experiment's own probe."""
    from jobs.probing.serving import kept_result
    from jobs.sweeps.probe_requests import request_path

    found = kept_result(home, names[0]) if len(names) == 1 else None
    if found is not None:
        return found
    if len(names) == 1 and request_path(home, names[0]).exists():
        raise click.UsageError(
            f"the probe of {names[0]} is made by `sepdash worker` once all of its runs have ended"
        )
    raise click.UsageError(
        "--data is missing: name labelled recordings, a manifest (.jsonl) or a folder of "
        "<speaker>/<label>_<take>.<extension>"
    )


def _probed(
    home: Home, models: tuple[str, ...], *, data: Path, test: Path | None, **asked: Any
) -> ProbeResult:
    from jobs.probing.probe import BASELINES, ProbeJob, run_probe

    found = tuple(find_models(home, models, kind=asked.pop("kind")))
    device, bare = asked.pop("device"), asked.pop("no_baselines")
    job = ProbeJob(
        found, expanded(data).absolute(), test=None if test is None else expanded(test).absolute(),
        baselines=() if bare else BASELINES, **asked,
    )  # fmt: skip
    return run_probe(job, device=device, emit=Shown())


def find_models(home: Home, names: tuple[str, ...], *, kind: str | None) -> list[Model]:
    """Return the checkpoints that are meant; runs of one experiment's variant share a variant."""
    from jobs.comparison.evaluations import variants_of
    from jobs.probing.probe import Model
    from jobs.store.errors import UnknownRun
    from jobs.store.reader import StoreReader

    folders = {name: locate_checkpoint(home, name, kind=kind) for name in dict.fromkeys(names)}
    runs = {}
    with StoreReader(home.store) as reader:
        for name in folders:
            try:
                run = reader.run(name)
            except UnknownRun:
                continue
            if folders[name].is_relative_to(home.run_folder(run.id)):
                runs[name] = (run, reader.config(run.id))
    variants = variants_of(list(runs.values()))
    # Checkpoints of different runs have the same name.
    names_of = Counter(folder.name for folder in folders.values())
    return [
        Model(runs[name][0].name, folder, variant=variants[runs[name][0].id], seed=runs[name][0].seed)
        if name in runs
        else Model(name if names_of[folder.name] > 1 else folder.name, folder, variant=name, seed=0)
        for name, folder in folders.items()
    ]  # fmt: skip


def print_result(result: ProbeResult) -> None:
    """Print the table, the comparisons and the notes."""
    for text in words.about(result):
        click.echo(text)
    click.echo("")
    for text in aligned(words.headers(result), list(words.rows(result)), right=words.right(result)):
        click.echo(text)
    click.echo("")
    for text in [*words.verdicts(result), "", words.legend(), *map(clean, result.notes)]:
        click.echo(text)


def csv_text(result: ProbeResult) -> str:
    """Return all values and comparisons as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, words.COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(words.records(result))
    return stream.getvalue()


class Shown:
    """Shows progress: one line that is written anew on a terminal, else a line for each encoder's stage."""

    def __init__(self) -> None:
        self._last = ("", "")

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        text = f"{clean(progress.encoder)}: {progress.what} {progress.done} of {progress.total}"
        if sys.stderr.isatty():
            end = "\n" if progress.what == "probes" and progress.done == progress.total else ""
            click.echo(f"\r{text:<72}{end}", nl=False, err=True)
        elif self._last != (progress.encoder, progress.what):
            self._last = (progress.encoder, progress.what)
            click.echo(f"{clean(progress.encoder)}: {progress.what}", err=True)
