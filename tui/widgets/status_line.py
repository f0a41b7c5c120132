"""The top line: workers on the left, the machine on the right."""

from __future__ import annotations

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from jobs.store.records import RunRecord, SystemRecord, WorkerRecord
from tui.reports import formats


class StatusLine(Widget):
    """Shows what each worker is training, and the load of the machine."""

    DEFAULT_CSS = """
    StatusLine { height: 1; padding: 0 1; background: $panel; }
    """

    crew: reactive[tuple[WorkerRecord, ...]] = reactive(())
    run_records: reactive[tuple[RunRecord, ...]] = reactive(())
    sample: reactive[SystemRecord | None] = reactive(None)
    problem: reactive[str] = reactive("")

    def render(self) -> Text:
        """Return the line; values on the right that do not fit are dropped one by one."""
        colours = self.app.theme_variables
        left = Text(no_wrap=True, overflow="ellipsis")
        left.append("sepdash", style=f"bold {colours['primary']}")
        left.append("  ")
        left.append_text(self._left(colours))
        room = self.content_size.width - left.cell_len - 2
        pieces = machine(self.sample)
        while pieces and len("   ".join(pieces)) > room:
            pieces.pop(0)
        right = "   ".join(pieces)
        left.append(" " * max(0, self.content_size.width - left.cell_len - len(right)))
        left.append(right, style=colours["secondary"])
        return left

    def _left(self, colours: dict[str, str]) -> Text:
        if self.problem:
            return Text(f"✗ {formats.clean(self.problem)}", style=colours["error"])
        alive = [worker for worker in self.crew if worker.alive]
        if not alive:
            text = Text("○ no worker", style=colours["warning"])
            waiting = sum(run.state == "queued" for run in self.run_records)
            text.append(f", {waiting} queued" if waiting else "")
            return text.append("  press w to start one", style=colours["secondary"])
        text = Text()
        names = {run.id: run.name for run in self.run_records}
        waiting = sum(bool(run.waiting) for run in self.run_records)
        idle = f"idle, {waiting} waiting" if waiting else "idle"
        for worker in alive:
            text.append("● ", style=colours["success"])
            text.append(f"{formats.clean(worker.device)} ")
            doing = names.get(worker.run, idle) if worker.run is not None else idle
            text.append(f"{formats.clean(doing)}  ", style=colours["secondary"])
        return text


def machine(sample: SystemRecord | None) -> list[str]:
    """Return the load of the machine, the least important value first."""
    if sample is None:
        return []
    pieces = [
        f"RAM {formats.fraction(sample.ram_bytes, sample.ram_total_bytes)}",
        f"CPU {sample.cpu_percent:.0f}%",
    ]
    if sample.gpu_name is None:
        return ["no GPU", *pieces]
    return [
        formats.clean(sample.gpu_name),
        *pieces,
        f"VRAM {formats.fraction(sample.vram_bytes, sample.vram_total_bytes)}",
        f"GPU {sample.gpu_percent or 0:.0f}%",
    ]
