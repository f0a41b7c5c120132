"""`sepdash search`: lists searches, shows one with its verdict, stops or removes it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from engine.config.errors import counted
from jobs.home import Home
from tui.cli.common import home_of, json_option, plain, print_json, print_table, with_home
from tui.reports import formats
from tui.reports import search as report
from tui.reports.sweep import warnings

if TYPE_CHECKING:
    from jobs.comparison.result import Comparison
    from jobs.searches.overview import Overview
    from jobs.store.reader import StoreReader

_EXAMPLES = """\b
Examples:
  sepdash sweep lr.toml            start a search, or continue it: a file with [search]
  sepdash search                   list the searches
  sepdash search lr                show trials, the best settings, what they are worth
  sepdash search lr --stop         stop it and its runs; `sepdash sweep lr.toml` continues
"""


def _complete(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    from jobs.searches.overview import summaries

    return [
        CompletionItem(s.name, help=s.state)
        for s in summaries(home_of(ctx))
        if s.name.startswith(text)
    ]


@click.command(epilog=_EXAMPLES)
@click.argument("name", required=False, shell_complete=_complete)
@click.option(
    "--stop", "stops", is_flag=True, help="Stop the search and its runs; they can be continued."
)
@click.option(
    "--remove", "removes", is_flag=True, help="Remove the search, its runs and their files."
)
@click.option("--keep-runs", is_flag=True, help="With --remove: keep the runs.")
@click.option("--yes", is_flag=True, help="Remove without asking for confirmation.")
@json_option
@with_home
def search(
    name: str | None,
    *,
    stops: bool,
    removes: bool,
    keep_runs: bool,
    yes: bool,
    as_json: bool,
    home: Home,
) -> None:
    """List searches for good settings, or show one: its trials, and what the best settings are worth.

    The worker proposes the next trial when nothing else is queued, and runs the best settings again with
    fresh seeds at the end: the verdict is about those runs only.
    """
    if stops and removes:
        raise click.UsageError("give either --stop or --remove")
    if name is None and (stops or removes):
        raise click.UsageError("--stop and --remove need the NAME of a search")
    if keep_runs and not removes:
        raise click.UsageError("--keep-runs needs --remove")
    if name is None:
        _list(home, as_json=as_json)
    elif stops:
        _stop(home, name)
    elif removes:
        _remove(home, name, keep_runs=keep_runs, yes=yes)
    else:
        _show(home, name, as_json=as_json)


def start_search(
    home: Home, name: str, *, values: Mapping[str, Any], assignments: tuple[str, ...],
    dry_run: bool, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show the plan of a search, then start or continue it: `sepdash sweep` with such a file."""
    from jobs.searches.control import start
    from jobs.sweeps.plan import check_sweep, plan_sweep, refusals
    from jobs.sweeps.trial import read_measured
    from presets.catalogue import Catalogue

    plan = plan_sweep(
        name, values, Catalogue(home.presets), assignments=assignments, measured=read_measured(home)
    )
    check_sweep(home, plan)
    if as_json:
        print_json(report.plan_record(plan))
    else:
        click.echo("\n".join(report.plan_lines(plan)))
        for text in warnings(plan):
            click.echo(text, err=True)
    if dry_run:
        print_refusals(refusals(plan))
        return
    if sys.stdin.isatty() and not yes:
        click.confirm(f"search {name}?", abort=True, err=True)
    click.echo(start(home, plan), err=as_json)


def print_refusals(refused: Sequence[str]) -> None:
    """Print to stderr what keeps runs that were only planned from being queued."""
    if refused:
        click.echo("not ready to be queued:", err=True)
    for text in refused:
        click.echo(f"  {formats.clean(text)}", err=True)


def _list(home: Home, *, as_json: bool) -> None:
    from jobs.searches.overview import summaries

    found = summaries(home)
    if as_json:
        print_json(found)
    elif found:
        print_table(report.LIST_HEADERS, [report.list_row(item) for item in found], right="TRIALS")
    else:
        click.echo(
            "no searches; start one with `sepdash sweep FILE`, where FILE has a section [search]"
        )


def _stop(home: Home, name: str) -> None:
    from jobs.searches import control

    stopped = control.stop(home, name)
    click.echo(f"search {name} is stopped, with {counted(stopped, 'run')}")


def _remove(home: Home, name: str, *, keep_runs: bool, yes: bool) -> None:
    from jobs.searches import control

    control.find(home, name)
    runs = [] if keep_runs else control.runs_of(home, name)
    if sys.stdin.isatty() and not yes:
        what = f" with {counted(len(runs), 'run')} and their checkpoints" if runs else ""
        click.confirm(f"remove search {name}{what}?", abort=True, err=True)
    removed = control.remove(home, name, keep_runs=keep_runs)
    click.echo(f"search {name} is removed, with {counted(removed, 'run')}")


def _show(home: Home, name: str, *, as_json: bool) -> None:
    from jobs.searches.overview import overview
    from jobs.store.reader import StoreReader

    with StoreReader(home.store) as reader:
        view = overview(home, name, reader=reader)
        verdict = _verdict(reader, view)
    if as_json:
        print_json(_record(view, verdict))
        return
    click.echo(report.headline(view))
    headers = report.trial_headers(view)
    right = " ".join(["RUN", "DONE", *headers[4:-1]])
    print_table(headers, [report.trial_row(view, row) for row in view.trials], right=right)
    if line := report.importance_line(view):
        click.echo(f"\n{line}")
    if view.confirmed:
        click.echo(f"\n{report.bias_line(view)}")
        print_table(*report.confirmed_table(view), right=report.CONFIRMED_RIGHT)
    if verdict is not None:
        from tui.cli.comparison_tables import print_comparison

        click.echo("\nverdict on the confirming runs only:")
        print_comparison(verdict)


def _verdict(reader: StoreReader, view: Overview) -> Comparison | None:
    """Compare the confirming runs with those of the base; None before there is anything to compare."""
    from jobs.comparison.compare import compare

    ended = [run for run in view.runs if run.state == "finished"]
    if len({run.variant for run in ended}) < 2:
        return None
    clock = view.definition.clock
    by = clock if clock in ("updates", "items", "epochs") else "items"
    return compare(reader, ended, by=by, when="final", metrics=[view.definition.metric])  # type: ignore[arg-type]


def _record(view: Overview, verdict: Comparison | None) -> dict[str, object]:
    definition = view.definition
    return {
        "name": definition.name,
        "state": definition.state,
        "message": definition.message,
        "metric": definition.metric,
        "search": definition.search.model_dump(mode="json"),
        "best": view.best,
        "trials": view.trials,
        "importances": view.importances,
        "confirmed": [
            {
                **plain(item),
                "mean": item.mean,
                "deviation": item.deviation,
                "best_of": view.num_finished,
            }
            for item in view.confirmed
        ],
        "note": formats.clean(report.bias_line(view)),
        "verdict": verdict,
    }
