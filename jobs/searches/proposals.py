"""From a proposal to the config of its run, matched to the base in length."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.config.span import Clock
from engine.data.update_size import mean_update_size, planned_size
from engine.training.schedules import total_updates
from jobs.searches.definition import Definition
from jobs.searches.trials import Suggest
from jobs.sweeps.expand import Variant, put
from jobs.sweeps.matching import match_lengths
from jobs.sweeps.plan import run_name
from jobs.sweeps.search_space import BASELINE
from presets.merging import value_at

# More comparisons than these tell nothing new, and each is a row of Optuna's file.
_MOST_RUNGS = 40


def suggested(definition: Definition, variant: str, *, suggest: Suggest) -> dict[str, Any]:
    """Return the value of each setting of a proposal, those of the base for the first one.

    A setting of which a condition does not hold is left out. Of the base, the values that a proposal
    could have are given to the sampler; others belong to it all the same.
    """
    values: dict[str, Any] = dict(definition.base)
    settings: dict[str, Any] = {}
    for parameter in definition.space:
        if not parameter.is_active(values):
            continue
        if variant == BASELINE:
            own = settings[parameter.key] = value_at(values, parameter.key)
            if parameter.contains(own):
                suggest(parameter)
            continue
        settings[parameter.key] = suggest(parameter)
        values = put(values, parameter.key, value=settings[parameter.key])
    return settings


def config_of(definition: Definition, settings: Mapping[str, Any], *, seed: int) -> RunConfig:
    """Return the config of a trial or of a run that confirms it.

    Raises:
        ConfigError: when the settings do not fit together.
    """
    values: dict[str, Any] = dict(definition.base)
    for key, value in settings.items():
        values = put(values, key, value=value)
    own = frozenset(settings)
    base = Variant(BASELINE, definition.base, own=frozenset(), config=definition.base_config)
    variant = Variant("proposal", values, own=own, config=load_config(values))
    experiment = definition.file
    _, matched = match_lengths(
        [base, variant], experiment.match,
        scale_schedules=experiment.scale_schedules, speed=lambda config: None,
    )  # fmt: skip
    return load_config(put(matched.values, "seed", value=seed))


def name_of(definition: Definition, variant: str, *, seed: int) -> str:
    """Return the name of a run of a search."""
    return run_name(definition.file, definition.name, variant=variant, seed=seed)


def rungs_of(config: RunConfig, match: str) -> tuple[Clock, tuple[float, ...]]:
    """Return the clock on which trials are compared, and the positions at which the base is evaluated.

    Epochs and audio seconds of an update depend on the data, which is read for them.
    """
    clock: Clock = "items" if match == "none" else match  # type: ignore[assignment]
    by_data = clock in ("audio_seconds", "epochs")
    size = mean_update_size(config, epochs=clock == "epochs") if by_data else planned_size(config)
    total = total_updates(config.schedule.length, size)
    every = max(1.0, size.updates_in(config.validation.every))
    every *= math.ceil(total / every / _MOST_RUNGS)
    per_update = 1.0 if clock == "updates" else float(getattr(size, clock))
    marks = [
        every * number for number in range(1, math.ceil(total / every)) if every * number < total
    ]
    return clock, tuple(mark * per_update for mark in (*marks, total))
