"""What a search varies: ranges and choices of settings, and the check of them before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from engine.config.errors import ConfigError, Problem, nearest
from engine.config.fields import SettingInfo, list_settings
from engine.config.loading import expectation, load_config
from engine.config.old_names import current_setting
from engine.config.schema import RunConfig
from engine.config.stop_when import missing_setting, why_unmeasured
from engine.metrics.registry import BUILT_IN, compared_names, metric_of, target_names, variants
from engine.recipes.specs import spec_of
from jobs.sweeps.expand import put
from jobs.sweeps.experiment import Experiment
from jobs.sweeps.search_settings import SearchSettings
from models.base.settings import Section, setting
from presets.merging import leaves, value_at

# The trial that is the base itself.
BASELINE = "t000"

# Sections and settings that decide what is measured, and on which items. If trials differed in one, the
# easiest validation items would win, not the best settings.
_DECIDES_SCORES = (
    "data.kind", "data.valid", "data.noise", "data.noise_valid", "data.layout", "data.held_out",
    "data.rate_hz", "data.channels", "data.resample", "data.input_rates_hz", "data.snr_low_db",
    "data.snr_high_db", "data.targets", "data.others", "data.mixture", "data.num_speakers",
    "data.level_range_db", "data.case", "data.punctuation", "validation.segment_s", "validation.max_items",
    "validation.full_files", "validation.metrics", "validation.metrics_max_s",
)  # fmt: skip


class ParameterSettings(Section):
    """One setting of the space, as a file holds it."""

    low: float | None = setting(None, "Smallest value.")
    high: float | None = setting(None, "Largest value.")
    step: float | None = setting(None, "Distance between values.", gt=0)
    log: bool = setting(False, "Draw values on a logarithmic scale.")
    choices: list[Any] | None = setting(None, "Values to choose from.", min_length=2)
    when: dict[str, Any] = setting(
        {}, "Values of other settings that this one depends on; without them it keeps its value."
    )


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting to vary: a range or choices.

    Attributes:
        is_whole: whether values are whole numbers.
        when: settings, and the values of which each must have one; else the setting is not varied.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    is_whole: bool = False
    choices: tuple[Any, ...] = ()
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values to check: all choices, or both ends of the range."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.is_whole else (self.low, self.high)

    @property
    def text(self) -> str:
        """The range or the choices, as a person reads them."""
        if self.choices:
            text = ", ".join(str(choice) for choice in self.choices)
        else:
            step = f" in steps of {self.step:g}" if self.step else ""
            text = f"{self.low:g} to {self.high:g}{step}{', log' if self.log else ''}"
        conditions = " and ".join(
            f"{key} = {' or '.join(map(str, values))}" for key, values in self.when
        )
        return f"{text}, when {conditions}" if conditions else text

    def contains(self, value: Any) -> bool:
        """Return whether a value is one that a proposal could have."""
        if self.choices:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not self.low <= value <= self.high or (self.is_whole and not float(value).is_integer()):
            return False
        if not self.step:
            return True
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Return whether its conditions hold in nested values of settings."""
        return all(value_at(values, key) in allowed for key, allowed in self.when)


def read_space(search: SearchSettings) -> tuple[Parameter, ...]:
    """Return what is varied, every setting after those that its conditions name.

    Raises:
        ConfigError: with every problem of the space.
    """
    problems: list[Problem] = []
    known = {item.key: item for item in list_settings()}
    found: dict[str, Parameter] = {}
    for written, entry in _entries(search.space):
        key = current_setting(written)
        place = f"search.space.{written}"
        if key not in known:
            problems.append(Problem(place, f"unknown setting{nearest(key, known)}"))
            continue
        if key == "seed":
            problems.append(Problem(place, "can't be varied: use search.seed and confirm_seeds"))
            continue
        try:
            found[key] = _parameter(key, entry, info=known[key], place=place)
        except ConfigError as error:
            problems += error.problems
    if not search.space:
        problems.append(
            Problem("search.space", "is empty; expected settings to vary, like "
                    "optimizer.lr = { low = 1e-4, high = 1e-2, log = true }")
        )  # fmt: skip
    for parameter in found.values():
        problems += [
            Problem(
                f"search.space.{parameter.key}.when",
                f"unknown setting {key!r}{nearest(key, known)}",
            )
            for key, _ in parameter.when
            if key not in known
        ]
    if problems:
        raise ConfigError(problems)
    return _in_order(found)


def for_trials(experiment: Experiment, base: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a search with its first trial, the base, as its only variant.

    Every value of the space is checked against the settings of a run. A value may depend on others that
    are varied, too: reported is what is wrong with the setting itself, or a setting with which no run
    could be trained at all.

    Raises:
        ConfigError: with every problem of the search.
    """
    search = experiment.search
    assert search is not None
    problems = list(_misfits(experiment, search))
    try:
        space = read_space(search)
        problems += _unfair(experiment, space)
        # What is wrong with the base is reported as such.
        if not _problems(base):
            problems += _unmeasured(search, space, base=load_config(base))
            for parameter in space:
                problems += _wrong_values(parameter, base)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return experiment.model_copy(update={"seeds": (search.seed,), "variants": {BASELINE: {}}})


def _misfits(experiment: Experiment, search: SearchSettings) -> Iterable[Problem]:
    """Yield what does not fit to a search, and an unknown metric."""
    for name in ("variants", "grid", "seeds"):
        if name in experiment.model_fields_set:
            instead = "search.seed and search.confirm_seeds" if name == "seeds" else "search.space"
            yield Problem(name, f"can't be combined with [search]; use {instead}")
    if experiment.match == "wall_clock":
        yield Problem(
            "match",
            "wall_clock needs the speed of settings that were never run; match items or updates",
        )
    for word in ("{variant}", "{seed}"):
        if word not in experiment.name:
            yield Problem("name", f"must contain {word}, so that all runs of a search have names")
    names = _metric_names()
    if search.metric and search.metric not in names:
        hint = nearest(search.metric, names) or f"; expected {', '.join(sorted(names))}"
        yield Problem("search.metric", f"unknown metric {search.metric!r}{hint}")


def _metric_names() -> set[str]:
    names = {*compared_names(), *target_names()}
    return names | {name for metric in BUILT_IN for name in variants(metric.name)}


def _unfair(experiment: Experiment, space: Iterable[Parameter]) -> Iterable[Problem]:
    """Yield the settings that make trials incomparable, or that the matching would set."""
    for parameter in space:
        place = f"search.space.{parameter.key}"
        if parameter.key in _DECIDES_SCORES:
            yield Problem(
                place,
                "can't be varied: it decides what is measured, and trials could not be compared",
            )
        if parameter.key == "schedule.length" and experiment.match != "none":
            yield Problem(
                place,
                f"match = {experiment.match!r} computes it for every trial; remove it, or use match = 'none'",
            )


def _unmeasured(
    search: SearchSettings, space: Iterable[Parameter], *, base: RunConfig
) -> Iterable[Problem]:
    """Yield why the metric is not measured, or does not mean the same in all trials."""
    name = search.metric or spec_of(base.recipe).listed_by(base)
    if search.metric in _metric_names() and (
        why := why_unmeasured(name, recipe=base.recipe, ema=base.ema, validation=base.validation)
    ):
        yield Problem("search.metric", f"{name!r}: {why}")
    elif why := missing_setting(name, base):
        yield Problem("search.metric", f"{name!r}: {why}, or choose another metric")
    for parameter in space:
        if any(f"{parameter.key}.".startswith(f"{same}.") for same in metric_of(name).same):
            yield Problem(
                f"search.space.{parameter.key}",
                f"can't be varied in a search for {name}, whose values would not mean the same; choose another "
                "search.metric",
            )


def _wrong_values(parameter: Parameter, base: Mapping[str, Any]) -> list[Problem]:
    values = dict(base)
    for key, allowed in parameter.when:
        values = put(values, key, value=allowed[0])
    tried = [_problems(put(values, parameter.key, value=end)) for end in parameter.ends]
    hopeless = all(tried)
    return [
        Problem(
            f"search.space.{parameter.key}",
            item.message if item.key == parameter.key else str(item),
        )
        for found in tried
        for item in found
        if hopeless or f"{item.key}.".startswith(f"{parameter.key}.")
    ]


def _problems(values: Mapping[str, Any]) -> tuple[Problem, ...]:
    try:
        load_config(values)
    except ConfigError as error:
        return error.problems
    return ()


def _entries(space: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield the dotted key and the table of each setting: `optimizer.lr`, quoted or not."""
    names = set(ParameterSettings.model_fields)
    for key, value in space.items():
        if isinstance(value, Mapping) and value and not names & set(value):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parameter(key: str, entry: Any, *, info: SettingInfo, place: str) -> Parameter:
    example = "expected { low = 1e-4, high = 1e-2 } or { choices = [1, 2] }"
    if not isinstance(entry, Mapping):
        raise ConfigError([Problem(place, f"{example}, found {entry!r}")])
    try:
        read = ParameterSettings.model_validate(dict(entry))
    except ValidationError as error:
        raise ConfigError(_worded(error, place)) from None
    when = tuple(
        (current_setting(name), tuple(value) if isinstance(value, list) else (value,))
        for name, value in leaves(read.when)
    )
    if read.choices is not None:
        return _of_choices(key, read, when=when, place=place)
    problems = [
        Problem(place, f"{name} is missing; {example}")
        for name in ("low", "high")
        if getattr(read, name) is None
    ]
    if info.type_name not in ("int", "float"):
        problems = [
            Problem(place, "is no number, so it has no range; expected { choices = [...] }")
        ]
    if problems:
        raise ConfigError(problems)
    assert read.low is not None
    assert read.high is not None
    whole = info.type_name == "int"
    numbers = {"low": read.low, "high": read.high, "step": read.step}
    if whole:
        problems += [
            Problem(f"{place}.{name}", f"expected a whole number, found {number!r}")
            for name, number in numbers.items()
            if number is not None and not float(number).is_integer()
        ]
    if not read.low < read.high:
        problems.append(Problem(place, f"low = {read.low:g} must be below high = {read.high:g}"))
    if read.log and read.low <= 0:
        problems.append(Problem(place, f"log = true needs low > 0, found {read.low:g}"))
    if read.log and read.step is not None:
        problems.append(
            Problem(place, "has a step, which a logarithmic range can't have; remove one")
        )
    if problems:
        raise ConfigError(problems)
    return Parameter(
        key, read.low, read.high, step=read.step, log=read.log, is_whole=whole, when=when
    )


def _of_choices(
    key: str, read: ParameterSettings, *, when: tuple[tuple[str, tuple[Any, ...]], ...], place: str
) -> Parameter:
    choices = tuple(read.choices or ())
    used = read.model_fields_set & {"low", "high", "step", "log"}
    problems = [
        Problem(place, f"has choices, so {name} does nothing; remove it") for name in sorted(used)
    ]
    texts = [repr(choice) for choice in choices]
    problems += [
        Problem(place, f"has the choice {text} twice")
        for text in dict.fromkeys(texts)
        if texts.count(text) > 1
    ]
    if problems:
        raise ConfigError(problems)
    return Parameter(key, choices=choices, when=when)


def _worded(error: ValidationError, place: str) -> list[Problem]:
    problems = []
    names = list(ParameterSettings.model_fields)
    for detail in error.errors(include_url=False):
        key = ".".join([place, *map(str, detail["loc"])])
        if detail["type"] == "extra_forbidden":
            name = str(detail["loc"][-1])
            hint = nearest(name, names) or f"; expected {', '.join(names)}"
            problems.append(Problem(key, f"unknown key{hint}"))
        else:
            problems.append(Problem(key, expectation(detail, key)))
    return problems


def _in_order(space: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    ordered: dict[str, Parameter] = {}
    left = dict(space)
    while left:
        ready = [
            key
            for key, parameter in left.items()
            if not any(name in left for name, _ in parameter.when)
        ]
        if not ready:
            names = ", ".join(left)
            raise ConfigError(
                [Problem("search.space", f"conditions depend on each other: {names}")]
            )
        for key in ready:
            ordered[key] = left.pop(key)
    return tuple(ordered.values())
