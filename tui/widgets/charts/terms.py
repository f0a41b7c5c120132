"""The terms of a loss as plots of their own, one below the other, the total last and faint. Pure functions.

Which losses have terms, in which order they are read and how, is declared with their metrics
(`engine.metrics.metric.Reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from engine.metrics.registry import evaluated_name, metric_of, reading_of
from tui.live.messages import RunData
from tui.widgets.charts.curves import line_of
from tui.widgets.charts.dotted import of_training_items, references
from tui.widgets.charts.figure import Line, Plot, parts, together
from tui.widgets.charts.groups import Group, groups_of
from tui.widgets.charts.view import View

TOTAL = "Total loss"


def terms_of(item: RunData) -> tuple[str, ...]:
    """Return the training metrics that are terms of a run's loss, in the order in which they are drawn."""
    return reading_of(item.curves, item.config).order


def divided(total: Plot, item: RunData, *, terms: Sequence[Plot]) -> Plot:
    """Return the plots of the terms with that of the total below; without terms, the total.

    What is only in the legend of the total comes into the first one. Runs without terms are apart from all.
    """
    if not terms:
        return total
    first, *others = terms
    read = tuple(line for line in total.lines if not line.drawn)
    faint = tuple(replace(line, faint=True) for line in total.lines if line.drawn)
    last = replace(total, title=TOTAL, lines=faint)
    drawn = {line.label for part in parts(first) for line in part.lines if len(line.x)}
    without = [part for part in total.apart if not drawn & {line.label for line in part.lines}]
    return replace(
        first,
        lines=(*first.lines, *read),
        apart=(*first.apart, *without),
        below=tuple(_alone(plot) for plot in (*others, last)),
        hint=reading_of(item.curves, item.config).hint,
    )


def terms_of_one(item: RunData, view: View) -> list[Plot]:
    """Return a plot of each term of a run's loss: in training, in validation, of training items, and to guess."""
    return [
        Plot(
            _title(name),
            _unit(item, name),
            lines=(
                line_of(item, name, label="train", colour=0, view=view, band=True, noisy=True),
                line_of(item, evaluated_name(name), label="valid", colour=1, view=view),
                *of_training_items(item, evaluated_name(name), view=view),
                *references(item, [name], view=view),
            ),
        )
        for name in terms_of(item)
    ]


def terms_of_several(
    data: Sequence[RunData], lines: Callable[[Group, str], tuple[Line, ...]]
) -> list[Plot]:
    """Return a plot of each term of the first run's loss, one curve a run; runs of other meaning are apart.

    Args:
        data: the runs, the selected one first.
        lines: returns the curves of a group of runs, given the name of their series.
    """
    plots = []
    for name in terms_of(data[0]):
        groups = groups_of(data, name, series=lambda _, name=name: name)  # type: ignore[misc]
        plots.append(
            together(
                [
                    Plot(
                        _title(name),
                        _unit(data[0], name),
                        lines=lines(group, name),
                        note=group.note,
                    )
                    for group in groups
                ]
            )
        )
    return plots


def _alone(plot: Plot) -> Plot:
    """Return a plot with a note instead of what is apart from it."""
    runs = sum(len(other.lines) for other in plot.apart)
    why = "; ".join(dict.fromkeys(other.note for other in plot.apart))
    return replace(plot, note=f"{runs} not shown: {why}" if runs else "", apart=())


def _title(name: str) -> str:
    title = metric_of(name).title
    return title[:1].upper() + title[1:]


def _unit(item: RunData, name: str) -> str:
    return metric_of(name).unit or item.curves[name].unit
