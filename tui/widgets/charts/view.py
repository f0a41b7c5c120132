"""How a person wants to see the charts: axis, scale, metric, smoothing. A value, and how keys change it."""

from __future__ import annotations

from dataclasses import dataclass, replace

CLOCKS = ("updates", "items", "epochs", "audio time", "train time")
# What a key switches through, and the share of a curve that the window of each spans.
SMOOTHING = {"light": 1 / 40, "strong": 1 / 8, "off": 0.0}


@dataclass(frozen=True, slots=True)
class View:
    """The settings of the charts.

    Attributes:
        clock: the horizontal axis.
        log: whether the loss has a logarithmic axis.
        metric: what the chart of scores shows; where the first run has none, that by which it is listed.
        smoothing: of noisy curves, a name of `SMOOTHING`.
    """

    clock: str = CLOCKS[0]
    log: bool = False
    metric: str = ""
    smoothing: str = "light"

    def next_clock(self) -> View:
        """Return the view with the next horizontal axis."""
        return replace(self, clock=_after(self.clock, CLOCKS))

    def next_smoothing(self) -> View:
        """Return the view with the next smoothing."""
        return replace(self, smoothing=_after(self.smoothing, tuple(SMOOTHING)))


DEFAULT = View()


def _after(name: str, names: tuple[str, ...]) -> str:
    return names[(names.index(name) + 1) % len(names)]
