"""The checkpoints of a run as a list to choose from, and going on from an older one; free of torch.

What is newer than the chosen resume state is set aside under another name, not deleted, so that the choice can be
taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from engine.checkpoints.layout import (
    BROKEN,
    CHECKPOINTS,
    LAST,
    best_metric,
    list_checkpoints,
    manifest_values,
    metrics_in,
    update_of,
)
from engine.metrics.best import best_checkpoint
from engine.metrics.registry import metric_of
from models.folders import unused

ASIDE = ".newer"


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """One checkpoint of a run.

    Attributes:
        name: of its folder.
        path: the folder.
        updates: after which it was saved.
        epochs: passes over the data until then; 0 where they were not counted.
        metric: the stored name of the metric that stands for it; empty where it has none.
        value: of that metric.
        size_bytes: of its files.
        saved_at: seconds since 1970.
        use: what it can be used for, in words.
        problem: why it can't be used; empty where it looks usable (contents are verified when it is read).
    """

    name: str
    path: Path
    updates: int = 0
    epochs: float = 0.0
    metric: str = ""
    value: float | None = None
    size_bytes: int = 0
    saved_at: float = 0.0
    use: str = ""
    problem: str = ""

    @property
    def is_state(self) -> bool:
        """Whether a run can resume from it."""
        return self.name.startswith(f"{LAST}-") and not self.problem

    @property
    def is_aside(self) -> bool:
        """Whether the run went on from an older one."""
        return ASIDE in self.name


def checkpoints_of(folder: Path, *, metric: str = "") -> list[CheckpointInfo]:
    """Return the checkpoints of a run's folder: resume states first, the newest first, then the best ones.

    Args:
        folder: of the run.
        metric: the stored name of the metric by which the run is listed.
    """
    below = [path for path in list_checkpoints(folder) if path.parent.name == CHECKPOINTS]
    damaged = [path for path in below if BROKEN in path.name]
    places = [path for path in below if path not in damaged]
    values = {path: manifest_values(path) for path in places}
    updates = [update_of(path.name) for path in places]
    newest = max((update for update in updates if update is not None), default=None)
    # As in `choose_checkpoint`: what NAME alone means.
    main = best_checkpoint(
        {path.name: metrics_in(values[path]) for path in places if best_metric(path.name)}
        | ({} if newest is None else {LAST: {}})
    )
    found = [
        _info(path, values[path], newest=newest, main=main or "", metric=metric) for path in places
    ]
    found += [CheckpointInfo(path.name, path, problem="damaged") for path in damaged]
    return sorted(found, key=lambda one: (not one.name.startswith(LAST), -one.updates, one.name))


def choose_state(folder: Path, name: str) -> CheckpointInfo:
    """Return the resume state of a name, or of the number of its update.

    Raises:
        ValueError: naming those there are.
    """
    states = [one for one in checkpoints_of(folder) if one.is_state]
    wanted = [one for one in states if name in (one.name, str(one.updates))]
    # Of two of one update, the one that is set aside has to be named.
    chosen = next((one for one in wanted if not one.is_aside), next(iter(wanted), None))
    if chosen is None:
        names = ", ".join(one.name for one in states) or "none"
        raise ValueError(
            f"no resume state {name!r}; there are: {names} (best-* checkpoints hold weights only: start another "
            "run from one by init_from)"
        )
    return chosen


def go_on_from(folder: Path, chosen: CheckpointInfo) -> list[str]:
    """Make a resume state the newest one; return the new names of those that were set aside.

    Args:
        folder: of a run that nobody trains.
        chosen: what `choose_state` returned.
    """
    below, aside = folder / CHECKPOINTS, []
    for one in checkpoints_of(folder):
        newer = one.updates > chosen.updates or (
            one.updates == chosen.updates and one.name != chosen.name
        )
        if one.is_state and not one.is_aside and newer:
            aside.append(unused(below / f"{one.name}{ASIDE}"))
            one.path.rename(aside[-1])
    if chosen.is_aside:
        chosen.path.rename(below / chosen.name.partition(ASIDE)[0])
    return [path.name for path in aside]


def _info(
    path: Path, values: dict[str, Any], *, newest: int | None, main: str, metric: str
) -> CheckpointInfo:
    if "counters" not in values or "files" not in values:
        return CheckpointInfo(path.name, path, problem="unreadable manifest")
    counters = values["counters"]
    shown = best_metric(path.name) or metric
    value = metrics_in(values).get(shown)
    return CheckpointInfo(
        path.name,
        path,
        updates=int(counters.get("updates", 0)),
        epochs=float(counters.get("epochs", 0.0)),
        metric=shown if value is not None else "",
        value=value if value is not None and isfinite(value) else None,
        size_bytes=sum(int(entry["size_bytes"]) for entry in values["files"].values()),
        saved_at=float(values.get("created_at", 0.0)),
        use=_use(path, newest=newest, main=main),
    )


def _use(path: Path, *, newest: int | None, main: str) -> str:
    name = path.name
    if ASIDE in name:
        return f"set aside; resume --from {name}"
    if metric := best_metric(name):
        text = f"apply, init_from RUN@{metric}"
        return f"{text} (RUN alone means this one)" if name == main else text
    if not name.startswith(f"{LAST}-"):
        return "apply, init_from by its path"
    if update_of(name) == newest:
        only = " (RUN alone means this one)" if main == LAST else ""
        return f"resume, apply, init_from RUN@last{only}"
    return f"resume --from {name}"


def value_text(info: CheckpointInfo) -> str:
    """Return the metric of a checkpoint with its value, as tables write it; empty where it has none."""
    if not info.metric:
        return ""
    return f"{info.metric} {metric_of(info.metric).with_unit(info.value)}"
