"""`sepdash compare`: which variant is better, by how much, and whether the difference is significant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.config.old_names import current_clock
from engine.metrics.registry import BUILT_IN, metric_of
from jobs.home import Home
from models.user_paths import expanded
from tui.cli.common import complete_run, json_option, print_json, with_home
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.store.reader import StoreReader
    from jobs.store.records import RunRecord

_EXAMPLES = """\b
Examples:
  sepdash compare baseline batch2x
  sepdash compare --experiment batch-size --by wall_clock
  sepdash compare --experiment lr --markdown lr.md --plot lr.svg
"""
_FILE = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


class _Clock(click.Choice[str]):
    """A clock by its name, or by the name it had in earlier versions."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(current_clock(value), param, ctx)


@click.command(epilog=_EXAMPLES)
@click.argument("runs", metavar="RUN...", nargs=-1, shell_complete=complete_run)
@click.option("--experiment", help="Compare all runs of this experiment.")
@click.option(
    "--by", type=_Clock(["updates", "items", "epochs", "wall_clock"]), default="items",
    show_default=True, help="Compare at equal progress, measured in updates, training items, epochs or training time.",
)  # fmt: skip
@click.option(
    "--at", "when", type=click.Choice(["best", "final"]), default="best", show_default=True,
    help="Evaluation used for differences and rankings.",
)  # fmt: skip
@click.option(
    "--metric", "metrics", multiple=True,
    help=f"{', '.join(metric.name for metric in BUILT_IN)}; add _full for whole files, _ema for "
    "averaged weights (both: _full_ema). Can be repeated. [default: the main metrics the runs have]",
)  # fmt: skip
@json_option
@click.option(
    "--csv", "csv_file", type=_FILE, help="Write a CSV file with one row per variant and metric."
)
@click.option("--markdown", "markdown_file", type=_FILE, help="Write the tables as Markdown.")
@click.option(
    "--plot", "plot_file", type=_FILE, help="Plot the curves to a .svg, .png or .pdf file."
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
    **options: str | tuple[str, ...],
) -> None:
    """Compare runs, or the variants of an experiment; the first one is the reference.

    Differences are paired by validation item. Their 95 % bootstrap intervals cover the items and, if a
    variant has several seeds, the seeds. Use "-" as FILE for standard output.
    """
    from jobs.comparison.compare import compare as compare_runs
    from jobs.store.reader import StoreReader
    from tui.cli import comparison_tables as tables

    asked = options["metrics"]
    if not asked:
        del options["metrics"]
    if plot_file is not None:
        from tui.cli.plots import check_plot

        check_plot(plot_file)
    with StoreReader(home.store) as reader:
        comparison = compare_runs(reader, _runs(reader, runs, experiment=experiment), **options)  # type: ignore[arg-type]
    # A note reports that the loss is skipped because the runs define it differently.
    absent = [
        name for name in asked if name not in comparison.tables and metric_of(name).family != "loss"
    ]
    if absent:
        raise click.UsageError(f"--metric {absent[0]}: none of these runs was evaluated with it")
    written = [file for file in (csv_file, markdown_file) if file is not None]
    if csv_file is not None:
        _write(csv_file, tables.csv_text(comparison))
    if markdown_file is not None:
        _write(markdown_file, tables.markdown_text(comparison))
    if plot_file is not None:
        from tui.cli.plots import draw

        draw(comparison, plot_file)
    if as_json:
        print_json(comparison)
    elif not any(str(file) == "-" for file in written):
        tables.print_comparison(comparison)


def _runs(
    reader: StoreReader, names: tuple[str, ...], *, experiment: str | None
) -> list[RunRecord]:
    if bool(names) == bool(experiment):
        raise click.UsageError("give either the runs to compare or --experiment NAME")
    if names:
        # Naming a run twice must not count it twice.
        return list({run.id: run for run in map(reader.run, names)}.values())
    known = sorted(reader.runs(), key=lambda run: run.id)
    mine = [run for run in known if run.experiment == experiment]
    chosen = [run for run in mine if run.state != "failed"]
    if failed := ", ".join(formats.clean(run.name) for run in mine if run.state == "failed"):
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


def _write(file: Path, text: str) -> None:
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        expanded(file).write_text(text)
    except OSError as error:
        raise click.UsageError(f"{file} can't be written: {error.strerror}") from None
