"""`sepdash sweep`: shows the plan of an experiment and queues its runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from engine.config.errors import counted
from jobs.home import Home
from tui.cli.common import (
    home_of,
    json_option,
    note_new_names,
    print_json,
    print_origins,
    print_table,
    with_home,
)
from tui.reports import sweep as sweep_plan

if TYPE_CHECKING:
    from jobs.sweeps.plan import Plan
    from presets.experiment_files import ExperimentFiles

_EXAMPLES = """\b
Examples:
  sepdash sweep                                      list the experiments
  sepdash sweep audio-unet-10k --dry-run             show runs, lengths and times
  sepdash sweep mine.toml --set data.train=~/speech  queue all runs
"""


def _complete(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    from presets.experiment_files import ExperimentFiles

    infos = ExperimentFiles(home_of(ctx).presets).list()
    items = [CompletionItem(i.name, help=i.description) for i in infos if i.name.startswith(text)]
    return items or [CompletionItem(text, type="file")]


@click.command(epilog=_EXAMPLES)
@click.argument("experiment", required=False, shell_complete=_complete)
@click.option("--dry-run", is_flag=True, help="Show the plan without queueing runs.")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    callback=note_new_names,
    help="Override a setting in all runs; settings of a variant take precedence. Can be repeated.",
)
@click.option(
    "--origins", metavar="VARIANT",
    help="Show each value of a variant with the file, option or default that set it; queues nothing.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Queue without asking for confirmation.")
@json_option
@with_home
def sweep(
    experiment: str | None,
    *,
    dry_run: bool,
    assignments: tuple[str, ...],
    origins: str | None,
    yes: bool,
    as_json: bool,
    home: Home,
) -> None:
    """Queue the runs of an experiment, given by name or file; without one, list the experiments.

    Shows the plan first.
    """
    from jobs.store.reader import StoreReader
    from jobs.sweeps.measured import Measured
    from jobs.sweeps.origins import variant_origins
    from jobs.sweeps.plan import plan_sweep, queue_sweep
    from presets.catalogue import Catalogue
    from presets.experiment_files import ExperimentFiles as Files

    files = Files(home.presets)
    if experiment is None:
        if origins is not None:
            raise click.UsageError("--origins needs an EXPERIMENT")
        _print_list(files, as_json=as_json)
        return
    name, values = files.read(experiment)
    with StoreReader(home.store) as reader:
        measured = Measured.of(reader)
    if origins is not None:
        settings = variant_origins(
            files.open(experiment), Catalogue(home.presets),
            variant=origins, assignments=assignments, measured=measured,
        )  # fmt: skip
        print_origins(settings, as_json=as_json)
        return
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
        click.confirm(f"queue {counted(len(plan.runs), 'run')}?", abort=True, err=True)
    ids = queue_sweep(home, plan)
    click.echo(f"{counted(len(ids), 'run')} queued: {ids[0]} to {ids[-1]}", err=as_json)


def _print_list(files: ExperimentFiles, *, as_json: bool) -> None:
    infos = files.list()
    if as_json:
        print_json(infos)
        return
    rows = [[i.name, f"cannot be read: {i.problem}" if i.problem else i.description] for i in infos]
    print_table(["EXPERIMENT", "DESCRIPTION"], rows)


def _print_plan(plan: Plan, home: Home) -> None:
    click.echo(sweep_plan.headline(plan))
    headers = sweep_plan.HEADERS
    print_table(headers, sweep_plan.rows(plan), right=" ".join(headers[1:]))
    click.echo(sweep_plan.totals(plan, home))
    for text in sweep_plan.warnings(plan):
        click.echo(text, err=True)


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
                "items": run.items,
                "audio_seconds": run.audio_seconds,
                "epochs": run.epochs or None,
                "seconds": run.seconds,
                "size_bytes": run.size_bytes,
                "warnings": run.warnings,
                "config": run.config.to_dict(),
            }
            for run in plan.runs
        ],
    }
