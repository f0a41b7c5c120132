"""Runs of an experiment that exist already, against the experiment as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from jobs.submit import absolute
from jobs.sweeps.matching import INTERVALS, SCHEDULES
from jobs.sweeps.measured import Measured
from jobs.sweeps.plan import Plan, PlannedRun, with_runs
from presets.merging import leaves

_CLOCKS = {"schedule.length", *INTERVALS, *SCHEDULES}

# The config of each existing run, by its name.
Stored = Mapping[str, Mapping[str, Any]]


def with_lengths_of(plan: Plan, stored: Stored, *, measured: Measured) -> Plan:
    """Return a plan whose missing runs are as long as the existing runs of their variants.

    Lengths that are matched in wall clock follow from the speeds that are known when a sweep is
    planned; a later plan would make the seeds of one variant differ.
    """
    if plan.experiment.match != "wall_clock":
        return plan
    models: dict[str, Mapping[str, Any]] = {}
    for run in plan.runs:
        if run.name in stored and set(differences(run, stored[run.name])) <= _CLOCKS:
            models.setdefault(run.variant, stored[run.name])
    configs = {
        run.name: load_config({**models[run.variant], "seed": run.seed})
        for run in plan.runs
        if run.variant in models
    }
    return with_runs(plan, configs, measured=measured)


def differences(run: PlannedRun, stored: Mapping[str, Any]) -> list[str]:
    """Return the settings in which an existing run differs from the plan of it."""
    try:
        there = dict(leaves(load_config(stored).to_dict()))
    except ConfigError:
        # Of an earlier version, or of a package that is no longer installed.
        return []
    planned = dict(leaves(absolute(run.config).to_dict()))
    return sorted(
        key for key in there.keys() | planned.keys() if there.get(key) != planned.get(key)
    )
