"""How metrics are called and written: title, unit, digits. The store keeps rates as fractions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tui.reports.formats import MISSING


@dataclass(frozen=True, slots=True)
class MetricStyle:
    """How a metric is shown: a stored value times `scale` is in `unit`."""

    title: str
    unit: str
    scale: float = 1.0

    def value(self, value: float | None) -> str:
        """Return decibels with two decimals, percents with their sign and three digits or so."""
        if value is None or not math.isfinite(value):
            return MISSING
        if self.unit != "%":
            return f"{value * self.scale:.2f}"
        percent = value * self.scale
        return f"{percent:.{2 if percent < 9.995 else 1 if percent < 99.95 else 0}f}%"

    def with_unit(self, value: float | None) -> str:
        """Return a value with its unit, whatever it is."""
        text = self.value(value)
        return f"{text} {self.unit}" if self.unit != "%" and text != MISSING else text


_STYLES = {
    "si_sdr": MetricStyle("SI-SDR", "dB"),
    "si_sdri": MetricStyle("SI-SDRi", "dB"),
    "sdr": MetricStyle("SDR", "dB"),
    "lsd": MetricStyle("LSD", "dB"),
    "wer": MetricStyle("WER", "%", 100),
    "cer": MetricStyle("CER", "%", 100),
}


def style_of(metric: str) -> MetricStyle:
    """Return how a metric is shown, whatever weights and items it is of."""
    name = metric.removesuffix("_ema").removesuffix("_full")
    return _STYLES.get(name, MetricStyle(name, ""))


def common_title(metrics: Iterable[str]) -> str:
    """Return the title of a column of best values: that of the metric that all have, or "best"."""
    titles = {style_of(metric).title for metric in metrics}
    return "best" if len(titles) > 1 else next(iter(titles), style_of("si_sdr").title)
