"""Where the size of an update stands beside what published results use. Free of torch."""

from __future__ import annotations

from engine.batching.report import PlanReport

# Below it, a training set is so small that a recommended update would hold a large part of it.
_LARGE_SETS = 20
_EDGE = 0.95


def batch_advice(report: PlanReport, recommended: tuple[int, float]) -> str:
    """Return what is recommended, and where a plan stands.

    Args:
        report: the plan.
        recommended: items and seconds of an update; one of them exceeded is enough.
    """
    items, seconds = recommended
    share = max(report.mean_items / items, report.mean_s / seconds)
    rule = f"more than {items:,} items or {seconds / 3600:g} h per update, as published results use"
    if share > 1:
        return f"{rule}; this is {share:.2f} times that"
    if share >= _EDGE:
        return f"{rule}; this is at its lower edge ({share:.0%})"
    if report.audio_s < _LARGE_SETS * seconds:
        return (
            f"{rule} on large data sets; this is {share:.1%} of that, and the whole training set only "
            f"{report.audio_s / seconds:.2g} such updates: a smaller update is right"
        )
    more = "batch.items or batch.seconds" if report.mode == "exact" else "batch.accumulation"
    return f"{rule}; this is only {share:.1%} of that: raise {more} (memory stays as it is)"
