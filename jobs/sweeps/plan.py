"""A sweep before it is queued: every run with its length, cost and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.config.errors import ConfigError, DataError, InputError, Problem
from engine.config.iterations import iterations_of
from engine.config.loading import load_config
from engine.config.overrides import applied
from engine.config.schema import RunConfig
from engine.data.update_size import counts_epochs, planned_size
from engine.training.run_warnings import run_warnings
from engine.training.schedules import total_updates
from jobs.home import Home
from jobs.needs import check_needs
from jobs.readiness import refusals as refusals_of
from jobs.submit import NewRun, absolute, check_name, enqueue_all
from jobs.sweeps.expand import Variant, expand, put
from jobs.sweeps.experiment import Experiment, load_experiment
from jobs.sweeps.matching import match_lengths
from jobs.sweeps.measured import Duration, Measured
from jobs.sweeps.probe_requests import check_probe, request_probe
from jobs.sweeps.search_space import for_trials
from presets.catalogue import Catalogue
from presets.merging import merge


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a sweep; `epochs` is 0 where the data isn't read, `duration` and `size_bytes` are None without a comparable earlier run."""

    name: str
    variant: str
    seed: int
    config: RunConfig
    updates: int
    items: int
    audio_seconds: float
    epochs: float
    duration: Duration | None
    size_bytes: int | None
    warnings: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """The expected time of the run; None when unknown."""
        return None if self.duration is None else self.duration.expected_s


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep: its runs in training order, all variants of one seed before the next seed.

    That of a search has one run, its first trial: the base itself.
    """

    name: str
    experiment: Experiment
    runs: tuple[PlannedRun, ...]


def plan_sweep(
    name: str,
    values: Mapping[str, Any],
    catalogue: Catalogue,
    *,
    assignments: Sequence[str] = (),
    measured: Measured | None = None,
) -> Plan:
    """Expand an experiment file to its runs.

    Args:
        name: the experiment's name.
        values: content of the file.
        catalogue: contains its base preset.
        assignments: `key=value` overrides of the settings shared by all runs; variants override them.
        measured: speed and size of earlier runs.

    Raises:
        ConfigError: with every problem of the file or the settings.
        DataError: with all that is wrong with data, where lengths depend on them.
        PresetError: when the base preset can't be read.
        StoreError: when the experiment gives its runs invalid names.
    """
    experiment = load_experiment(values)
    base = merge(catalogue.read(experiment.base), experiment.settings)
    if experiment.search is not None:
        experiment = for_trials(experiment, applied(base, assignments)[0])
    variants = _expanded(experiment, base, assignments=assignments)
    try:
        runs = _planned_all(
            name, experiment, variants=variants, measured=measured or Measured({}, {})
        )
    except DataError as error:
        # Lengths were read from data: of all that is wrong it tells the first.
        configs = [load_config(put(v.values, "seed", value=0)) for v in variants]
        wrong = _problems(experiment, configs)
        raise DataError(wrong or error.problems) from None
    names = [run.name for run in runs]
    for text in names:
        check_name(text)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(
            [Problem("name", f"gives several runs the same name: {', '.join(twice)}")]
        )
    return Plan(name, experiment, runs=tuple(runs))


def check_sweep(home: Home, plan: Plan) -> None:
    """Check the references to runs in a plan as queueing does; writes nothing.

    Raises:
        ConfigError: with every reference that leads nowhere, or runs that need each other.
    """
    check_needs(home, {run.name: run.config for run in plan.runs})


def refusals(plan: Plan) -> list[str]:
    """Return what queueing a plan would refuse beside what `check_sweep` does and names that are taken.

    All problems of data folders, packages and labelled recordings for probes, one text each.
    """
    return list(map(str, _problems(plan.experiment, [run.config for run in plan.runs])))


def _problems(experiment: Experiment, configs: Sequence[RunConfig]) -> list[Problem]:
    """Return what is wrong with what runs need, and with what they are probed with."""
    all_configs = [one for config in configs for _, one in iterations_of(absolute(config), "run")]
    errors: list[InputError] = refusals_of(all_configs)
    if experiment.probe is not None:
        try:
            check_probe(experiment.probe, all_configs)
        except InputError as error:
            errors.append(error)
    return list(dict.fromkeys(problem for error in errors for problem in error.problems))


def with_runs(plan: Plan, configs: Mapping[str, RunConfig], *, measured: Measured) -> Plan:
    """Return a plan with other configs for some of its runs, given by name."""
    runs = tuple(
        _planned(run.name, run.variant, config=configs[run.name], measured=measured)
        if run.name in configs
        else run
        for run in plan.runs
    )
    return replace(plan, runs=runs)


def queue_sweep(home: Home, plan: Plan) -> list[int]:
    """Enqueue all runs of a plan, or none, and return their ids.

    Raises:
        ConfigError: when its runs can't be probed, or no installed package has a recipe or the metrics.
        DataError: with every problem of the data folders.
        StoreError: when a name is taken or invalid, or the store can't be written.
    """
    probe = plan.experiment.probe
    if probe is not None:
        check_probe(probe, [run.config for run in plan.runs])
    runs = [NewRun(run.config, name=run.name, variant=run.variant) for run in plan.runs]
    ids = enqueue_all(home, runs, preset=plan.experiment.base, experiment=plan.name)
    if probe is not None:
        request_probe(home, plan.name, runs=ids, settings=probe)
    return ids


def _expanded(
    experiment: Experiment, base: Mapping[str, Any], *, assignments: Sequence[str]
) -> list[Variant]:
    """Return the variants; problems of assignments are reported together with theirs."""
    values, wrong = applied(base, assignments)
    try:
        variants = expand(experiment, values)
    except ConfigError as error:
        raise ConfigError([*wrong, *error.problems]) from None
    if wrong:
        raise ConfigError(wrong)
    return variants


def _planned_all(
    name: str, experiment: Experiment, *, variants: list[Variant], measured: Measured
) -> list[PlannedRun]:
    """Return the runs of all variants and seeds, with matched lengths."""
    matched = match_lengths(
        variants,
        experiment.match,
        scale_schedules=experiment.scale_schedules,
        speed=measured.seconds_per_update,
    )
    return [
        _planned(
            run_name(experiment, name, variant=variant.name, seed=seed),
            variant.name,
            config=load_config(put(variant.values, "seed", value=seed)),
            measured=measured,
        )
        for seed in experiment.seeds
        for variant in matched
    ]


def _planned(name: str, variant: str, *, config: RunConfig, measured: Measured) -> PlannedRun:
    """Return what is known of a run; time and files are those of all its iterations."""
    chain = [one for _, one in iterations_of(config, name)]
    sizes = [planned_size(one) for one in chain]
    ends = [
        size.after(total_updates(one.schedule.length, size))
        for one, size in zip(chain, sizes, strict=True)
    ]
    durations = [
        measured.duration(one, size, total=end.updates)
        for one, size, end in zip(chain, sizes, ends, strict=True)
    ]
    files = [measured.size_bytes(one) for one in chain]
    warnings = run_warnings(config, size=sizes[-1] if counts_epochs(config) else None)
    if len(chain) > 1:
        warnings.append(
            f"its {len(chain)} iterations are queued as runs that wait for each other; time and disk are "
            "those of all of them, lengths those of the last one"
        )
    return PlannedRun(
        name,
        variant,
        seed=config.seed,
        config=config,
        updates=ends[-1].updates,
        items=ends[-1].items,
        audio_seconds=ends[-1].audio_seconds,
        epochs=ends[-1].epochs,
        duration=_added(durations),
        size_bytes=None if None in files else sum(size for size in files if size is not None),
        warnings=tuple(warnings),
    )


def _added(durations: Sequence[Duration | None]) -> Duration | None:
    known = [duration for duration in durations if duration is not None]
    if len(known) < len(durations):
        return None
    return Duration(
        sum(duration.expected_s for duration in known),
        sum(duration.slowest_s for duration in known),
    )


def run_name(experiment: Experiment, name: str, *, variant: str, seed: int) -> str:
    """Return the name of a run by the pattern of its experiment.

    Raises:
        ConfigError: when the pattern has an unknown placeholder.
    """
    words = {"experiment": name.replace("/", "-"), "variant": variant, "seed": str(seed)}
    text = experiment.name
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    if "{" in text:
        known = ", ".join(f"{{{word}}}" for word in words)
        raise ConfigError(
            [Problem("name", f"may contain only the placeholders {known}, got {experiment.name!r}")]
        )
    return text
