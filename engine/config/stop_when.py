"""When a run ends early: the settings, and which of them fit the run.

The rules themselves are in `engine.training.stopping`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from engine.config.errors import nearest
from engine.config.quantity import Quantity
from engine.config.sections import EmaConfig, ValidationConfig
from engine.config.span import PositiveSpan, Span
from engine.metrics.measures import MEASURES
from engine.metrics.registry import (
    headline,
    is_set,
    measured_names,
    metric_of,
    stored_name,
    variant_of,
)
from models.base.settings import Section, run_reference, setting


class StopConfig(Section):
    """Rules that end a run before its length; a run without any is trained to its end."""

    metric: str | None = setting(
        None,
        "Validation metric that the rules read, like si_sdr_ema; empty: the headline metric of the task, "
        "of the averaged weights if ema.enabled.",
        min_length=1,
    )
    patience: PositiveSpan | None = setting(
        None,
        "Stop when the metric has not improved by more than min_delta for this long; empty: never.",
        unit="span",
    )
    min_delta: Quantity = setting(
        Quantity(0.0), "Smallest improvement that counts for patience, like '0.05 dB' or '0.1 %'."
    )
    target: Quantity | None = setting(
        None,
        "Stop when the metric reaches this value, like '12 dB', 0.05 or '5 %' (rates are fractions); "
        "empty: never.",
    )
    reference: str | None = run_reference(
        None,
        "Stop when the run can't reach this finished run (name or id) any more, by its validation curve; "
        "empty: never.",
        only_at_start=True,
        curve=True,
    )
    tolerance: Quantity = setting(
        Quantity(0.0), "How much worse than the reference the run may end, like '0.1 dB'."
    )
    after: Span | None = setting(
        None, "Never stop before this point; empty: no such limit.", unit="span"
    )

    @property
    def is_active(self) -> bool:
        """Whether any rule is set."""
        return not (self.patience is None and self.target is None and self.reference is None)


class HasStopRules(Protocol):
    """What of a run the rules depend on: `engine.config.schema.RunConfig`."""

    @property
    def stop_when(self) -> StopConfig:
        """Return the rules."""

    @property
    def recipe(self) -> str:
        """Return the name of the recipe."""

    @property
    def ema(self) -> EmaConfig:
        """Return whether averaged weights are evaluated."""

    @property
    def validation(self) -> ValidationConfig:
        """Return what is evaluated."""


def stop_metric(config: HasStopRules) -> str:
    """Return the stored name of the metric that the rules of a run read."""
    chosen = config.stop_when.metric
    return chosen or stored_name(headline(config.recipe, config), ema=config.ema.enabled)


def stop_misfits(config: HasStopRules) -> Iterator[str]:
    """Yield what of `stop_when` does not fit the run, each with its key and what to do."""
    settings, validation, ema = config.stop_when, config.validation, config.ema
    recipe, name = config.recipe, stop_metric(config)
    variant = variant_of(name)
    if why := why_unmeasured(name, recipe=recipe, ema=ema, validation=validation):
        yield f"stop_when.metric = {name!r}: {why}"
        return
    if variant.full and validation.full_every is None and settings.is_active:
        yield (
            f"stop_when.metric = {name!r} is measured at the end of the run only; set "
            "validation.full_every, or choose a metric of excerpts"
        )
    for key, quantity, difference in (
        ("target", settings.target, False),
        ("min_delta", settings.min_delta, True),
        ("tolerance", settings.tolerance, True),
    ):
        if quantity is not None and (
            problem := quantity.problem(variant.metric, difference=difference)
        ):
            yield f"stop_when.{key} = {str(quantity)!r}: {problem}"


def missing_setting(name: str, config: object) -> str:
    """Return what has to be set before a run measures a metric; empty where nothing is missing."""
    needed = metric_of(name).needs
    if not needed or is_set(config, needed):
        return ""
    return f"it is measured with {needed} only; set {needed}"


def why_unmeasured(name: str, *, recipe: str, ema: EmaConfig, validation: ValidationConfig) -> str:
    """Return why the evaluations of a run don't measure a metric; empty when they do."""
    variant = variant_of(name)
    known = measured_names(recipe, ema=ema.enabled, full=validation.full_files)
    if name in known:
        return ""
    if variant.metric.name in MEASURES:
        return "it is measured beside training and comes too late to decide; name another metric"
    if variant.ema and not ema.enabled:
        return "the averaged weights need ema.enabled = true"
    if variant.full and stored_name(variant.metric.name) in known:
        return "whole files are evaluated with validation.full_files = true only"
    return f"this run will not measure it; expected one of {', '.join(known)}" + nearest(
        variant.name, known
    )
