"""One line about the selected run: its name, progress and metrics, or why it failed."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from jobs.store.records import RunRecord
from tui.reports import formats
from tui.widgets.charts.palette import STATE_GLYPHS, state_colour

# Of a text of the store, in cells.
_LONGEST = 60


class RunLine(Widget):
    """Names the run that the charts and the log belong to."""

    DEFAULT_CSS = """
    RunLine { height: 1; padding: 0 1; background: $panel; }
    """

    run: reactive[RunRecord | None] = reactive(None)
    latest: reactive[Mapping[str, float]] = reactive[Mapping[str, float]]({})
    others: reactive[int] = reactive(0)

    def render(self) -> Text:
        """Return the line; values that do not fit are dropped from the end."""
        colours = self.app.theme_variables
        if self.run is None:
            return Text("no run selected", style=colours["secondary"])
        state = self.run.condition
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{STATE_GLYPHS[state]} ", style=state_colour(state, colours))
        line.append(formats.clean(self.run.name), style="bold")
        if self.others:
            line.append(f" with {self.others} more", style=colours["accent"])
        # Of a running run it is the stage before training.
        if text := self.run.waiting or self.run.message:
            message = formats.clean(" · ".join(text.splitlines()))
            return line.append(f"  {message}", style=state_colour(state, colours))
        for label, value in facts(self.run, self.latest):
            if line.cell_len + len(label) + len(value) + 3 > self.content_size.width:
                break
            line.append(f"  {label} " if label else "  ", style=colours["secondary"])
            line.append(value)
        return line


def facts(run: RunRecord, latest: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return labels and values of a run, the most important first."""
    pairs = [
        ("update", f"{run.updates:,} of {run.total_updates:,}"),
        ("audio", formats.duration(run.audio_seconds) if run.audio_seconds else ""),
        ("lr", formats.number(latest.get("lr"), 2) if "lr" in latest else ""),
        ("grad", formats.number(latest.get("grad_norm"), 2) if "grad_norm" in latest else ""),
        ("skipped", formats.count(latest["skipped"]) if latest.get("skipped") else ""),
        ("back-offs", formats.count(n) if (n := latest.get("scale_backoffs")) else ""),
        ("items", formats.count(run.items) if run.items else ""),
        ("epochs", f"{run.epochs:.2f}" if run.epochs else ""),
        ("seed", str(run.seed)),
        ("attempt", str(run.attempts) if run.attempts > 1 else ""),
        ("preset", _short(formats.clean(run.preset))),
        ("id", str(run.id)),
    ]
    return [(label, value) for label, value in pairs if value]


def _short(text: str) -> str:
    """Return text of the store, which may be of any length, as far as a line has room for it."""
    return formats.fit(text, _LONGEST) if formats.cells(text) > _LONGEST else text
