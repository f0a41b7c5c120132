"""What perceptual metrics need: the packages, and the sampling rates. Standard library only.

How they are computed is in `engine.measuring.values`, their titles and directions in
`engine.metrics.registry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

_SPEECH = "speech-metrics"


@dataclass(frozen=True, slots=True)
class Measure:
    """An entry of `validation.metrics`.

    Attributes:
        lowest_rate_hz: data of a lower rate are refused.
        rate_hz: signals are resampled to it; 0: measured at their own rate.
        modules: that have to be importable.
        extra: the optional dependencies of sepdash that bring them.
        instead: what to ask for where the rate is too low.
    """

    lowest_rate_hz: int = 0
    rate_hz: int = 0
    modules: tuple[str, ...] = ()
    extra: str = _SPEECH
    instead: str = ""


MEASURES: Mapping[str, Measure] = {
    "pesq": Measure(16_000, 16_000, modules=("pesq",), instead="pesq_nb"),
    "pesq_nb": Measure(8_000, 8_000, modules=("pesq",)),
    # Its highest third-octave band ends at 4277 Hz; the package resamples to 10 kHz by itself.
    "stoi": Measure(8_000, modules=("pystoi",)),
    "estoi": Measure(8_000, modules=("pystoi",)),
    # speechmos imports the other three without asking for them.
    "dnsmos": Measure(16_000, 16_000, modules=("speechmos", "onnxruntime", "librosa", "requests")),
    "bss_sdr": Measure(),
}


def missing_modules(measure: str) -> tuple[str, ...]:
    """Return the modules that a measure needs and that are not installed."""
    return tuple(name for name in MEASURES[measure].modules if find_spec(name) is None)


def missing_packages(measures: Iterable[str]) -> str:
    """Say which measures lack a package, and how to install it; empty where none does."""
    lacking = {name: missing for name in measures if (missing := missing_modules(name))}
    if not lacking:
        return ""
    modules = ", ".join(dict.fromkeys(module for missing in lacking.values() for module in missing))
    extras = ",".join(dict.fromkeys(MEASURES[name].extra for name in lacking))
    return (
        f"{', '.join(lacking)} can't be measured: {modules} not installed; run pip install "
        f"'sepdash[{extras}]', or remove {'it' if len(lacking) == 1 else 'them'} from validation.metrics"
    )


def rate_problem(measures: Iterable[str], rate_hz: int) -> str:
    """Say which measures need a higher sampling rate than that of the data; empty where none does."""
    for name in measures:
        measure = MEASURES[name]
        if rate_hz < measure.lowest_rate_hz:
            hint = f"use {measure.instead!r}" if measure.instead else "remove it"
            return (
                f"validation.metrics has {name!r}, which needs audio of at least {measure.lowest_rate_hz} Hz, "
                f"but data.rate_hz = {rate_hz}; {hint}"
            )
    return ""
