"""What a search tried and found, as text: lines, cells of a table, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.tuning.setups import write_value

if TYPE_CHECKING:
    from engine.tuning.setups import Row, Tuning

HEADERS = ("TRIED", "B x N", "MEMORY", "ITEMS/S", "AUDIO/S", "RATIO", "VERDICT")
_MIB, _GIB = 2**20, 2**30


def line(row: Row) -> str:
    """Return what is known of a trial as one line."""
    numbers = [cell.strip() for cell in cells(row)[1:-1]]
    units = ("", "", "items/s", "audio s/s", "x")
    told = [
        f"{number} {unit}".strip()
        for number, unit in zip(numbers, units, strict=True)
        if number != "-"
    ]
    return f"{row.label}: {', '.join(told)}; {row.verdict}"


def cells(row: Row) -> list[str]:
    """Return a row of the table of what was tried."""
    return [
        row.label + (f" ({row.shape[0]:.1f} s)" if row.shape else ""),
        f"{row.count} x {row.micro_batches}",
        memory(row.peak_bytes) if row.peak_bytes else "-",
        f"{row.items_per_s:.4g}" if row.items_per_s else "-",
        f"{row.audio_s_per_s:.4g}" if row.audio_s_per_s else "-",
        f"{row.ratio:.2f}" if row.ratio else "-",
        row.verdict,
    ]


def memory(num_bytes: int) -> str:
    """Return an amount of memory in MiB, or GiB from ten of them on."""
    return f"{num_bytes / _MIB:.0f} MiB" if num_bytes < 10 * _GIB else f"{num_bytes / _GIB:.1f} GiB"


def set_lines(result: Tuning) -> list[str]:
    """Return the chosen settings as `--set` reads them."""
    return [f"{key}={write_value(value)}" for key, value in result.settings.items()]


def summary(result: Tuning) -> list[str]:
    """Return what was found and what it rests on, line by line."""
    ratio = f", {result.ratio:.2f} x the preset as it is" if result.ratio else ""
    law = "the largest batches were measured, not only predicted"
    if result.law_error is not None:
        law = f"the memory law is {result.law_error:+.1%} off at its largest"
    return [
        f"{result.device_name}: training may take {memory(result.budget_bytes)} of the "
        f"{memory(result.cap_bytes)} there are; {law}",
        f"{result.items_per_s:.4g} items/s, {result.audio_s_per_s:.4g} s of audio a second{ratio}; "
        f"{memory(result.peak_bytes)} at the peak; an update of {result.goal_items:g} items in "
        f"{result.micro_batches}; searched for {result.seconds:.0f} s",
        *(f"note: {note}" for note in result.notes),
    ]
