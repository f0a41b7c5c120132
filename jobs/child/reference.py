"""The validation curve that `stop_when.reference` leads to, kept in the run's own folder.

The first start copies the curve from the store, and notes file and content; later ones read the copy,
so that the run decides the same whatever becomes of the reference.
"""

from __future__ import annotations

import math
from hashlib import sha256
from pathlib import Path

from engine.config.references import CURVE
from engine.config.schema import RunConfig
from engine.config.stop_when import stop_metric
from engine.training.reference_rule import ReferenceCurve, read_reference
from jobs.child.needs import NeedError
from jobs.home import Home
from jobs.store.needs import note_checkpoint
from jobs.store.reader import StoreReader
from jobs.store.records import ALL_POINTS, NeedRecord
from jobs.store.writer import StoreWriter
from models.private_files import write_private

_FILE = "reference.json"


def reference_needed(home: Home, run_id: int, *, config: RunConfig) -> ReferenceCurve | None:
    """Return the curve of the run's reference; None where it has none.

    Raises:
        NeedError: when the copy that the run began with is gone or has changed.
    """
    with StoreReader(home.store) as reader:
        need = next((need for need in reader.needs(run_id) if need.which == CURVE), None)
        if need is None:
            return None
        if need.checkpoint:
            return _as_before(need)
        assert need.needed is not None, "a folder has no curve"
        name = stop_metric(config)
        curve = _read(reader, need.needed, series=name)
    _keep(home, need, curve=curve, series=name)
    return curve


def _as_before(need: NeedRecord) -> ReferenceCurve:
    path = Path(need.checkpoint)
    try:
        if _content(path) == need.content:
            return read_reference(path)
        how = "has changed"
    except OSError:
        how = "is missing"
    raise NeedError(
        f"{need.key}: the curve of {need.needed_name} that this run started with ({path}) {how}; restore "
        f"it, or resume with --set {need.key}=none"
    )


def _read(reader: StoreReader, run_id: int, *, series: str) -> ReferenceCurve:
    run = reader.run(run_id)
    # The store counts items at the end of a run only.
    per_update = run.items / run.updates if run.updates else 0.0
    curve = reader.curve(run_id, series, max_points=ALL_POINTS)
    pairs = [
        (update * per_update, value)
        for update, value in zip(curve.updates, curve.last, strict=True)
        if value is not None and math.isfinite(value)
    ]
    return ReferenceCurve(
        run.name, tuple(items for items, _ in pairs), tuple(value for _, value in pairs)
    )


def _keep(home: Home, need: NeedRecord, *, curve: ReferenceCurve, series: str) -> None:
    path = home.run_folder(need.run) / _FILE
    write_private(path, curve.to_json())
    message = f"{need.key}: compares {series} with {len(curve.items)} evaluations of {curve.name}"
    with StoreWriter(home.store) as store, store.transaction() as connection:
        note_checkpoint(connection, need, checkpoint=str(path), content=_content(path))
        store.add_event(
            need.run, "info", kind="need-met", message=message,
            details={"key": need.key, "run": need.needed, "metric": series},
        )  # fmt: skip


def _content(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]
