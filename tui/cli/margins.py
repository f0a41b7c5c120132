"""Reads `--margin`: the smallest difference that counts, such as "0.1 dB" or "wer=0.2 %"."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import click

from engine.config.errors import nearest
from engine.metrics.registry import Metric, metric_of

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_FORM = re.compile(rf"\s*(?:(?P<name>[^=]*?)\s*=)?\s*(?P<number>{_NUMBER})\s*(?P<unit>\S*)\s*")


def read_margins(texts: Sequence[str], metrics: Sequence[str], *, decides: str) -> dict[str, float]:
    """Return margins as stored, by stored name or name of the metric.

    Args:
        texts: each "[METRIC=]NUMBER UNIT". Without a metric, it holds for the one that decides and for
            those with the same unit.
        metrics: stored names that are compared.
        decides: the metric that decides.

    Raises:
        click.UsageError: for anything that can't be meant.
    """
    general: dict[str, float] = {}
    special: dict[str, float] = {}
    for text in texts:
        name, number, unit = _parts(text)
        into = general if name is None else special
        if name is None:
            _check_unit(text, unit, metric=metric_of(decides))
            alike = (m for m in map(metric_of, metrics) if m.unit == metric_of(decides).unit)
            found = {metric.name: number / metric.scale for metric in alike}
        else:
            metric = _named(text, name, metrics=metrics)
            _check_unit(text, unit, metric=metric)
            found = {name: number / metric.scale}
        if again := next((key for key in found if key in into), None):
            raise click.UsageError(f"--margin {text!r}: {again} already has a margin")
        into |= found
    return general | special


def _parts(text: str) -> tuple[str | None, float, str]:
    match = _FORM.fullmatch(text)
    if match is None or not math.isfinite(number := float(match["number"])):
        raise click.UsageError(
            f"--margin {text!r}: expected a number and its unit, such as '0.1 dB' or 'wer=0.2 %'"
        )
    if number < 0:
        raise click.UsageError(f"--margin {text!r}: expected 0 or more")
    return match["name"], number, match["unit"]


def _named(text: str, name: str, *, metrics: Sequence[str]) -> Metric:
    known = dict.fromkeys((*metrics, *(metric_of(metric).name for metric in metrics)))
    if name not in known:
        hint = nearest(name, list(known)) or f"; compared: {', '.join(metrics)}"
        raise click.UsageError(f"--margin {text!r}: {name!r} is not a compared metric{hint}")
    return metric_of(name)


def _check_unit(text: str, unit: str, *, metric: Metric) -> None:
    if unit.casefold() == metric.unit.casefold():
        return
    example = "0.2 %" if metric.is_rate else f"0.1 {metric.unit}" if metric.unit else "0.01"
    measured = f"is measured in {metric.unit}" if metric.unit else "has no unit"
    raise click.UsageError(
        f"--margin {text!r}: {metric.name} {measured}; write --margin '{metric.name}={example}'"
    )
