"""`sepdash sweep`: the plan of an experiment, and its runs into the queue."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from jobs.home import Home
from tui import formats
from tui.cli.common import home_of, json_option, print_json, print_table, with_home

if TYPE_CHECKING:
    from jobs.sweeps.plan import Plan
    from presets.experiment_files import ExperimentFiles

_EXAMPLES = """\b
Examples:
  sepdash sweep                                      the experiments there are
  sepdash sweep audio-unet-10k --dry-run             what it would train, and how long
  sepdash sweep mine.toml --set data.train=~/speech  queue all of its runs
"""
_HEADERS = ("RUN", "SEED", "ITEMS", "UPDATES", "SAMPLES", "AUDIO", "TIME", "DISK")


def _complete(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    from presets.experiment_files import ExperimentFiles

    found = ExperimentFiles(home_of(ctx).presets).list()
    items = [CompletionItem(i.name, help=i.description) for i in found if i.name.startswith(text)]
    return items or [CompletionItem(text, type="file")]


@click.command(epilog=_EXAMPLES)
@click.argument("experiment", required=False, shell_complete=_complete)
@click.option("--dry-run", is_flag=True, help="Show the plan and queue nothing.")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting of all runs; those of the variants win. May be repeated.",
)
@click.option("--yes", is_flag=True, help="Queue without asking.")
@json_option
@with_home
def sweep(
    experiment: str | None,
    *,
    dry_run: bool,
    assignments: tuple[str, ...],
    yes: bool,
    as_json: bool,
    home: Home,
) -> None:
    """Queue the runs of an experiment: a file or a name; list the experiments without one.

    The plan is shown first.
    """
    from jobs.store.reader import StoreReader
    from jobs.sweeps.measured import Measured
    from jobs.sweeps.plan import plan_sweep, queue_sweep
    from presets.catalogue import Catalogue
    from presets.experiment_files import ExperimentFiles as Files

    files = Files(home.presets)
    if experiment is None:
        _print_list(files, as_json=as_json)
        return
    name, values = files.read(experiment)
    with StoreReader(home.store) as reader:
        measured = Measured.of(reader)
    plan = plan_sweep(
        name, values, Catalogue(home.presets), assignments=assignments, measured=measured
    )
    if as_json:
        print_json(_as_records(plan))
    else:
        _print_plan(plan, home)
    if dry_run:
        return
    if sys.stdin.isatty() and not yes:
        click.confirm(f"queue {_count(len(plan.runs), 'run')}?", abort=True, err=True)
    ids = queue_sweep(home, plan)
    click.echo(f"{_count(len(ids), 'run')} queued: {ids[0]} to {ids[-1]}", err=as_json)


def _print_list(files: ExperimentFiles, *, as_json: bool) -> None:
    found = files.list()
    if as_json:
        print_json(found)
        return
    rows = [[i.name, f"cannot be read: {i.problem}" if i.problem else i.description] for i in found]
    print_table(["EXPERIMENT", "WHAT IT COMPARES"], rows)


def _print_plan(plan: Plan, home: Home) -> None:
    experiment = plan.experiment
    matched = "each as long as it says"
    if experiment.match != "none":
        scaled = "stretched" if experiment.scale_schedules else "as written"
        matched = f"matched in {experiment.match}, schedules {scaled}"
    click.echo(f"{plan.name}: {_count(len(plan.runs), 'run')} of {experiment.base}, {matched}")
    rows = [
        [
            run.name,
            str(run.seed),
            str(run.config.batch.items),
            str(run.updates),
            str(run.samples),
            f"{run.audio_seconds / 3600:.1f} h",
            formats.duration(run.seconds),
            formats.size(run.size_bytes),
        ]
        for run in plan.runs
    ]
    print_table(_HEADERS, rows, right=" ".join(_HEADERS[1:]))
    click.echo(_totals(plan, home))
    told = dict.fromkeys((run.variant, text) for run in plan.runs for text in run.warnings)
    for variant, text in told:
        click.echo(f"warning: {variant}: {text}", err=True)


def _totals(plan: Plan, home: Home) -> str:
    """Return the line below the table; a sum over runs that are not all known says so."""
    audio_h = sum(run.audio_seconds for run in plan.runs) / 3600
    words = [f"in all {sum(run.updates for run in plan.runs)} updates", f"{audio_h:.1f} h of audio"]
    seconds = [run.seconds for run in plan.runs if run.seconds is not None]
    sizes = [run.size_bytes for run in plan.runs if run.size_bytes is not None]
    unknown = len(plan.runs) - len(seconds)
    if seconds:
        words.append(f"about {formats.duration(sum(seconds))}, from earlier runs")
    if unknown:
        words.append(f"no earlier run tells the time of {unknown}")
    folder = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = formats.size(shutil.disk_usage(Path(folder)).free)
    words.append(
        f"{formats.size(sum(sizes))} of {free} free disk" if sizes else f"{free} disk free"
    )
    return ", ".join(words)


def _as_records(plan: Plan) -> dict[str, object]:
    return {
        "experiment": plan.name,
        "base": plan.experiment.base,
        "match": plan.experiment.match,
        "scale_schedules": plan.experiment.scale_schedules,
        "runs": [
            {
                "name": run.name,
                "variant": run.variant,
                "seed": run.seed,
                "updates": run.updates,
                "samples": run.samples,
                "audio_seconds": run.audio_seconds,
                "seconds": run.seconds,
                "size_bytes": run.size_bytes,
                "warnings": run.warnings,
                "config": run.config.to_dict(),
            }
            for run in plan.runs
        ],
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
