"""Which runs share an axis: those whose values mean the same, by the rule that comparisons keep to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.meaning import differing_settings
from presets.merging import value_at
from tui.live.messages import RunData
from tui.reports.formats import clean

# Settings that a note names before it counts the rest.
_NAMED = 2
_LONGEST = 24


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that share an axis; `note` says what sets them apart from the first group."""

    items: tuple[RunData, ...]
    note: str = ""


def groups_of(
    data: Sequence[RunData], metric: str, *, series: Callable[[RunData], str]
) -> list[Group]:
    """Return the groups of runs, each with what values of `metric` mean there; the first run's comes first.

    Args:
        data: the runs; those without a point are in the first group.
        metric: its stored name.
        series: the name of the curve that a run has of it.
    """
    groups: list[list[RunData]] = []
    for item in data:
        if not _has_points(item, series):
            continue
        own = next(
            (g for g in groups if not _apart(g[0], item, metric=metric, series=series)), None
        )
        if own is None:
            groups.append([item])
        else:
            own.append(item)
    if not groups:
        return [Group(tuple(data))]
    first = groups[0][0]
    others = {id(item) for group in groups[1:] for item in group}
    return [
        Group(tuple(item for item in data if id(item) not in others)),
        *(
            Group(tuple(group), _apart(first, group[0], metric=metric, series=series))
            for group in groups[1:]
        ),
    ]


def _setting(item: RunData, key: str) -> str:
    """Return a setting of a run in the words of `--set`, or its key alone where its value is long."""
    value = value_at(item.config, key)
    text = clean(value if isinstance(value, str) else json.dumps(value))
    return f"{key} = {text}" if 0 < len(text) <= _LONGEST else f"other {key}"


def _has_points(item: RunData, series: Callable[[RunData], str]) -> bool:
    curve = item.curves.get(series(item))
    return curve is not None and bool(curve.updates)


def _apart(first: RunData, other: RunData, *, metric: str, series: Callable[[RunData], str]) -> str:
    """Return why two runs don't share an axis; empty where they do."""
    settings = differing_settings(metric, [first.config, other.config])
    # Another kind of loss has other settings, too, which say nothing more.
    settings = [key for key in settings if key.endswith(".kind")] or settings
    if settings:
        more = len(settings) - _NAMED
        shown = ", ".join(_setting(other, key) for key in settings[:_NAMED])
        return shown + (f" and {more} more" if more > 0 else "")
    units = [item.curves[series(item)].unit for item in (first, other)]
    if units[0] == units[1]:
        return ""
    return f"in {units[1]}" if units[1] else f"not in {units[0]}"
