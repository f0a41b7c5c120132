"""`sepdash lr-find`: a short range test for the learning rate of a preset."""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from jobs.home import Home
from tui.cli.common import (
    device_option,
    json_option,
    preset_argument,
    print_json,
    set_option,
    with_home,
)
from tui.cli.numbers import Number
from tui.cli.paths import UserPath

if TYPE_CHECKING:
    from jobs.lr_range import LrResult, Progress

_EXAMPLES = """\b
Examples:
  sepdash lr-find denoise/small --set data.train=~/speech/train --set data.noise=~/noise
  sepdash lr-find stems/vocals --min 1e-5 --max 0.1 --updates 200 --plot lr.svg
  sepdash lr-find transducer/digits --set batch.seconds=120 --json
"""
_COLUMNS, _ROWS = 100, 18
_LR = Number(0, 100, min_open=True)


@click.command("lr-find", epilog=_EXAMPLES)
@preset_argument()
@set_option
@click.option(
    "--min", "low", type=_LR, default=1e-6, show_default=True, help="Lowest learning rate."
)
@click.option(
    "--max", "high", type=_LR, default=1.0, show_default=True, help="Highest learning rate."
)
@click.option(
    "--updates", type=click.IntRange(20, 10_000), default=200, show_default=True,
    help="Length of the test; more updates smooth the curve better.",
)  # fmt: skip
@device_option()
@click.option(
    "--plot", "plot_file", metavar="FILE", type=UserPath(dir_okay=False),
    help="Draw the curve to FILE (.svg, .png or .pdf; needs matplotlib).",
)  # fmt: skip
@json_option
@with_home
def lr_find(
    preset: str, *, assignments: tuple[str, ...], device: str, plot_file: Path | None,
    as_json: bool, home: Home, **limits: Any,
) -> None:  # fmt: skip
    """Suggest a learning rate for a preset, by a short range test.

    Trains from the start of the run while the learning rate grows exponentially, without schedule,
    warm-up and averaging; gradient clipping is as set. Nothing is queued or stored.
    """
    from engine.config.overrides import config_with
    from jobs.lr_range import LrTest, find_lr
    from presets.catalogue import Catalogue
    from tui.cli.plots import check_plot
    from tui.reports.lr_range import summary

    test = LrTest(**limits)
    # NaN is in every range of click.
    if not test.low * 2 <= test.high:
        raise click.UsageError(
            f"--min {test.low:g} and --max {test.high:g}: expected a maximum of at least twice the minimum"
        )
    if plot_file is not None:
        check_plot(plot_file)
    config = config_with(Catalogue(home.presets).read(preset), assignments)
    teller = _Teller(test.updates)
    result = find_lr(home, config, test=test, device=device, emit=teller.tell)
    if as_json:
        print_json(_record(result))
    else:
        click.echo(_chart(result))
        click.echo("\n".join(summary(result, test.updates)))
    # Last: what took minutes is not lost with a file that can't be written.
    if plot_file is not None:
        _draw(result, plot_file, title=preset)


class _Teller:
    """Prints progress to stderr: one line that is rewritten in a terminal, a few lines elsewhere."""

    def __init__(self, updates: int) -> None:
        self._updates = updates
        self._count = 0

    def tell(self, progress: Progress) -> None:
        from tui.reports import formats
        from tui.reports.lr_range import progress as line

        if progress.point is None:
            word = "warning: " if progress.is_warning else ""
            click.echo(f"{word}{formats.clean(progress.text)}", err=True)
            return
        self._count += 1
        text = line(self._count, self._updates, point=progress.point)
        if sys.stderr.isatty():
            end = "\n" if self._count == self._updates else ""
            click.echo(f"\r{text:<72}{end}", nl=False, err=True)
        elif self._count % max(1, self._updates // 5) == 0:
            click.echo(text, err=True)


def _chart(result: LrResult) -> str:
    from tui.widgets.charts.lr_range import lr_text

    width = min(_COLUMNS, get_terminal_size().columns)
    begin = "\n" if sys.stderr.isatty() else ""
    return begin + lr_text(result.points, result.finding, width=width, height=_ROWS)


def _record(result: LrResult) -> dict[str, object]:
    finding = result.finding
    return {
        "device": result.device,
        "suggestion": finding.suggestion,
        "reason": finding.reason,
        "minimum": finding.minimum,
        "divergence": finding.divergence,
        "noise": finding.noise,
        "points": [
            {"lr": point.lr, "loss": point.loss, "smooth": smooth, "grad_norm": point.grad_norm}
            for point, smooth in zip(result.points, finding.smooth, strict=True)
        ],
        "set": [] if finding.suggestion is None else [f"optimizer.lr={finding.suggestion:g}"],
    }


def _draw(result: LrResult, file: Path, *, title: str) -> None:
    from matplotlib.figure import Figure

    from tui.cli.plots import save

    finding = result.finding
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    chart = figure.subplots()
    lrs = [point.lr for point in result.points]
    chart.plot(
        lrs, [point.loss for point in result.points], color="0.7", linewidth=0.8, label="loss"
    )
    chart.plot(lrs, finding.smooth, color="C0", linewidth=1.6, label="smoothed")
    for at, label, colour in (
        (finding.suggestion, "suggestion", "C2"),
        (finding.minimum, "lowest", "0.4"),
        (finding.divergence, "divergence", "C3"),
    ):
        if at is not None:
            chart.axvline(
                at, color=colour, linestyle="--", linewidth=1.0, label=f"{label} {at:.2g}"
            )
    finite = [value for value in finding.smooth if value == value]
    if finite:
        low, high = min(finite), max(finite[: max(1, len(finite) // 5)])
        room = max(high - low, 1e-9)
        chart.set_ylim(low - 0.3 * room, high + 1.0 * room)
    chart.set_xscale("log")
    chart.set_xlabel("learning rate")
    chart.set_ylabel("training loss")
    chart.set_title(title)
    chart.grid(visible=True, alpha=0.25)
    chart.legend(loc="best", fontsize="small")
    save(figure, file)
