"""How long a run is expected to take, in words, as earlier runs on this machine tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.reports.formats import duration

if TYPE_CHECKING:
    from engine.config.counters import UpdateSize
    from engine.config.schema import RunConfig
    from jobs.home import Home

UNKNOWN = "unknown: no comparable earlier run (`sepdash tune` measures an update)"


def time_text(home: Home, config: RunConfig, *, size: UpdateSize) -> str:
    """Return the expected time of a run with all its evaluations.

    Args:
        home: where earlier runs are.
        config: the run.
        size: what an update of it adds to the counters; epochs are known where a setting is in epochs.
    """
    from engine.training.schedules import total_updates
    from jobs.store.errors import StoreError
    from jobs.sweeps.trial import read_measured

    try:
        measured = read_measured(home)
    except StoreError:
        return UNKNOWN
    total = total_updates(config.schedule.length, size)
    expected = measured.duration(config, size, total=total)
    if expected is not None:
        return f"about {duration(expected.expected_s)}, evaluations and saving included"
    seconds = measured.seconds_per_update(config)
    return UNKNOWN if seconds is None else f"about {duration(seconds * total)}"
