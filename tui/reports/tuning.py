"""The trials and the result of a search as text: lines, table cells, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.tuning.setups import write_value

if TYPE_CHECKING:
    from engine.tuning.race import Ratio
    from engine.tuning.setups import Row, Scaled, Tuning

HEADERS = ("TRIAL", "B x N", "MEMORY", "ITEMS/S", "AUDIO/S", "RATIO", "VERDICT")
SCALING_HEADERS = ("DEVICES", "MICRO-BATCHES", "ITEMS", "ITEMS/S", "RATIO")
_MIB, _GIB = 2**20, 2**30


def line(row: Row) -> str:
    """Return a trial as one line of text."""
    numbers = [cell.strip() for cell in cells(row)[1:-1]]
    units = ("", "", "items/s", "audio s/s", "x")
    parts = [
        f"{number} {unit}".strip()
        for number, unit in zip(numbers, units, strict=True)
        if number != "-"
    ]
    return f"{row.label}: {', '.join(parts)}; {row.verdict}"


def cells(row: Row) -> list[str]:
    """Return one row of the table of trials."""
    return [
        row.label + (f" ({row.shape[0]:.1f} s)" if row.shape else ""),
        f"{row.count} x {row.micro_batches}",
        memory(row.peak_bytes) if row.peak_bytes else "-",
        f"{row.items_per_s:.4g}" if row.items_per_s else "-",
        f"{row.audio_s_per_s:.4g}" if row.audio_s_per_s else "-",
        interval(row.ratio) if row.ratio else "-",
        row.verdict,
    ]


def scaling_cells(row: Scaled) -> list[str]:
    """Return one row of the table of several devices."""
    return [
        str(row.devices),
        str(row.micro_batches),
        str(row.items),
        f"{row.items_per_s:.4g}" if row.items_per_s else "-",
        interval(row.ratio) if row.ratio else "-",
    ]


def memory(num_bytes: int) -> str:
    """Return an amount of memory in MiB, or in GiB from 10 GiB on."""
    return f"{num_bytes / _MIB:.0f} MiB" if num_bytes < 10 * _GIB else f"{num_bytes / _GIB:.1f} GiB"


def interval(ratio: Ratio) -> str:
    """Return a ratio with its interval, as far as that is known: "1.18 [1.15, 1.21]"."""
    if ratio.low == ratio.high or not ratio.low:
        return f"{ratio.middle:.2f}"
    return f"{ratio.middle:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def set_lines(result: Tuning) -> list[str]:
    """Return the chosen settings in the format of `--set`."""
    return [f"{key}={write_value(value)}" for key, value in result.settings.items()]


def summary(result: Tuning) -> list[str]:
    """Return the result and the measurements behind it, line by line."""
    ratio = f", {interval(result.ratio)} x the speed of the preset" if result.ratio else ""
    law = "memory of the largest batches was measured"
    if result.law_error is not None:
        law = f"memory prediction error at the largest batch: {result.law_error:+.1%}"
    return [
        f"{result.device_name}: training may use {memory(result.budget_bytes)} of "
        f"{memory(result.cap_bytes)}; {law}",
        f"{result.items_per_s:.4g} items/s, {result.audio_s_per_s:.4g} audio s/s{ratio}; "
        f"peak memory {memory(result.peak_bytes)}; {result.goal_items:g} items per update, micro-batches: "
        f"{result.micro_batches}; search time {result.seconds:.0f} s",
        *([result.data] if result.data else []),
        *(f"note: {note}" for note in result.notes),
    ]
