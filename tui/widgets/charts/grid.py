"""The four charts, as a grid or one alone, with a common crosshair in all that share an axis."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Container

from tui.widgets.charts import build as charts
from tui.widgets.charts.chart import Chart
from tui.widgets.charts.figure import Plot


class ChartsGrid(Container):
    """Holds the charts by name."""

    DEFAULT_CSS = """
    ChartsGrid { layout: grid; grid-size: 2 2; grid-gutter: 0 1; }
    ChartsGrid.-alone { grid-size: 1 1; }
    ChartsGrid.-alone Chart { display: none; }
    ChartsGrid.-alone Chart.-shown { display: block; }
    """

    def compose(self) -> ComposeResult:
        """Start with empty charts."""
        for name, plot in charts.build((), {}).items():
            yield Chart(plot, id=name.replace("_", "-"))

    def show(self, plots: Mapping[str, Plot]) -> None:
        """Draw new plots."""
        for chart, name in zip(self.query(Chart), charts.CHARTS, strict=True):
            chart.plot = plots[name]

    def toggle_alone(self, index: int) -> bool:
        """Show only one chart, or all if it was alone; return True if one is alone now."""
        wanted = list(self.query(Chart))[index]
        alone = not wanted.has_class("-shown")
        for chart in self.query(Chart):
            chart.set_class(alone and chart is wanted, "-shown")
        self.set_class(alone, "-alone")
        return alone

    def on_chart_cursor_moved(self, message: Chart.CursorMoved) -> None:
        """Move the crosshair in all charts with the same horizontal axis."""
        message.stop()
        for chart in self.query(Chart):
            same = chart.plot.x_unit == message.chart.plot.x_unit
            chart.cursor = message.x if same else None
