"""What a chart shows, as values: lines, plots, their limits, and the roles of drawn text. No drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tui.widgets.charts.braille import FloatArray

TEXT, DIM, GRID, CURSOR, TITLE, MARK = range(6)
LINE, FAINT = 16, 32  # plus the index of a colour
PALETTE_SIZE = 8
# The unit of an x axis whose values are the decimal logarithm of what it shows.
LEARNING_RATE = "learning rate"

Run = tuple[str, int]

_LARGEST = 1e150


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One curve: `mean` over `x` (ascending), with `low` and `high` where points were merged.

    A line that is not `drawn` shows its value in the legend only; a `faint` one is drawn weakly. Of a smoothed line, `raw` are the values
    themselves: they are what is read, and drawn faintly where there is no band.
    """

    label: str
    colour: int
    x: FloatArray
    mean: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    dotted: bool = False
    drawn: bool = True
    faint: bool = False
    raw: FloatArray | None = None

    def __post_init__(self) -> None:
        """Bound what is drawn, so that no scale or sum of it overflows; infinite values are gaps."""
        object.__setattr__(self, "x", np.clip(self.x, -_LARGEST, _LARGEST))
        for name in ("mean", "low", "high", "raw"):
            values = getattr(self, name)
            if values is not None:
                bounded = np.clip(values, -_LARGEST, _LARGEST)
                bounded[np.isinf(values)] = np.nan
                object.__setattr__(self, name, bounded)

    @property
    def values(self) -> FloatArray:
        """What the legend and the crosshair read."""
        return self.mean if self.raw is None else self.raw

    @property
    def lowest(self) -> FloatArray | None:
        """The lower edge of what is drawn faintly, if anything is."""
        return self.raw if self.low is None else self.low

    @property
    def highest(self) -> FloatArray | None:
        """The upper edge of what is drawn faintly, if anything is."""
        return self.raw if self.high is None else self.high


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """What a chart shows; `empty` is the text shown without data.

    `marks` are x values where something happened that is in no curve, such as an update that was skipped;
    `marks_label` says what, at the end of the legend. `apart` are plots of other runs, whose values don't mean
    the same and so have axes of their own; `note` says what sets such a plot apart from the first. `below` are
    plots of the same runs, such as the terms of a loss, and `hint` says how to read them all. A plot without an
    `axis` leaves the labels of its horizontal axis to one below it.
    """

    title: str
    unit: str = ""
    lines: tuple[Line, ...] = ()
    x_unit: str = "updates"
    x_range: tuple[float, float] | None = None
    log: bool = False
    from_zero: bool = False
    empty: str = "no data yet"
    marks: FloatArray | None = None
    marks_label: str = ""
    note: str = ""
    apart: tuple[Plot, ...] = ()
    below: tuple[Plot, ...] = ()
    hint: str = ""
    axis: bool = True


def together(plots: Sequence[Plot]) -> Plot:
    """Return the first plot with the others apart; the note of the first is left out."""
    first, *others = plots
    return replace(first, note="", apart=tuple(others))


def parts(plot: Plot) -> Iterator[Plot]:
    """Yield a plot and all that belong to it: those apart and those below, and theirs."""
    yield plot
    for other in (*plot.apart, *plot.below):
        yield from parts(other)


def each(plot: Plot, **values: object) -> Plot:
    """Return a plot, and all that belong to it, with other fields."""
    apart, below = (
        tuple(each(other, **values) for other in others) for others in (plot.apart, plot.below)
    )
    return replace(plot, apart=apart, below=below, **values)  # type: ignore[arg-type]


def x_range(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the x of the first and the last point of all lines."""
    first = min((float(line.x[0]) for line in lines if len(line.x)), default=0.0)
    last = max((float(line.x[-1]) for line in lines if len(line.x)), default=1.0)
    if 0 < first <= 0.06 * last:
        first = 0.0
    return (first, last) if last > first else (first, first + 1.0)


def y_range(lines: Sequence[Line], from_zero: bool = False) -> tuple[float, float]:
    """Return limits that include every mean; the outermost 2 % of bands and of raw values are ignored."""
    values = [line.mean for line in lines]
    for line in lines:
        for edge, share in ((line.lowest, 0.02), (line.highest, 0.98)):
            if edge is not None and np.isfinite(edge).any():
                values.append(np.nanquantile(edge, [share]))
    joined = np.concatenate(values)
    joined = joined[np.isfinite(joined)]
    low, high = float(joined.min()), float(joined.max())
    if from_zero:
        return min(0.0, low), high * 1.08 if high > 0 else 1.0
    margin = (high - low) * 0.05 or max(abs(high) * 0.05, 1e-9)
    return low - margin, high + margin


def value_at(line: Line, x: float) -> float | None:
    """Return the value of the last point at or before `x`, None before the first."""
    index = int(np.searchsorted(line.x, x, side="right")) - 1
    return float(line.values[index]) if index >= 0 and np.isfinite(line.values[index]) else None


def _positive(plot: Plot) -> bool:
    values = [line.mean[np.isfinite(line.mean)] for line in plot.lines]
    return bool(plot.lines) and all(bool((value > 0).all()) for value in values)


def scaled(plot: Plot) -> Plot:
    """Return the plot with log10 of every y if a logarithmic axis is requested and possible."""
    if not plot.log:
        return plot
    if not _positive(plot):
        return replace(plot, log=False)

    def log(values: FloatArray | None) -> FloatArray | None:
        if values is None:
            return None
        positive = np.where(values > 0, values, np.nan)
        return np.log10(positive, out=np.full_like(positive, np.nan), where=positive > 0)

    lines = tuple(
        replace(
            line,
            mean=np.asarray(log(line.mean)),
            low=log(line.low),
            high=log(line.high),
            raw=log(line.raw),
        )
        for line in plot.lines
    )
    return replace(plot, lines=lines, from_zero=False)
