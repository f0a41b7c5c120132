"""Every metric a run is measured by, declared once: title, unit, direction, how it is written.

A value is stored under the name of its metric and, in this order, `_full` where whole files were
evaluated rather than excerpts of them, and `_ema` where the averaged weights were: `si_sdr_full_ema`.
Only this module builds and parses such names. Rates are stored as fractions and written in percent.

Installed packages declare theirs as `metrics` of a recipe (entry point `sepdash.recipes`); they are
looked up when a name is not built in. Free of torch and pydantic: the dashboard reads it before its
first frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from itertools import product
from typing import Any, Literal, TypeVar

from models.entry_points import find_plugins

_FULL, _EMA = "_full", "_ema"
_VAL = "val_"
_MISSING = "–"

Family = Literal["score", "loss"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Metric:
    """What a measured quantity is and how it is written.

    Attributes:
        name: as it is stored, without suffixes.
        title: as tables and charts write it.
        unit: of a value times `scale`; "%" for rates.
        scale: stored values are multiplied by it to be shown.
        rises: whether higher is better.
        family: a loss is only comparable between runs that minimise the same one.
        of_input: measured on the input of the model, so the same for any weights.
        whole_files: whether it can be measured on whole files beside excerpts.
        is_main: whether a log line and a comparison show it without being asked.
        is_target: whether the best checkpoint by it can be kept.
        headline_of: the recipes whose runs are listed by it.
        of_training: measured by the steps of training, so a curve like that of the loss.
        worst: the value of an item whose estimate is not finite; None: there is no such bound, so the
            item makes the mean infinite.
        margin: smallest difference that counts, as stored, unless a person sets another; 0 for none.
        relative_margin: the same as a fraction of the reference's value, for metrics without a scale.
        same: dotted settings, or sections, that runs must share for their values to mean the same: a
            loss, a set of labels, a mask. A comparison of others is refused.
        measured_by: the built-in recipes whose evaluations measure it; empty: not known, or any.
        measure: the entry of `validation.metrics` that asks for it (`engine.metrics.measures`), then on
            whole files only; empty for what every evaluation has.
        summary: how the value of a run follows from those of its items.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    rises: bool = True
    family: Family = "score"
    of_input: bool = False
    whole_files: bool = False
    is_main: bool = False
    is_target: bool = False
    headline_of: tuple[str, ...] = ()
    of_training: bool = False
    worst: float | None = None
    margin: float = 0.0
    relative_margin: float = 0.0
    same: tuple[str, ...] = ()
    measured_by: tuple[str, ...] = ()
    measure: str = ""
    summary: Literal["mean", "median"] = "mean"

    def text(self, value: float | None) -> str:
        """Write a value: two decimals; percent with its sign and about three digits."""
        if value is None or not math.isfinite(value):
            return _MISSING
        shown = value * self.scale
        if self.unit != "%":
            return f"{shown:.2f}"
        return f"{shown:.{2 if shown < 9.995 else 1 if shown < 99.95 else 0}f}%"

    def with_unit(self, value: float | None) -> str:
        """Write a value with its unit."""
        text = self.text(value)
        return f"{text} {self.unit}" if self.unit not in ("", "%") and text != _MISSING else text

    @property
    def of_bad_item(self) -> float:
        """Value of an item whose estimate is not finite: never better than a real one."""
        if self.worst is not None:
            return self.worst
        return -math.inf if self.rises else math.inf

    @property
    def is_rate(self) -> bool:
        """Whether it is a share, read in percent."""
        return self.unit == "%"

    def is_better(self, new: float, old: float | None) -> bool:
        """Return whether `new` beats `old`; NaN beats nothing, and anything finite beats None."""
        if not math.isfinite(new):
            return False
        return old is None or (new > old if self.rises else new < old)

    def best(self, values: Iterable[float | None]) -> float | None:
        """Return the best of the finite values; None when there is none."""
        finite = [value for value in values if value is not None and math.isfinite(value)]
        return (max if self.rises else min)(finite, default=None)

    @property
    def stored_unit(self) -> str:
        """Unit of a value as it is stored: rates are plain fractions there."""
        return self.unit if self.scale == 1 else ""


_AUDIO, _SPEECH = ("separation",), ("transducer", "ctc")

# Runs that measure perceptual metrics on more or fewer files have other means.
_MEASURED = ("validation.metrics_max_s",)

# In order of preference: the headline of each task first, the loss last.
BUILT_IN = (
    Metric(
        "si_sdr", "SI-SDR", unit="dB", whole_files=True, is_main=True, is_target=True,
        headline_of=_AUDIO, measured_by=_AUDIO, worst=-100.0, margin=0.1,
    ),
    Metric("wer", "WER", unit="%", scale=100, rises=False, is_main=True, is_target=True,
           headline_of=_SPEECH, measured_by=_SPEECH, worst=1.0, margin=0.002),
    Metric("cer", "CER", unit="%", scale=100, rises=False, is_main=True, is_target=True, worst=1.0,
           measured_by=_SPEECH, margin=0.001),
    Metric("val_loss", "val_loss", rises=False, family="loss", whole_files=True, is_main=True,
           is_target=True, relative_margin=0.01,
           same=("loss", "data.tokens", "data.vocabulary", "data.vocab_size")),
    Metric("unalignable", "unalignable", unit="%", scale=100, rises=False, of_training=True,
           measured_by=("ctc",)),
    Metric("si_sdri", "SI-SDRi", unit="dB", whole_files=True, measured_by=_AUDIO, worst=-100.0,
           margin=0.1),
    Metric("sdr", "SDR", unit="dB", whole_files=True, measured_by=_AUDIO, worst=-100.0, margin=0.1),
    Metric("lsd", "LSD", unit="dB", rises=False, whole_files=True, measured_by=_AUDIO, worst=100.0,
           margin=0.05),
    Metric("spectral", "spectral", rises=False, whole_files=True, measured_by=_AUDIO,
           relative_margin=0.01),
    Metric("input_si_sdr", "input SI-SDR", unit="dB", of_input=True, whole_files=True,
           measured_by=_AUDIO),
    Metric("pesq", "PESQ", whole_files=True, is_main=True, is_target=True, worst=1.0, measure="pesq",
           margin=0.05, same=_MEASURED),
    Metric("pesq_nb", "PESQ-NB", whole_files=True, is_main=True, is_target=True, worst=1.0,
           measure="pesq_nb", margin=0.05, same=_MEASURED),
    Metric("stoi", "STOI", whole_files=True, is_main=True, is_target=True, worst=0.0, measure="stoi",
           margin=0.005, same=_MEASURED),
    Metric("estoi", "ESTOI", whole_files=True, is_main=True, is_target=True, worst=0.0,
           measure="estoi", margin=0.005, same=_MEASURED),
    Metric("dnsmos_ovrl", "DNSMOS OVRL", whole_files=True, is_main=True, is_target=True, worst=1.0,
           measure="dnsmos", margin=0.05, same=_MEASURED),
    Metric("dnsmos_sig", "DNSMOS SIG", whole_files=True, is_target=True, worst=1.0, measure="dnsmos",
           margin=0.05, same=_MEASURED),
    Metric("dnsmos_bak", "DNSMOS BAK", whole_files=True, is_target=True, worst=1.0, measure="dnsmos",
           margin=0.05, same=_MEASURED),
    Metric("dnsmos_p808", "DNSMOS P.808", whole_files=True, is_target=True, worst=1.0,
           measure="dnsmos", margin=0.05, same=_MEASURED),
    Metric("bss_sdr", "BSS SDR", unit="dB", whole_files=True, is_main=True, is_target=True,
           worst=-100.0, measure="bss_sdr", summary="median", margin=0.1, same=_MEASURED),
)  # fmt: skip

LOSS = "val_loss"

# Stored beside the values of items where any is bad: 1 for an item whose estimate is not finite, else 0.
NON_FINITE = "non_finite"

# Curves that every run has, and their units; that of the loss is the recipe's.
CURVE_UNITS: Mapping[str, str] = {
    "loss": "", "grad_norm": "", "lr": "", "skipped": "",
    "audio_s_per_s": "s/s", "updates_per_s": "1/s",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MetricVariant:
    """A metric, and what it was measured on: the name of a stored series, taken apart."""

    metric: Metric
    full: bool = False
    ema: bool = False

    @property
    def name(self) -> str:
        """The stored name."""
        return stored_name(self.metric.name, full=self.full, ema=self.ema)

    @property
    def of(self) -> str:
        """What it was measured on where that is not excerpts and the weights themselves."""
        parts = ("whole files" if self.full else "", "averaged weights" if self.ema else "")
        return ", ".join(part for part in parts if part)


def stored_name(name: str, *, full: bool = False, ema: bool = False) -> str:
    """Return the name under which a metric is stored."""
    return f"{name}{_FULL if full else ''}{_EMA if ema else ''}"


def variant_of(name: str) -> MetricVariant:
    """Take a stored name apart; an unknown metric keeps its name as its title."""
    ema = name.endswith(_EMA)
    base = name.removesuffix(_EMA)
    full = base.endswith(_FULL)
    base = base.removesuffix(_FULL)
    return MetricVariant(_known(base) or Metric(base, base), full, ema=ema)


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


def trained_name(name: str) -> str:
    """Return the name that a metric of evaluations has in training, where that measures it, too."""
    return name if name == LOSS else name.removeprefix(_VAL)


def evaluated_name(name: str) -> str:
    """Return the name that a metric of training has in evaluations."""
    return f"{_VAL}{name}"


def of_whole_files(values: Mapping[str, T]) -> dict[str, T]:
    """Name measurements of whole files."""
    return {f"{name}{_FULL}": value for name, value in values.items()}


def of_average(values: Mapping[str, T]) -> dict[str, T]:
    """Name measurements of the averaged weights; what depends on the input alone is left out."""
    return {
        f"{name}{_EMA}": value
        for name, value in values.items()
        if not variant_of(name).metric.of_input
    }


def headline(recipe: str) -> str:
    """Return the metric by which the runs of a recipe are listed; the loss where none is declared."""
    built_in = _headline(recipe, BUILT_IN)
    # Packages are looked for only where no built-in metric is meant.
    return built_in or _headline(recipe, _installed().values()) or _headlines().get(recipe, LOSS)


def headlines() -> tuple[Metric, ...]:
    """Return the headline metrics of the built-in recipes."""
    return tuple(metric for metric in BUILT_IN if metric.headline_of)


def target_names() -> tuple[str, ...]:
    """Return the stored names whose best checkpoint can be kept, those of installed packages last."""
    targets = (metric for metric in (*BUILT_IN, *_installed().values()) if metric.is_target)
    return tuple(name for metric in targets for name in variants(metric.name))


def default_targets() -> tuple[str, ...]:
    """Return the names kept by default: built-in headlines and the loss, on excerpts.

    Those of installed packages are left out, so that a config means the same on every machine.
    """
    names = (*(metric.name for metric in headlines()), LOSS)
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


def input_name(name: str) -> str:
    """Return the name of the same metric measured on the unprocessed input."""
    return f"input_{metric_of(name).name}"


def common_title(names: Iterable[str]) -> str:
    """Return the title of a column of best values: that of the one metric all have, or "best"."""
    titles = {metric_of(name).title for name in names}
    return "best" if len(titles) > 1 else next(iter(titles), BUILT_IN[0].title)


def _headline(recipe: str, metrics: Iterable[Metric]) -> str:
    return next((metric.name for metric in metrics if recipe in metric.headline_of), "")


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
