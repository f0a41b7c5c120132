"""`sepdash sweep`: shows the plan of an experiment and queues its runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
from tui.cli.search import print_refusals, start_search
from tui.reports import night, sweep_records
from tui.reports import sweep as sweep_plan
from tui.reports.formats import clean

if TYPE_CHECKING:
    from jobs.sweeps.prepare import Sweep, Wish
    from presets.experiment_files import ExperimentFile, ExperimentFiles

_EXAMPLES = """\b
Examples:
  sepdash sweep                                      list the experiments
  sepdash sweep audio-unet-10k --dry-run             show runs, lengths and times
  sepdash sweep mine.toml --set data.train=~/speech  queue all runs
  sepdash sweep mine.toml --until 07:30              queue the rounds that end by then
  sepdash sweep mine.toml --rest                     queue the runs that don't exist yet
"""

_OF_NIGHTS = ("until", "budget", "partial", "measure", "rest")
_WHY_NO_NIGHT = (
    "plans a sweep, and {experiment} is a search, whose runs are not known yet; end it when you like with "
    "`sepdash search {name} --stop`"
)
_OF_EXPERIMENTS = (*_OF_NIGHTS, "set", "origins", "dry-run", "yes")


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
@click.option(
    "--until", metavar="TIME",
    help="Queue only what ends by then: 07:30, or '2026-11-28 07:30' (local time). Runs are planned seed "
    "by seed, with the times of earlier runs and what is queued before.",
)  # fmt: skip
@click.option("--budget", metavar="DURATION", help="The same, from now: '9 hours', 90min, 1h30.")
@click.option(
    "--partial", is_flag=True,
    help="Fill the time left with some variants of the next seed.",
)  # fmt: skip
@click.option(
    "--measure", is_flag=True,
    help="First train each config that no earlier run resembles for about 20 s, to know its time.",
)  # fmt: skip
@click.option("--rest", is_flag=True, help="Leave out the runs that exist already.")
@click.option("--yes", is_flag=True, help="Queue without asking for confirmation.")
@json_option
@with_home
def sweep(
    experiment: str | None, *, dry_run: bool, origins: str | None, yes: bool, as_json: bool,
    home: Home, **asked: Any,
) -> None:  # fmt: skip
    """Queue the runs of an experiment, given by name or file; without one, list the experiments.

    Shows the plan first. An experiment with a section [search] starts a search, or continues it.
    """
    from jobs.sweeps.plan import queue_sweep, refusals
    from jobs.sweeps.prepare import prepare_sweep, taken
    from presets.experiment_files import ExperimentFiles as Files

    files = Files(home.presets)
    if experiment is None:
        given = {
            **asked, "set": asked["assignments"], "origins": origins, "dry-run": dry_run, "yes": yes
        }  # fmt: skip
        why = "needs an EXPERIMENT; `sepdash sweep` lists all experiments"
        _refuse(given, _OF_EXPERIMENTS, why=why)
        _print_list(files, as_json=as_json)
        return
    if origins is not None:
        why = "plans runs, and --origins shows settings only; leave one out"
        _refuse(asked, _OF_NIGHTS, why=why)
        _print_origins(
            home, files.open(experiment), variant=origins,
            assignments=asked["assignments"], as_json=as_json,
        )  # fmt: skip
        return
    wish = _wish(**asked)
    name, values = files.read(experiment)
    if "search" in values:
        why = _WHY_NO_NIGHT.format(experiment=experiment, name=name)
        _refuse(asked, _OF_NIGHTS, why=why)
        start_search(
            home, name, values=values, assignments=wish.assignments,
            dry_run=dry_run, yes=yes, as_json=as_json,
        )  # fmt: skip
        return
    found = prepare_sweep(
        home, name, values=values, wish=wish, echo=lambda text: click.echo(text, err=True)
    )
    refused = refusals(found.plan) if dry_run else None
    if as_json:
        print_json(sweep_records.records(found, refused=refused))
    else:
        _print_plan(found, home, experiment=experiment, wish=wish)
    if refused is not None:
        _print_readiness(found, name, refused=refused, as_json=as_json)
        return
    if found.there and not wish.rest:
        raise taken(found.there)
    if not found.runs:
        raise ValueError(night.nothing_fits(found))
    if sys.stdin.isatty() and not yes:
        click.confirm(f"queue {counted(len(found.runs), 'run')}?", abort=True, err=True)
    ids = queue_sweep(home, found.plan)
    which = f"{ids[0]} to {ids[-1]}" if len(ids) > 1 else str(ids[0])
    click.echo(f"{counted(len(ids), 'run')} queued: {which}", err=as_json)
    _print_probe(found, name, err=as_json)


def _print_readiness(found: Sweep, name: str, *, refused: Sequence[str], as_json: bool) -> None:
    """Say, of a plan that is only shown, what would become of it."""
    if not found.runs:
        click.echo(night.nothing_fits(found), err=as_json)
    print_refusals(refused)
    _print_probe(found, name, err=True)


def _print_probe(found: Sweep, name: str, *, err: bool) -> None:
    """Say that the experiment's runs will be probed, if they will, and what may be in the way."""
    if (probe := found.plan.experiment.probe) is not None:
        text = (
            f"once all have ended, the worker probes their features with {clean(str(probe.data))}"
        )
        click.echo(f"{text}: `sepdash probe {clean(name)}`", err=err)
    for text in sweep_plan.probe_warnings(found.plan):
        click.echo(text, err=True)


def _refuse(given: Mapping[str, Any], words: Sequence[str], *, why: str) -> None:
    """Refuse the first option that would be ignored."""
    if ignored := [word for word in words if given[word]]:
        raise click.UsageError(f"--{ignored[0]} {why}")


def _wish(*, until: str | None, budget: str | None, partial: bool, **others: Any) -> Wish:
    from jobs.sweeps.deadline import DeadlineError, parse_budget, parse_until
    from jobs.sweeps.prepare import Wish

    if until is not None and budget is not None:
        raise click.UsageError("--until and --budget are alternatives; give only one of them")
    if partial and until is None and budget is None:
        raise click.UsageError("--partial needs --until or --budget")
    now, deadline, option = time.time(), None, "--until" if until is not None else "--budget"
    try:
        if until is not None:
            deadline = parse_until(until, now=now)
        if budget is not None:
            deadline = now + parse_budget(budget)
    except DeadlineError as error:
        raise DeadlineError(f"{option} {error}") from None
    return Wish(deadline=deadline, partial=partial, **others)


def _print_origins(
    home: Home, file: ExperimentFile, *, variant: str, assignments: tuple[str, ...], as_json: bool
) -> None:
    from jobs.sweeps.origins import variant_origins
    from jobs.sweeps.trial import read_measured
    from presets.catalogue import Catalogue

    settings = variant_origins(
        file, Catalogue(home.presets),
        variant=variant, assignments=assignments, measured=read_measured(home),
    )  # fmt: skip
    print_origins(settings, as_json=as_json)


def _print_list(files: ExperimentFiles, *, as_json: bool) -> None:
    infos = files.list()
    if as_json:
        print_json(infos)
        return
    rows = [[i.name, f"cannot be read: {i.problem}" if i.problem else i.description] for i in infos]
    print_table(["EXPERIMENT", "DESCRIPTION"], rows)


def _print_plan(found: Sweep, home: Home, *, experiment: str, wish: Wish) -> None:
    click.echo(sweep_plan.headline(found))
    if found.runs:
        headers = sweep_plan.HEADERS
        print_table(headers, sweep_plan.rows(found), right=" ".join(headers[1:]))
    totals = [sweep_plan.totals(found.plan, home)] if found.runs else []
    after = night.after(found, experiment, assignments=wish.assignments)
    for text in [*night.before(found), *totals, *after]:
        click.echo(text)
    for text in sweep_plan.warnings(found.plan):
        click.echo(text, err=True)
