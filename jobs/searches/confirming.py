"""The best trials of a search, and the runs with fresh seeds that judge them.

The winner of a search is the best of many draws, so its value is too good on average. What it is worth
is known from runs of the same settings that had no part in the choice.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.metrics.registry import metric_of
from jobs.searches.definition import Definition
from jobs.searches.proposals import config_of, name_of
from jobs.searches.trials import Trial
from jobs.submit import NewRun
from jobs.sweeps.search_space import BASELINE

# The variant of the base among the confirming runs.
REFERENCE = "baseline"


def best_of(
    trials: Sequence[Trial], definition: Definition, *, with_base: bool = False
) -> list[Trial]:
    """Return the best finished trials, the best one first; the base is none of them unless asked for."""
    finished = {
        trial.variant: trial
        for trial in trials
        if trial.state == "finished"
        and trial.value is not None
        and (with_base or trial.variant != BASELINE)
    }
    rises = metric_of(definition.metric).rises
    ranked = sorted(
        finished.values(),
        key=lambda t: (-t.value if rises else t.value, t.variant),  # type: ignore[operator]
    )
    return ranked[: max(1, definition.search.confirm)]


def confirming_runs(definition: Definition, best: Sequence[Trial]) -> list[NewRun]:
    """Return the runs: the base first, which is the reference, and every variant before the next seed."""
    search = definition.search
    if search.confirm == 0:
        return []
    chosen = [(REFERENCE, {}), *((trial.variant, trial.settings or {}) for trial in best)]
    return [
        NewRun(
            config_of(definition, settings, seed=seed),
            name=name_of(definition, variant, seed=seed),
            variant=variant,
        )
        for seed in search.fresh_seeds
        for variant, settings in chosen
    ]
