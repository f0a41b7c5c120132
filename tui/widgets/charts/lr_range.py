"""The curve of a learning-rate range test, as plain text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.tuning.lr_curve import LrFinding, LrPoint
from tui.widgets.charts.figure import LEARNING_RATE, Line, Plot
from tui.widgets.charts.plot import compose


def lr_plot(points: Sequence[LrPoint], finding: LrFinding) -> Plot:
    """Return the plot: the smoothed loss, with a dot at the suggestion.

    The part beyond the divergence may be a thousand times as high, and would flatten the rest: values
    above the level at the start, by as much as the loss fell, are left out.
    """
    x = np.log10([point.lr for point in points])
    smooth = np.array(finding.smooth)
    kept = np.isfinite(smooth)
    if not kept.any():
        return Plot("loss", x_unit=LEARNING_RATE, empty="no finite loss")
    start, low = smooth[kept][0], smooth[kept].min()
    top = start + max(start - low, 8 * finding.noise)
    shown = kept & (smooth <= top)
    lines = [Line("smoothed loss", 0, x=x[shown], mean=smooth[shown])]
    if finding.suggestion is not None:
        at = np.log10([finding.suggestion])
        lines.insert(
            0, Line("at the suggestion", 1, x=at, mean=np.interp(at, x[kept], smooth[kept]))
        )
    return Plot(
        "loss over the learning rate",
        lines=tuple(lines),
        x_unit=LEARNING_RATE,
        x_range=(float(x[0]), float(x[-1])),
    )


def lr_text(points: Sequence[LrPoint], finding: LrFinding, *, width: int, height: int) -> str:
    """Return the plot without colours."""
    rows = compose(lr_plot(points, finding), width, height)
    return "\n".join("".join(text for text, _ in row).rstrip() for row in rows)
