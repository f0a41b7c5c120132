"""Numbers and times as short text, for tables, axes and status lines. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from datetime import datetime

MISSING = "–"
_BAR = " ▏▎▍▌▋▊▉█"
_COUNT_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def count(value: float | None) -> str:
    """Return a count in at most five characters: 950, 1.2k, 20k, 3.4M."""
    if value is None or not math.isfinite(value):
        return MISSING
    if abs(value) >= 999.5e12:
        return number(value, 1)
    for size, suffix in _COUNT_UNITS:
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.0f}{suffix}" if abs(scaled) >= 99.5 else f"{_trim(scaled, 1)}{suffix}"
    return _trim(value, 0 if abs(value) >= 100 else 1)


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits; very large or small values get an exponent."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.{max(0, digits - 1)}e}".split("e")
        return (
            f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(exponent)}"
        )
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def level(value: float | None) -> str:
    """Return decibels with two decimals and a sign only where negative."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.2f}"


def gain(value: float | None) -> str:
    """Return a difference in decibels, always signed."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:+.2f}"


def duration(seconds: float | None) -> str:
    """Return a duration in two units at most: 42s, 3m10s, 2h05m, 4d03h."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    if whole < 86_400 * 10_000:
        return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"
    return f"{count(whole / 86_400)}d"


def clock(moment: float, now: float) -> str:
    """Return a Unix time as local clock time: 07:30 today, Sat 07:30 within a week, else with its date."""
    then, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(now)
    if then.date() == today.date():
        return f"{then:%H:%M}"
    is_near = abs((then.date() - today.date()).days) < 7
    return f"{then:%a %H:%M}" if is_near else f"{then:%Y-%m-%d %H:%M}"


def size(num_bytes: float | None) -> str:
    """Return a size in binary units with one decimal: 3.1 GiB."""
    if num_bytes is None:
        return MISSING
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_BYTE_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_BYTE_UNITS[unit]}"


def fraction(used: float | None, total: float | None) -> str:
    """Return used and total bytes with one unit: 3.1/8.0 GiB."""
    if used is None or not total:
        return MISSING
    whole, unit = size(total).split(" ")
    return f"{used / 1024 ** _BYTE_UNITS.index(unit):.1f}/{whole} {unit}"


def percent(share: float) -> str:
    """Return a share in whole percents, rounded down, so that 100% means complete."""
    # 0.29 * 100 is a little below 29.
    return f"{int(share * 100 + 1e-6)}%"


def bar(share: float, width: int) -> str:
    """Return a bar of `width` cells with a resolution of an eighth of a cell."""
    eighths = round(min(1.0, max(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_BAR[rest] if rest else "")
    return text.ljust(width)


def clean(text: str) -> str:
    """Return `text` without control characters: a log must not control the terminal."""
    return "".join(
        char if char.isprintable() else ("    " if char == "\t" else "") for char in _plain(text)
    )


def _plain(text: str) -> str:
    if "\x1b" not in text:
        return text
    from re import sub

    return sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])", "", text)


def cells(text: str) -> int:
    """Return how many cells of a terminal `text` takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fitting(text: str, width: int) -> int:
    """Return how many characters of `text`, from its start, fit into `width` cells; one, at least."""
    if text.isascii():
        return min(len(text), max(1, width))
    from rich.cells import chop_cells

    return len(chop_cells(text, max(2, width))[0]) if text else 0


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` with spaces after it, or before it, up to `width` cells; longer text as it is."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def fit(text: str, width: int) -> str:
    """Return `text` padded or truncated (with an ellipsis) to exactly `width` cells."""
    if cells(text) <= width:
        return padded(text, width)
    if width < 1:
        return ""
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1) + "…"


def aligned(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()
) -> list[str]:
    """Return a table as lines, the headers first; columns whose header is in `right` align right."""
    widths = [max(map(cells, column)) for column in zip(headers, *rows, strict=True)]
    return [
        "  ".join(
            padded(text, width, right=header in right)
            for header, text, width in zip(headers, row, widths, strict=True)
        ).rstrip()
        for row in (headers, *rows)
    ]


def _trim(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
