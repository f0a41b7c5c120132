"""The report of a batch plan: computed by a child process, which loads torch, and formatted as text."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from engine.batching.report import LeftOut, PlanReport
from engine.config.errors import counted

if TYPE_CHECKING:
    from engine.config.schema import RunConfig

_BAR = 24


def plan_report(config: RunConfig, *, world: int | None = None) -> PlanReport:
    """Plan the first epoch of a run and summarise it; reads the headers of the training data.

    Args:
        config: the run.
        world: number of devices; `precision.devices` by default.

    Raises:
        ValueError: describes what is wrong with the data or the settings.
    """
    # `-P` prevents imports from the current folder, which may contain any file.
    child = [
        sys.executable,
        "-P",
        "-m",
        "engine.programs.batch_plan",
        f"--world={world or config.precision.devices}",
    ]
    ended = subprocess.run(
        child, input=config.to_json(), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        reason = ended.stderr.strip() if ended.returncode == 2 else ended.stderr.strip()[-2000:]
        raise ValueError(reason or f"planning failed with exit code {ended.returncode}")
    values = json.loads(ended.stdout)
    left_out = tuple(
        LeftOut(item["reason"], item["count"], tuple(item["examples"]))
        for item in values.pop("left_out")
    )
    histogram = tuple(tuple(bar) for bar in values.pop("histogram"))
    notes, warnings = (tuple(values.pop(name)) for name in ("notes", "warnings"))
    return PlanReport(
        **values, left_out=left_out, histogram=histogram, notes=notes, warnings=warnings
    )


def report_lines(report: PlanReport, *, time: str = "") -> list[str]:
    """Return the report as lines of text, the histogram below the figures.

    Args:
        report: the report.
        time: how long the run is expected to take, in words.
    """
    tokens = "" if report.mean_tokens is None else f", {report.mean_tokens:,.0f} tokens"
    joint = ""
    if report.joint_padding_share is not None:
        joint = f" ({report.joint_padding_share:.1%} of seconds x tokens)"
    each = report.micro_batches / report.updates_seen / report.world
    devices = "" if report.world == 1 else f", {report.world} devices"
    facts = [
        ("mode", f"{report.mode}{devices}"),
        ("data", f"{report.num_items:,} items, {report.audio_s / 3600:,.2f} h"),
        ("global batch", f"{report.mean_items:,.1f} items, {_time(report.mean_s)}{tokens}"),
        *([("recommended", report.recommended)] if report.recommended else []),
        ("epoch", f"{report.updates_per_epoch:,.1f} updates"),
        *([("partial", report.partial)] if report.partial else []),
        *([("run", report.length)] if report.length else []),
        *([("time", time)] if time else []),
        ("update", f"{each:,.1f} micro-batches per device"),
        ("padding", f"{report.padding_share:.2%}{joint}, {counted(report.shapes, 'shape')}"),
        *(
            [("cropped", f"{report.cropped_share:.2%} of the audio")]
            if report.cropped_share
            else []
        ),
        ("maximum", f"{report.largest:,.1f} padded seconds per micro-batch"),
    ]
    if report.world > 1:
        idle = f"{report.idle_share:.2%} of the device time"
        facts.append(("idle", f"{idle}, {report.empty} empty micro-batches"))
    for out in report.left_out:
        first = ", ".join(map(str, out.examples))
        facts.append(("skipped", f"{out.count:,} items: {out.reason} (item {first})"))
    facts.extend(("note", note) for note in report.notes)
    facts.extend(("warning", text) for text in report.warnings)
    facts.append(
        (
            "based on",
            f"{counted(report.updates_seen, 'update')}, {counted(report.micro_batches, 'micro-batch', plural='es')}",
        )
    )
    lines = [f"{name:<13} {text}" for name, text in facts]
    return [
        *lines,
        "",
        "items per micro-batch, and number of micro-batches",
        *_bars(report.histogram),
    ]


def _bars(histogram: tuple[tuple[int, int, int], ...]) -> list[str]:
    highest = max(count for _, _, count in histogram)
    lines = []
    for low, high, count in histogram:
        name = f"{low}" if low == high else f"{low}-{high}"
        bar = "█" * round(_BAR * count / highest)
        lines.append(f"{name:>13} {bar:<{_BAR}} {count:,}")
    return lines


def _time(seconds: float) -> str:
    """Format seconds in the usual unit for a global batch of that size."""
    if seconds < 120:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.1f} min" if seconds < 7200 else f"{seconds / 3600:,.2f} h"
