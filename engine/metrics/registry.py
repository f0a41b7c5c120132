"""Every metric a run is measured by: the built-in ones and those of installed packages, and their names.

A value is stored under the name of its metric and, in this order, `_full` where whole files were
evaluated rather than excerpts of them, `_train` where training items were, and `_ema` where the averaged
weights were: `si_sdr_full_ema`, `val_loss_train_ema`.
Only this module builds and parses such names.

Installed packages declare theirs as `metrics` of a recipe (entry point `sepdash.recipes`); they are
looked up when a name is not built in. Free of torch and pydantic: the dashboard reads it before its
first frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from itertools import product
from typing import Any, TypeVar

from engine.metrics.built_in import BUILT_IN as BUILT_IN
from engine.metrics.metric import Metric as Metric
from engine.metrics.metric import Reading
from engine.metrics.self_supervised import settings_of_labels
from models.entry_points import find_plugins

_FULL, _TRAIN, _EMA = "_full", "_train", "_ema"
_VAL = "val_"

T = TypeVar("T")

LOSS = "val_loss"
PROBE = "probe_accuracy"
# Validation loss minus that of training items, and how fast it grows.
GAP, GAP_TREND = "overfit_gap", "overfit_trend"

# Number of updates of a run that changed nothing, since their loss or gradient was not finite.
SKIPPED = "skipped"

# Stored beside the values of items where any is bad: 1 for an item whose estimate is not finite, else 0.
NON_FINITE = "non_finite"

# Curves that every run has, and their units; that of the loss is the recipe's. Skipped updates are
# counted from the start; in fp16, those that lowering the loss scale cost are counted apart.
CURVE_UNITS: Mapping[str, str] = {
    "loss": "", "grad_norm": "", "lr": "", SKIPPED: "",
    "audio_s_per_s": "s/s", "updates_per_s": "1/s", "loss_scale": "", "scale_backoffs": "",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetricVariant:
    """A metric, and what it was measured on: the name of a stored series, taken apart."""

    metric: Metric
    full: bool = False
    train: bool = False
    ema: bool = False

    @property
    def name(self) -> str:
        """The stored name."""
        return stored_name(self.metric.name, full=self.full, train=self.train, ema=self.ema)

    @property
    def of(self) -> str:
        """What it was measured on where that is not excerpts and the weights themselves."""
        parts = (
            "whole files" if self.full else "",
            "training items" if self.train else "",
            "averaged weights" if self.ema else "",
        )
        return ", ".join(part for part in parts if part)


def stored_name(name: str, *, full: bool = False, train: bool = False, ema: bool = False) -> str:
    """Return the name under which a metric is stored."""
    return f"{name}{_FULL if full else ''}{_TRAIN if train else ''}{_EMA if ema else ''}"


def variant_of(name: str) -> MetricVariant:
    """Take a stored name apart; an unknown metric keeps its name as its title."""
    ema = name.endswith(_EMA)
    base = name.removesuffix(_EMA)
    train = base.endswith(_TRAIN)
    base = base.removesuffix(_TRAIN)
    full = base.endswith(_FULL)
    base = base.removesuffix(_FULL)
    return MetricVariant(_known(base) or Metric(base, base), full, train=train, ema=ema)


def metric_of(name: str) -> Metric:
    """Return the metric of a stored name, whatever it was measured on."""
    return variant_of(name).metric


def variants(name: str) -> tuple[str, ...]:
    """Return the stored names of a metric: as it is, EMA, and of whole files where it has those."""
    metric = metric_of(name)
    return tuple(
        stored_name(metric.name, full=full, ema=ema)
        for full, ema in product((False, True), (False, True))
        if not (full and not metric.whole_files)
        and not (metric.measure and not full)
        and not (ema and metric.of_input)
    )


def measured_names(recipe: str, *, ema: bool, full: bool) -> tuple[str, ...]:
    """Return the stored names that the evaluations of a recipe may measure, those of the input left out.

    Left out, too, are those of `validation.metrics`, whose values come later.

    Args:
        recipe: its name.
        ema: the averaged weights are evaluated, too.
        full: and so are whole files.
    """
    metrics = [*BUILT_IN, *_installed().values()] if recipe not in _RECIPES else BUILT_IN
    return tuple(
        name
        for metric in metrics
        if not (metric.of_input or metric.of_training or metric.measure)
        and (not metric.measured_by or recipe in metric.measured_by or recipe not in _RECIPES)
        for name in variants(metric.name)
        if (ema or not variant_of(name).ema) and (full or not variant_of(name).full)
    )


def measures() -> tuple[str, ...]:
    """Return what `validation.metrics` can ask for."""
    return tuple(dict.fromkeys(metric.measure for metric in BUILT_IN if metric.measure))


def given_by(measure: str) -> tuple[Metric, ...]:
    """Return the metrics that an entry of `validation.metrics` gives."""
    return tuple(metric for metric in BUILT_IN if metric.measure == measure)


def training_names(series: Iterable[str]) -> tuple[str, ...]:
    """Return which of a run's series its recipe measures in training, in the order of the alphabet.

    Those are what is declared so, and what is neither declared nor has the name of a validation metric.
    """
    names = set(series) - CURVE_UNITS.keys()
    of_training = []
    for name in sorted(names):
        variant = variant_of(name)
        known = _known(variant.metric.name)
        of_validation = (
            name != variant.metric.name
            or name.startswith(_VAL)
            or stored_name(name, ema=True) in names
        )
        if known.of_training if known is not None else not of_validation:
            of_training.append(name)
    return tuple(of_training)


def charted_names(series: Iterable[str]) -> tuple[str, ...]:
    """Return the metrics of a run that a chart of its own can show, given the names of its series.

    Those of evaluations come first, as they are declared; a metric that training measures, too, comes once,
    by the name that it has there. Left out are the losses of every run and what is measured on the input.
    """
    series = set(series)
    measured = {
        variant_of(name).metric.name: metric_of(name) for name in series - CURVE_UNITS.keys()
    }
    measured.pop(LOSS, None)
    order = {metric.name: place for place, metric in enumerate(BUILT_IN)}
    of_training = set(training_names(series))
    names = sorted(
        (name for name, metric in measured.items() if not metric.of_input),
        key=lambda name: (name in of_training, order.get(name, len(order)), name),
    )
    return tuple(dict.fromkeys(trained_name(name) for name in names))


def reading_of(series: Iterable[str], config: Mapping[str, Any]) -> Reading:
    """Return how the terms of a run's loss are read; of those that training has measured, and none for one alone.

    Args:
        series: the names of its series.
        config: plain values of its config.
    """
    names = {*series} - CURVE_UNITS.keys()
    reader = next((found for name in sorted(names) if (found := metric_of(name).reading)), None)
    if reader is None:
        return Reading(())
    read = reader(config)
    order = tuple(name for name in read.order if name in names)
    return Reading(order, read.hint) if len(order) > 1 else Reading(())


def trained_name(name: str) -> str:
    """Return the name that a metric of evaluations has in training, where that measures it, too."""
    return name if name == LOSS else name.removeprefix(_VAL)


def evaluated_name(name: str) -> str:
    """Return the name that a metric of training has in evaluations."""
    return f"{_VAL}{name}"


def of_whole_files(values: Mapping[str, T]) -> dict[str, T]:
    """Name measurements of whole files."""
    return {f"{name}{_FULL}": value for name, value in values.items()}


def of_training_items(values: Mapping[str, float]) -> dict[str, float]:
    """Name what of an evaluation is worth knowing of training items: losses, and the main metrics of the task."""
    return {
        stored_name(name, train=True): value
        for name, value in values.items()
        if (metric := metric_of(name)).family == "loss" or metric.is_main or metric.headline_of
    }


def of_average(values: Mapping[str, T]) -> dict[str, T]:
    """Name measurements of the averaged weights; what depends on the input alone is left out."""
    return {
        f"{name}{_EMA}": value
        for name, value in values.items()
        if not variant_of(name).metric.of_input
    }


def headline(recipe: str, config: object = None) -> str:
    """Return the metric by which the runs of a recipe are listed; the loss where none is declared.

    Args:
        recipe: its name.
        config: of a run. Of several metrics, the first one whose setting (`Metric.needs`) it has counts, else the
            last, which every run of the recipe has.
    """
    built_in = _headline(recipe, BUILT_IN, config=config)
    # Packages are looked for only where no built-in metric is meant.
    return (
        built_in
        or _headline(recipe, _installed().values(), config=config)
        or _headlines().get(recipe, LOSS)
    )


def is_set(config: object, key: str) -> bool:
    """Return whether a config has a value under a dotted key."""
    for part in key.split("."):
        config = getattr(config, part, None)
    return config is not None


def headlines() -> tuple[Metric, ...]:
    """Return the headline metrics of the built-in recipes."""
    return tuple(metric for metric in BUILT_IN if metric.headline_of)


def target_names() -> tuple[str, ...]:
    """Return the stored names whose best checkpoint can be kept, those of installed packages last."""
    targets = (metric for metric in (*BUILT_IN, *_installed().values()) if metric.is_target)
    return tuple(name for metric in targets for name in variants(metric.name))


def default_targets() -> tuple[str, ...]:
    """Return the names kept by default: built-in headlines and the loss, on excerpts.

    Those of installed packages are left out, so that a config means the same on every machine, and those
    that need a setting, so that runs without it are what they were.
    """
    names = (*(metric.name for metric in headlines() if not metric.needs), LOSS)
    return tuple(stored_name(name, ema=ema) for name in names for ema in (False, True))


def compared_names() -> tuple[str, ...]:
    """Return the names a comparison shows without being asked: excerpts, then scores of whole files."""
    main = [metric for metric in (*BUILT_IN, *_installed().values()) if metric.is_main]
    whole = [metric for metric in main if metric.whole_files and metric.family == "score"]
    return tuple(
        stored_name(metric.name, full=full, ema=ema)
        for metrics, full in ((main, False), (whole, True))
        for metric in metrics
        if full or not metric.measure
        for ema in (False, True)
    )


def settings_of_meaning(name: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the dotted settings that runs must share for the values of a metric to mean the same.

    Args:
        name: stored name of the metric.
        config: plain values of a run's config.
    """
    same = metric_of(name).same
    return same + settings_of_labels(config) if {"loss", "loss.kmeans_from"} & {*same} else same


def input_name(name: str) -> str:
    """Return the name of the same metric measured on the unprocessed input."""
    return f"input_{metric_of(name).name}"


def common_title(names: Iterable[str]) -> str:
    """Return the title of a column of best values: that of the one metric all have, or "best"."""
    titles = {metric_of(name).title for name in names}
    return "best" if len(titles) > 1 else next(iter(titles), BUILT_IN[0].title)


def _headline(recipe: str, metrics: Iterable[Metric], *, config: object) -> str:
    declared = [metric for metric in metrics if recipe in metric.headline_of]
    measured = (m for m in declared if not m.needs or is_set(config, m.needs))
    chosen = next(measured, None) or next(reversed(declared), None)
    return chosen.name if chosen else ""


def _known(base: str) -> Metric | None:
    return _BY_NAME.get(base) or _installed().get(base)


@cache
def _installed() -> dict[str, Metric]:
    """Return the metrics that recipes of installed packages declare; broken packages have none here.

    Read when a name is not built in, so that the dashboard starts without a search.
    """
    metrics: dict[str, Metric] = {}
    for _, declared in _declarations().values():
        for metric in declared:
            if metric.name not in _BY_NAME:
                metrics.setdefault(metric.name, metric)
    return metrics


@cache
def _headlines() -> dict[str, str]:
    """Return the headline metric that each recipe of an installed package names."""
    return {recipe: name for recipe, (name, _) in _declarations().items()}


@cache
def _declarations() -> Mapping[str, tuple[str, tuple[Metric, ...]]]:
    return find_plugins("sepdash.recipes", _declared).parts


def _declared(point: EntryPoint, spec: Any) -> tuple[str, tuple[Metric, ...]]:
    """Return headline and metrics of a recipe; `engine.recipes.specs` says what is wrong with it."""
    return str(spec.headline), tuple(item for item in spec.metrics if isinstance(item, Metric))


_BY_NAME = {metric.name: metric for metric in BUILT_IN}
_RECIPES = {recipe for metric in BUILT_IN for recipe in metric.measured_by}
