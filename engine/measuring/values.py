"""Perceptual metrics of one estimate, by the packages that define them, or by their definition.

Packages are imported when they are first used. Letters: S sources, C channels, T samples, L frames.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from engine.data.files.resampling import resample
from engine.metrics.measures import MEASURES
from engine.metrics.registry import given_by, metric_of
from engine.metrics.signal import LIMIT_DB, SILENT_RMS


class _OfChannel(Protocol):
    """The values of one channel, by name. NaN: the reference has none; None: the estimate has none."""

    def __call__(
        self, est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int
    ) -> Mapping[str, float | None]:
        """Measure (T,) at a rate that the measure takes."""


# The package has room for 50 utterances, of 0.2 s and as much silence at least, and crashes beyond.
_PESQ_MOST_S = 20
# Fewest samples at 10 kHz of 30 frames of 256, hop 128.
_STOI_RATE_HZ, _STOI_FRAMES = 10_000, 256 + 29 * 128


def values_of(
    measure: str, est_SCT: np.ndarray, *, ref_SCT: np.ndarray, rate_hz: int
) -> dict[str, np.ndarray]:
    """Return the value of each source by each metric of a measure, (S,) float64.

    NaN where the reference has no such value (silent, or too short); the worst value of the metric where
    the estimate is not finite, or has none while its reference has. Metrics of speech are those of each
    channel, averaged.

    Args:
        measure: an entry of `validation.metrics`.
        est_SCT: estimates, float32.
        ref_SCT: references of the same shape.
        rate_hz: their sampling rate, not below the lowest of the measure.
    """
    worst = {metric.name: metric.of_bad_item for metric in given_by(measure)}
    if measure == "bss_sdr":
        return {measure: bss_sdr(est_SCT, ref_SCT, rate_hz=rate_hz, worst=worst[measure])}
    to_hz = MEASURES[measure].rate_hz or rate_hz
    of_channel = _OF_CHANNEL[measure]
    found: dict[str, list[float]] = {name: [] for name in worst}
    for est_CT, ref_CT in zip(est_SCT, ref_SCT, strict=True):
        rows: dict[str, list[float]] = {name: [] for name in worst}
        finite = bool(np.isfinite(est_CT).all())
        # What is not finite is only asked whether its reference has a value at all.
        est_CT, ref_CT = (
            resample(np.ascontiguousarray(x_CT, dtype=np.float32), rate_hz, to_hz=to_hz)
            for x_CT in (est_CT if finite else ref_CT, ref_CT)
        )
        for est_T, ref_T in zip(est_CT, ref_CT, strict=True):
            if np.sqrt(np.mean(np.square(ref_T, dtype=np.float64))) <= SILENT_RMS:
                continue
            values = of_channel(est_T, ref_T, rate_hz=to_hz)
            for name, row in rows.items():
                value = values[name]
                is_bad = value is None or not (finite or math.isnan(value))
                row.append(worst[name] if is_bad or value is None else value)
        for name, row in rows.items():
            known = [value for value in row if not math.isnan(value)]
            found[name].append(float(np.mean(known)) if known else math.nan)
    return {name: np.array(values) for name, values in found.items()}


def bss_sdr(
    est_SCT: np.ndarray, ref_SCT: np.ndarray, *, rate_hz: int, worst: float = -LIMIT_DB
) -> np.ndarray:
    """Return the SDR of BSS Eval v4 of each source, (S,): the median over frames of one second.

    The images version of Vincent et al. (2006) as in museval (Stöter et al., 2018), which papers on music
    report. Its distortion is spatial error, interference and artefacts added up again, which is the
    difference of estimate and reference whatever the filters between: so none is computed here, and
    the result is that of museval to rounding, some thousand times faster.

    As there, frames in which any reference or any estimate is silent have no value, the incomplete last
    frame is left out, and without any silent one of several channels a frame counts the channels as one.

    Returns:
        NaN where a reference is silent throughout, or every frame has a silent source; `worst` where an
        estimate is silent throughout or not finite; otherwise limited to -100 and 100 dB.
    """
    sources = len(ref_SCT)
    est_SCT, ref_SCT = est_SCT.astype(np.float64), ref_SCT.astype(np.float64)
    if _is_any_silent(ref_SCT):
        return np.full(sources, np.nan)
    if not np.isfinite(est_SCT).all() or _is_any_silent(est_SCT):
        return np.full(sources, worst)
    total = ref_SCT.shape[-1]
    frames = total // rate_hz if rate_hz < total else 1
    level_LS = np.full((frames, sources), np.nan)
    for number in range(frames):
        part = slice(number * rate_hz, (number + 1) * rate_hz)
        ref, est = ref_SCT[..., part], est_SCT[..., part]
        if not _is_any_silent(ref) and not _is_any_silent(est):
            signal_S = np.square(ref).sum(axis=(1, 2))
            error_S = np.square(est - ref).sum(axis=(1, 2))
            with np.errstate(divide="ignore"):
                level_LS[number] = 10 * np.log10(signal_S / error_S)
    if np.isnan(level_LS).all():
        return np.full(sources, np.nan)
    median_S: np.ndarray = np.nanmedian(level_LS, axis=0).clip(-LIMIT_DB, LIMIT_DB)
    return median_S


def _is_any_silent(x_SCT: np.ndarray) -> bool:
    """Return whether the channels of any source add up to digital silence: the test of museval."""
    return bool((x_SCT.sum(axis=1) == 0).all(axis=-1).any())


def _pesq(
    est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int, mode: str, name: str
) -> dict[str, float | None]:
    """Return the mean over equal pieces of at most 20 s, for which PESQ is meant (P.862.3)."""
    pieces = -(-len(ref_T) // (_PESQ_MOST_S * rate_hz))
    parts = zip(np.array_split(est_T, pieces), np.array_split(ref_T, pieces), strict=True)
    values = [_pesq_of_piece(est, ref, rate_hz=rate_hz, mode=mode) for est, ref in parts]
    known = [value for value in values if value is None or not math.isnan(value)]
    scores = [metric_of(name).of_bad_item if value is None else value for value in known]
    return {name: float(np.mean(scores)) if scores else math.nan}


def _pesq_of_piece(
    est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int, mode: str
) -> float | None:
    package = import_module("pesq")
    # The package divides 0 by 0 where the estimate is silent.
    for x_T in (est_T, ref_T) if est_T.any() else (ref_T,):
        try:
            value = float(package.pesq(rate_hz, ref_T, x_T, mode))
        except (package.NoUtterancesError, package.BufferTooShortError):
            continue
        return value if x_T is est_T else None
    return math.nan


def _wide_band(est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int) -> dict[str, float | None]:
    return _pesq(est_T, ref_T, rate_hz=rate_hz, mode="wb", name="pesq")


def _narrow_band(est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int) -> dict[str, float | None]:
    return _pesq(est_T, ref_T, rate_hz=rate_hz, mode="nb", name="pesq_nb")


def _intelligibility(
    est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int, extended: bool
) -> float:
    if len(ref_T) * _STOI_RATE_HZ < _STOI_FRAMES * rate_hz:
        return math.nan
    # The extended one adds noise of 1e-16 from this generator: equal signals have equal values.
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames")
        try:
            return float(import_module("pystoi").stoi(ref_T, est_T, rate_hz, extended=extended))
        except RuntimeWarning:
            return math.nan


def _stoi(est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int) -> dict[str, float | None]:
    return {"stoi": _intelligibility(est_T, ref_T, rate_hz=rate_hz, extended=False)}


def _estoi(est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int) -> dict[str, float | None]:
    return {"estoi": _intelligibility(est_T, ref_T, rate_hz=rate_hz, extended=True)}


def _dnsmos(est_T: np.ndarray, ref_T: np.ndarray, *, rate_hz: int) -> dict[str, float | None]:
    """Clipped to [-1, 1], as a sound file would; the package repeats what is shorter than 9.01 s."""
    package = import_module("speechmos.dnsmos")
    found: Mapping[str, Any] = package.run(est_T.clip(-1, 1), rate_hz)
    return {
        "dnsmos_ovrl": float(found["ovrl_mos"]), "dnsmos_sig": float(found["sig_mos"]),
        "dnsmos_bak": float(found["bak_mos"]), "dnsmos_p808": float(found["p808_mos"]),
    }  # fmt: skip


_OF_CHANNEL: Mapping[str, _OfChannel] = {
    "pesq": _wide_band, "pesq_nb": _narrow_band, "stoi": _stoi, "estoi": _estoi, "dnsmos": _dnsmos,
}  # fmt: skip


def summary_of(name: str, values_NS: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the value of a run by a metric, and those of its items, (N,).

    The value of an item is the mean over its sources. That of the run is the mean over items, or, as
    papers report BSS Eval, the mean over sources of their median over items. NaN: none.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(Mean of empty slice|All-NaN slice)")
        item_N: np.ndarray = np.nanmean(values_NS, axis=1)
        if metric_of(name).summary == "median":
            return float(np.nanmean(np.nanmedian(values_NS, axis=0))), item_N
        return float(np.nanmean(item_N)), item_N
