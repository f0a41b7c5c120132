"""`sepdash compare`: which variant is better, by how much, and what limits the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.config.errors import nearest
from engine.config.old_names import current_clock
from engine.metrics.registry import (
    BUILT_IN,
    CURVE_UNITS,
    compared_names,
    headlines,
    metric_of,
    training_names,
)
from jobs.home import Home
from tui.cli.common import complete_run, json_option, print_json, with_home, write_file
from tui.cli.margins import read_margins
from tui.cli.paths import UserPath
from tui.reports import formats
from tui.reports.comparison import of_experiment

if TYPE_CHECKING:
    from jobs.comparison.result import Comparison
    from jobs.store.reader import StoreReader
    from jobs.store.records import RunRecord

_EXAMPLES = """\b
Examples:
  sepdash compare baseline batch2x
  sepdash compare --experiment batch-size --by wall_clock
  sepdash compare --experiment lr --markdown lr.md --plot lr.svg
  sepdash compare --experiment lr --margin "0.2 dB"
"""
_FILE = UserPath(dir_okay=False, allow_dash=True)


class _Clock(click.Choice[str]):
    """A clock by its name, or by the name it had in earlier versions."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(current_clock(value), param, ctx)


def _default_margins() -> str:
    return ", ".join(f"{m.margin * m.scale:g} {m.unit} of {m.title}" for m in headlines())


@click.command(epilog=_EXAMPLES)
@click.argument("runs", metavar="RUN...", nargs=-1, shell_complete=complete_run)
@click.option("--experiment", help="Compare all runs of this experiment.")
@click.option(
    "--by", type=_Clock(["updates", "items", "epochs", "wall_clock"]), default="items",
    show_default=True, help="Compare at equal progress, measured in updates, training items, epochs or training time.",
)  # fmt: skip
@click.option(
    "--at", "when", type=click.Choice(["best", "final"]), default="best", show_default=True,
    help="Evaluation of each run that is compared; the best is chosen among the same number for all runs.",
)  # fmt: skip
@click.option(
    "--metric", "metrics", multiple=True,
    help=f"{', '.join(metric.name for metric in BUILT_IN)}; add _full for whole files, _ema for "
    "averaged weights (both: _full_ema). Can be repeated; the first one decides. [default: the main metrics the runs have]",
)  # fmt: skip
@click.option(
    "--margin", "margins", multiple=True, metavar="[METRIC=]SIZE",
    help='Smallest difference that counts, with its unit: "0.1 dB", or for one metric "wer=0.2 %". '
    f"Can be repeated. [default: {_default_margins()}; every metric has its own]",
)  # fmt: skip
@click.option(
    "--min-seeds", type=int, default=2, show_default=True,
    help="Seeds that each variant needs for a verdict, at least 2.",
)  # fmt: skip
@json_option
@click.option(
    "--csv", "csv_file", type=_FILE, help="Write a CSV file with one row per variant and metric."
)
@click.option("--markdown", "markdown_file", type=_FILE, help="Write the tables as Markdown.")
@click.option(
    "--plot",
    "plot_file",
    type=_FILE,
    help="Plot curves, runs and differences to a .svg, .png or .pdf file.",
)
@with_home
def compare(
    runs: tuple[str, ...],
    *,
    experiment: str | None,
    as_json: bool,
    home: Home,
    csv_file: Path | None,
    markdown_file: Path | None,
    plot_file: Path | None,
    **options: Any,
) -> None:
    """Compare runs, or the variants of an experiment; the first one is the reference.

    Runs that differ in their seed alone are one variant. With two or more seeds of each variant, the
    verdict is about the variants: better, worse, equivalent or undecided. With one seed, it is about
    these trained models only. The first table decides; the others are exploratory. Use "-" as FILE for
    standard output.
    """
    from jobs.store.reader import StoreReader
    from tui.cli import comparison_tables as tables

    if as_json + sum(str(file) == "-" for file in (csv_file, markdown_file)) > 1:
        raise click.UsageError(
            "only one of --json, --csv - and --markdown - can use standard output"
        )
    if plot_file is not None:
        from tui.cli.plots import check_plot

        check_plot(plot_file)
    with StoreReader(home.store) as reader:
        comparison = _compared(reader, _runs(reader, runs, experiment=experiment), **options)
    written = [file for file in (csv_file, markdown_file) if file is not None]
    if csv_file is not None:
        write_file(csv_file, tables.csv_text(comparison))
    if markdown_file is not None:
        write_file(markdown_file, tables.markdown_text(comparison))
    if plot_file is not None:
        from tui.cli.plots import draw

        draw(comparison, plot_file)
    if as_json:
        print_json(tables.json_value(comparison))
    elif not any(str(file) == "-" for file in written):
        tables.print_comparison(comparison)


def _compared(
    reader: StoreReader,
    runs: list[RunRecord],
    *,
    metrics: tuple[str, ...],
    margins: tuple[str, ...],
    min_seeds: int,
    **options: Any,
) -> Comparison:
    """Compare runs, after a check of what was asked for."""
    from jobs.comparison.compare import compare as compare_runs
    from jobs.comparison.inference import FEWEST_SEEDS
    from jobs.meaning import differing_settings

    if min_seeds < FEWEST_SEEDS:
        raise click.UsageError(
            f"--min-seeds {min_seeds}: a verdict needs at least {FEWEST_SEEDS} seeds of each variant"
        )
    asked = tuple(dict.fromkeys(metrics))
    have = _measured(reader, runs)
    if have and (absent := [name for name in asked if name not in have]):
        raise click.UsageError(
            f"--metric {absent[0]}: none of these runs was evaluated with it; they have {', '.join(have)}"
            + nearest(absent[0], have)
        )
    if margins and have:
        names = asked or [name for name in compared_names() if name in have]
        decides = asked[0] if asked else runs[0].metric
        options["margins"] = read_margins(margins, names, decides=decides)
    comparison = compare_runs(reader, runs, metrics=asked or None, min_seeds=min_seeds, **options)
    if not comparison.tables:
        reasons = "; ".join(f"{name}: {why}" for name, why in comparison.refused.items())
        configs = [reader.config(run.id) for run in runs]
        others = [
            name
            for name in have
            if not (metric_of(name).of_input or differing_settings(name, configs))
        ]
        hint = f". Compare by another metric, such as --metric {others[0]}" if others else ""
        raise click.UsageError(f"not comparable by {reasons}{hint}")
    return comparison


def _measured(reader: StoreReader, runs: list[RunRecord]) -> list[str]:
    """Return the metrics by which any of the runs was evaluated."""
    found: dict[str, None] = {}
    for run in runs:
        latest = reader.latest(run.id)
        curves = {*CURVE_UNITS, *training_names(latest)}
        found |= dict.fromkeys(name for name in latest if name not in curves)
    main = [name for name in compared_names() if name in found]
    return main + sorted(found.keys() - set(main))


def _runs(
    reader: StoreReader, names: tuple[str, ...], *, experiment: str | None
) -> list[RunRecord]:
    if bool(names) == bool(experiment):
        raise click.UsageError("give either the runs to compare or --experiment NAME")
    if names:
        units = {metric.unit.casefold() for metric in BUILT_IN if metric.unit}
        if unit := next((name for name in names if name.casefold() in units), ""):
            raise click.UsageError(
                f"--margin: quote the number with its unit, such as '0.1 {unit}'"
            )
        # Naming a run twice must not count it twice.
        return list({run.id: run for run in map(reader.run, names)}.values())
    known = reader.runs()
    chosen, lost = of_experiment(known, experiment or "")
    if failed := ", ".join(formats.clean(run.name) for run in lost):
        click.echo(
            f"skipped failed runs: {failed}; to include them, list all runs by name", err=True
        )
    if not chosen:
        from difflib import get_close_matches

        have = sorted({run.experiment for run in known if run.experiment})
        close = get_close_matches(experiment or "", have, n=1)
        hint = (
            f", did you mean {close[0]!r}?"
            if close
            else f"; available: {', '.join(have) or 'none'}"
        )
        raise click.UsageError(f"no runs of experiment {experiment!r}{hint}")
    return chosen
