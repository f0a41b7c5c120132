"""The section `[search]` of an experiment file: how settings are searched, and what is confirmed.

`jobs.sweeps.search_space` reads what is varied; `jobs.searches` makes the proposals.
"""

from __future__ import annotations

from typing import Any, Literal

from models.base.settings import Section, setting

Sampler = Literal["tpe", "random"]
PrunerName = Literal["none", "median", "hyperband"]


class SearchSettings(Section):
    """How settings are searched."""

    trials: int = setting(
        20, "Number of trials; the first one is the base itself.", ge=2, le=10_000
    )
    metric: str = setting("", "Metric to optimise; empty: the headline metric of the task.")
    sampler: Sampler = setting("tpe", "How settings are proposed.")
    pruner: PrunerName = setting("median", "Rule that ends hopeless trials early.")
    startup: int = setting(
        5, "The median rule prunes only after this many trials have finished.", ge=1
    )
    prune_from: float = setting(
        0.2, "Fraction of a run before which no trial is pruned.", ge=0.0, lt=1.0
    )
    seed: int = setting(0, "Seed of the proposals and of all trials.", ge=0, le=2**31 - 1)
    confirm: int = setting(
        3, "Number of best trials that are run again with fresh seeds.", ge=0, le=100
    )
    confirm_seeds: int = setting(
        3, "Number of fresh seeds for each of them, and for the base.", ge=1, le=100
    )
    space: dict[str, Any] = setting({}, "Settings to vary, each with its range or choices.")

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        """Seeds of the confirming runs: the smallest ones that no trial had."""
        seeds = (seed for seed in range(self.confirm_seeds + 1) if seed != self.seed)
        return tuple(seeds)[: self.confirm_seeds]
