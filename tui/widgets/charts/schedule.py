"""The learning rate of a run over its updates, as a plot and as plain text."""

from __future__ import annotations

import numpy as np

from engine.config.counters import EpochsUnknown, UpdateSize
from engine.config.schema import RunConfig
from engine.training.schedule_preview import schedule_curve
from tui.widgets.charts.figure import Line, Plot
from tui.widgets.charts.plot import compose


def schedule_plot(config: RunConfig, *, size: UpdateSize | None = None) -> Plot:
    """Return the plot of the learning rate of a run, whose updates are of a size (as far as known)."""
    try:
        curve = schedule_curve(config, size=size)
    except EpochsUnknown as unknown:
        return Plot("learning rate", empty=str(unknown))
    x, y = np.array(curve.updates, dtype=np.float64), np.array(curve.lr)
    line = Line(config.schedule.kind, 0, x=x, mean=y)
    return Plot("learning rate", lines=(line,), from_zero=True)


def schedule_text(
    config: RunConfig, *, width: int, height: int, size: UpdateSize | None = None
) -> str:
    """Return the plot as plain text without colours."""
    rows = compose(schedule_plot(config, size=size), width, height)
    return "\n".join("".join(text for text, _ in row).rstrip() for row in rows)
