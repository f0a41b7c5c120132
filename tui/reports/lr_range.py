"""A learning-rate range test as text: progress and the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.reports.formats import number

if TYPE_CHECKING:
    from engine.tuning.lr_curve import LrPoint
    from jobs.lr_range import LrResult


def progress(points: int, updates: int, *, point: LrPoint) -> str:
    """Return one update as a line of text."""
    skipped = point.loss != point.loss
    loss = "not finite, skipped" if skipped else number(point.loss, 4)
    return f"update {points}/{updates}: lr {point.lr:.2e}, loss {loss}"


def summary(result: LrResult, updates: int) -> list[str]:
    """Return what the test says, line by line; the last one is the setting, if there is one."""
    finding, points = result.finding, result.points
    skipped = sum(point.loss != point.loss for point in points)
    lines = [f"device        {result.device}", f"updates       {len(points)} of {updates}"]
    if skipped:
        lines.append(f"skipped       {skipped} updates with a non-finite loss or gradient")
    if finding.minimum is not None:
        lines.append(f"lowest loss   at {finding.minimum:.2g}")
    if finding.divergence is not None:
        lines.append(f"divergence    at {finding.divergence:.2g}")
    if finding.suggestion is None:
        return [*lines, f"no suggestion {finding.reason}"]
    return [
        *lines,
        f"suggestion    {finding.suggestion:.2g}: {finding.reason}",
        "",
        f"--set optimizer.lr={finding.suggestion:g}",
    ]
