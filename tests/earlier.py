"""Runs of a store that took known times: what a plan is estimated from."""

from __future__ import annotations

from engine.config.schema import RunConfig
from engine.data.update_size import planned_size
from engine.training.schedules import is_due, total_updates
from jobs.store.records import EvaluationRecord
from jobs.store.writer import StoreWriter

BEGUN = 1_700_000_000.0


def evaluated_at(config: RunConfig, total: int) -> dict[int, bool]:
    """Return the updates after which a run evaluates, and whether whole files, as its trainer does."""
    size, settings = planned_size(config), config.validation
    found = {}
    if settings.at_start and config.init_from is not None:
        found[0] = False
    for update in range(1, total + 1):
        first = settings.at_start and update == 1 and config.init_from is None
        full = settings.full_every
        is_last = update == total
        whole = settings.full_files and (
            is_last or (full is not None and is_due(full, update, size=size))
        )
        if first or whole or is_last or is_due(settings.every, update, size=size):
            found[update] = whole
    return found


def add_earlier(
    store: StoreWriter,
    config: RunConfig,
    *,
    name: str = "earlier",
    update_s: float = 0.5,
    evaluation_s: float = 2.0,
    whole_s: float = 10.0,
    startup_s: float = 6.0,
    warmup_s: float = 3.0,
) -> int:
    """Add a finished run whose parts took these seconds; the warm-up is in its first update."""
    size = planned_size(config)
    total = total_updates(config.schedule.length, size)
    run_id = store.insert_run(
        {"name": name, "config": config.to_json(), "fingerprint": "", "seed": config.seed,
         "total_updates": total}
    )  # fmt: skip
    evaluations = evaluated_at(config, total)
    seconds = 0.0
    for update in range(total + 1):
        if update:
            seconds += update_s + (warmup_s if update == 1 else 0.0)
        if update in evaluations:
            seconds += whole_s if evaluations[update] else evaluation_s
            record = EvaluationRecord(run_id, update, train_seconds=seconds, items_key="items")
            store.add_results(record, {"si_sdr": [1.0]})
    rates = [1 / (update_s + warmup_s), *[1 / update_s] * (total - 1)]
    store.add_points(
        run_id,
        steps=range(1, total + 1),
        series={"updates_per_s": rates},
        units={"updates_per_s": "1/s"},
    )
    if whole := [update for update, full in evaluations.items() if full]:
        series = {"si_sdr_full": [1.0] * len(whole)}
        store.add_points(run_id, steps=whole, series=series, units={"si_sdr_full": "dB"})
    after = size.after(total)
    store.move(
        run_id, "finished", ("queued",),
        updates=total, items=after.items, audio_seconds=after.audio_seconds, train_seconds=seconds,
        started_at=BEGUN, ended_at=BEGUN + startup_s + seconds,
    )  # fmt: skip
    return run_id
