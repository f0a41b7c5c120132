"""Where checkpoints lie, which of them is meant, and what they say of themselves; free of torch.

A run's `checkpoints` folder has `last-000123` directories, which hold everything a resume needs, and
`best-<metric>` directories, which hold the weights with the best value of a metric. Nothing is verified here; that is done by `engine.checkpoints.files`, when a checkpoint is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.metrics.best import best_checkpoint

MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints"
LAST = "last"
# In the name of a damaged checkpoint, which is put aside.
BROKEN = ".broken"
_BEST = "best-"
# What a checkpoint of weights from another library says in place of its kind.
IMPORTED = "imported"
# Below a folder that `sepdash cluster` wrote: its k-means model, as the stage of a run saves it.
CLUSTERING = "stages/clusters"


def list_checkpoints(path: Path) -> list[Path]:
    """Return the checkpoints at `path`: itself, or those of a run's folder or its `checkpoints`."""
    places = [path, *sorted(path.glob("*/")), *sorted(path.glob(f"{CHECKPOINTS}/*/"))]
    return [place for place in places if (place / MANIFEST).is_file()]


def list_last(folder: Path) -> list[Path]:
    """Return the `last` checkpoints directly below `folder`, the newest first."""
    numbered = [(update_of(path.name), path) for path in folder.glob(f"{LAST}-*")]
    there = [(update, path) for update, path in numbered if update is not None]
    return [path for _, path in sorted(there, reverse=True)]


def update_of(name: str) -> int | None:
    """Return after which update a `last` checkpoint was saved; None of another, or of one set aside."""
    number = name.removeprefix(f"{LAST}-")
    return int(number) if number != name and number.isdecimal() else None


def last_name(update: int) -> str:
    """Return the name of the `last` checkpoint of an update."""
    return f"{LAST}-{update:06d}"


def best_name(metric: str) -> str:
    """Return the name of the checkpoint that is best by a metric, `best-<metric>`."""
    return f"{_BEST}{metric}"


def best_metric(name: str) -> str:
    """Return the metric by which a checkpoint of this name is the best; empty of another."""
    return name.removeprefix(_BEST) if name.startswith(_BEST) else ""


def choose_checkpoint(path: Path, *, kind: str | None = None) -> Path | None:
    """Return the checkpoint meant by a folder; None when there is none.

    Everyone who is given a run or its folder asks here, so that all mean the same checkpoint.

    Args:
        path: a checkpoint, a run's folder or its `checkpoints` folder.
        kind: `last`, `best-<metric>`, or the name of one of several as listed, `last-000400`; None is `path`
            itself where it is a checkpoint, else the one that `engine.metrics.best.best_checkpoint` chooses.
            Those without a manifest don't count; one whose manifest is damaged does, and is refused when it
            is read.
    """
    if kind is None and (path / MANIFEST).is_file():
        return path
    for folder in (path, path / CHECKPOINTS):
        best = {
            place.name: metrics_in(manifest_values(place))
            for place in folder.glob(best_name("*"))
            if (place / MANIFEST).is_file()
        }
        last = [place for place in list_last(folder) if (place / MANIFEST).is_file()]
        chosen = kind or best_checkpoint(best) or LAST
        if chosen in best:
            return folder / chosen
        if chosen == LAST and last:
            return last[0]
        if named := next((place for place in last if place.name == chosen), None):
            return named
    return None


def choose_kmeans(path: Path) -> Path | None:
    """Return the checkpoint whose k-means model a folder means: as `choose_checkpoint`, or of `sepdash cluster`."""
    clustered = path / CLUSTERING
    chosen = choose_checkpoint(path)
    return clustered if chosen is None and (clustered / MANIFEST).is_file() else chosen


def trained_config(checkpoint: Path) -> dict[str, Any]:
    """Return the config that a checkpoint says it was trained with; empty where it can't be read."""
    config = manifest_values(checkpoint).get("config")
    return config if isinstance(config, dict) else {}


def content_of(checkpoint: Path) -> str:
    """Return sixteen hex digits that identify the content of a checkpoint; empty if it does not exist.

    They come from the hashes of its files, or of the file that takes its place, so that a copy elsewhere
    has the same.
    """
    if checkpoint.is_file():
        return hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:16]
    values = manifest_values(checkpoint)
    return content_name(values) if "files" in values else ""


def content_name(manifest: Mapping[str, Any]) -> str:
    """Return the name of the content that the values of a manifest list."""
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:16]


def metrics_in(manifest: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics among the values of a manifest, by stored name; none where it has none."""
    metrics = manifest.get("metrics")
    return metrics if isinstance(metrics, dict) else {}


def manifest_values(checkpoint: Path) -> dict[str, Any]:
    """Return what the manifest of a checkpoint says, unverified; empty where it can't be read."""
    try:
        values = json.loads((checkpoint / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
