"""The metrics of the mel codec, which `engine.metrics.registry` lists with all others.

A training metric and the same of an evaluation are two metrics: the latter is named `val_` and the former.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.metrics.metric import Metric

_CODEC = ("codec",)
# What a spectrogram is, so that a distance of two means the same.
_TRANSFORM = (
    "data.rate_hz", "model.mel_bands", "model.n_fft", "model.hop", "model.f_min_hz", "model.f_max_hz",
)  # fmt: skip


def _of_codes() -> Iterable[Metric]:
    """Return the curves of training, then the same of evaluations."""
    for prefix, of in (("", ""), ("val_", "validation ")):
        common: dict[str, Any] = {"of_training": not prefix, "measured_by": _CODEC}
        yield Metric(
            f"{prefix}reconstruction", f"{of}reconstruction error", rises=False, family="loss",
            same=(*_TRANSFORM, "loss.distance"), **common,
        )  # fmt: skip
        yield Metric(
            f"{prefix}commitment", f"{of}commitment", rises=False, family="loss",
            same=("model.quantiser",), **common,
        )  # fmt: skip
        yield Metric(f"{prefix}codes_used", f"{of}codes in use", is_main=bool(prefix), **common)
        yield Metric(
            f"{prefix}codebook_perplexity",
            f"{of}codebook perplexity",
            is_main=bool(prefix),
            **common,
        )
        yield Metric(
            f"{prefix}largest_code", f"{of}share of the largest code", unit="%", scale=100,
            rises=False, **common,
        )  # fmt: skip
    yield Metric(
        "code_usage", "codebook perplexity, of its maximum in an update", unit="%", scale=100,
        of_training=True, measured_by=_CODEC,
    )  # fmt: skip


METRICS = (
    # Only codecs have mel bands.
    Metric("mel_distance", "mel distance", unit="dB", rises=False, is_main=True, is_target=True,
           headline_of=_CODEC, measured_by=_CODEC, worst=100.0, margin=0.05, same=_TRANSFORM,
           needs="model.mel_bands"),
    *_of_codes(),
)  # fmt: skip
