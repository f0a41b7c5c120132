"""CPU time to draw the four charts of the dashboard, for growing numbers of points.

    python tests/bench/charts.py

Drawing means composing every row of four charts of 58 x 22 cells; the answer should hardly depend on
the number of points, because the store hands out about a thousand buckets for any length of run.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from tui.widgets.charts.figure import Line, Plot
from tui.widgets.charts.plot import compose

SIZE = (58, 22)


def plots(num_points: int) -> list[Plot]:
    """Return four charts: a band with two lines, two lines, a band, two lines."""
    random = np.random.default_rng(0)
    x = np.arange(num_points, dtype=np.float64)
    y = np.exp(-x / num_points * 3) + random.normal(0, 0.02, num_points)
    band = Line("train", 0, x=x, mean=y, low=y - 0.1, high=y + 0.1)
    line = Line("valid", 1, x=x, mean=y * 1.1)
    return [
        Plot("Loss", lines=(band, line)),
        Plot("SI-SDR", "dB", lines=(line, Line("raw", 0, x=x, mean=y))),
        Plot("Speed", lines=(band,)),
        Plot("Memory", "GiB", lines=(line, band)),
    ]


def main() -> None:
    """Print the median CPU time of a redraw by number of points."""
    for num_points in (100, 1_000, 10_000, 100_000, 1_000_000):
        four, times = plots(num_points), []
        for _ in range(20 if num_points < 1_000_000 else 3):
            begun = time.process_time()
            for plot in four:
                compose(plot, *SIZE)
            times.append(time.process_time() - begun)
        print(f"{num_points:>9,} points: {statistics.median(times) * 1e3:7.2f} ms for four charts")


if __name__ == "__main__":
    main()
