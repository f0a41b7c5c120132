"""Perceptual metrics against the packages that define them, called by hand, and their rules."""

from __future__ import annotations

import importlib.util
import math
import warnings
from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from engine.data.files.resampling import resample
from engine.measuring.values import bss_sdr, summary_of, values_of
from engine.metrics.measures import MEASURES, missing_modules, missing_packages, rate_problem
from engine.metrics.registry import given_by, measures, metric_of, target_names, variants

RATE = 16_000


def needs(measure: str) -> pytest.MarkDecorator:
    missing = missing_modules(measure)
    reason = f"{', '.join(missing)} not installed; pip install 'sepdash[{MEASURES[measure].extra}]'"
    return pytest.mark.skipif(bool(missing), reason=reason)


@pytest.fixture(scope="module")
def museval() -> ModuleType:
    """The metrics of museval, loaded past its `__init__`, which wants ffmpeg."""
    found = importlib.util.find_spec("museval")
    assert found is not None
    assert found.submodule_search_locations is not None
    path = f"{found.submodule_search_locations[0]}/metrics.py"
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def speech(seconds: float = 3.0, *, rate_hz: int = RATE, seed: int = 0) -> np.ndarray:
    """Return (1, T): syllables of harmonics with pauses, which PESQ takes for utterances."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = 110 * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 20))
    envelope = np.clip(np.sin(2 * np.pi * 1.5 * t), 0, None)
    return (0.1 * envelope * voice).astype(np.float32)[None]


def noisy(ref_CT: np.ndarray, level: float = 0.01) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(ref_CT.shape)
    return (ref_CT + level * noise).astype(np.float32)


def of(measure: str, est_SCT: np.ndarray, ref_SCT: np.ndarray, *, rate_hz: int = RATE):
    return {name: x_S.tolist() for name, x_S in values_of(measure, est_SCT, ref_SCT=ref_SCT, rate_hz=rate_hz).items()}  # fmt: skip


@pytest.mark.parametrize(
    ("sources", "channels", "rate_hz", "seconds"),
    [(1, 1, 2_000, 4.0), (2, 2, 2_000, 4.6), (1, 2, 3_000, 0.7), (1, 1, 2_000, 1.0)],
)
def test_bss_sdr_is_that_of_museval(museval, sources, channels, rate_hz, seconds):
    """Frames, the incomplete last one, files shorter than a frame, several sources and channels."""
    rng = np.random.default_rng(sources)
    ref_SCT = rng.standard_normal((sources, channels, round(seconds * rate_hz))).astype(np.float32)
    est_SCT = 0.9 * np.roll(ref_SCT, 1, axis=-1) + 0.3 * rng.standard_normal(ref_SCT.shape)
    expected = _median_of(museval, est_SCT, ref_SCT, rate_hz=rate_hz)
    assert bss_sdr(est_SCT, ref_SCT, rate_hz=rate_hz) == pytest.approx(expected, abs=1e-6)


def _median_of(museval, est_SCT, ref_SCT, *, rate_hz):
    sdr, *_ = museval.bss_eval(
        ref_SCT.transpose(0, 2, 1).astype(np.float64), est_SCT.transpose(0, 2, 1).astype(np.float64),
        window=rate_hz, hop=rate_hz, compute_permutation=False,
    )  # fmt: skip
    return np.nanmedian(sdr, axis=1)


def test_frames_with_a_silent_source_have_no_bss_sdr(museval):
    rng = np.random.default_rng(5)
    ref_SCT = rng.standard_normal((2, 1, 6_000))
    est_SCT = ref_SCT + 0.1 * rng.standard_normal(ref_SCT.shape)
    ref_SCT[0, :, :1_000] = 0  # the first reference is silent in frame 0
    est_SCT[1, :, 3_000:4_000] = 0  # the second estimate in frame 3
    est_SCT[:, :, 5_000:] *= 0.1
    expected = _median_of(museval, est_SCT, ref_SCT, rate_hz=1_000)
    assert bss_sdr(est_SCT, ref_SCT, rate_hz=1_000) == pytest.approx(expected, abs=1e-9)


def test_where_museval_refuses_a_file_it_is_absent_or_worst(museval):
    ref_SCT = np.random.default_rng(0).standard_normal((1, 1, 4_000))
    silent_SCT = np.zeros_like(ref_SCT)
    for est_SCT, reference_SCT in ((ref_SCT, silent_SCT), (silent_SCT, ref_SCT)):
        with pytest.raises(ValueError, match="non-silent"):
            _median_of(museval, est_SCT, reference_SCT, rate_hz=1_000)
    assert np.isnan(bss_sdr(ref_SCT, silent_SCT, rate_hz=1_000)).all()
    assert bss_sdr(silent_SCT, ref_SCT, rate_hz=1_000).tolist() == [-100]
    assert bss_sdr(ref_SCT * math.nan, ref_SCT, rate_hz=1_000).tolist() == [-100]
    assert bss_sdr(ref_SCT, ref_SCT, rate_hz=1_000).tolist() == [100]


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000])
@pytest.mark.parametrize(("measure", "extended"), [("stoi", False), ("estoi", True)])
def test_stoi_is_that_of_the_package(measure, extended, rate_hz):
    from pystoi import stoi

    ref_CT = speech(rate_hz=rate_hz)
    est_CT = noisy(ref_CT)
    expected = stoi(ref_CT[0], est_CT[0], rate_hz, extended=extended)
    found = of(measure, est_CT[None], ref_CT[None], rate_hz=rate_hz)
    assert found == {measure: [pytest.approx(expected, abs=1e-9)]}
    assert 0.3 < expected < 0.999


def test_stoi_of_what_is_too_short_is_absent_and_no_number():
    """The package answers 0.00001 with a warning, or fails in its transform."""
    for seconds in (0.01, 0.3):
        ref_CT = speech(1.0)[:, : round(seconds * RATE)] + np.float32(0.01)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert math.isnan(of("stoi", ref_CT[None], ref_CT[None])["stoi"][0])
    # Long enough, but with less than 30 frames of sound.
    ref_CT = np.zeros((1, RATE), dtype=np.float32)
    ref_CT[:, :2_000] = noisy(ref_CT, 0.1)[:, :2_000]
    assert math.isnan(of("stoi", ref_CT[None], ref_CT[None])["stoi"][0])


@needs("pesq")
@pytest.mark.parametrize(
    ("measure", "mode", "rate_hz", "package_hz"),
    [("pesq", "wb", 16_000, 16_000), ("pesq", "wb", 24_000, 16_000), ("pesq_nb", "nb", 8_000, 8_000), ("pesq_nb", "nb", 16_000, 8_000)],
)  # fmt: skip
def test_pesq_is_that_of_the_package(measure, mode, rate_hz, package_hz):
    pesq = import_module("pesq")
    ref_CT = speech(rate_hz=rate_hz)
    est_CT = noisy(ref_CT, 0.001)
    ref_T, est_T = (resample(x_CT, rate_hz, to_hz=package_hz)[0] for x_CT in (ref_CT, est_CT))
    expected = pesq.pesq(package_hz, ref_T, est_T, mode)
    assert of(measure, est_CT[None], ref_CT[None], rate_hz=rate_hz) == {measure: [expected]}
    assert 1.05 < expected < 4.5


@needs("pesq")
def test_pesq_of_a_long_file_is_the_mean_of_pieces():
    """Ninety utterances: more than the package has room for, so that it would end the process."""
    pesq = import_module("pesq")
    ref_CT = speech(60.0)
    est_CT = noisy(ref_CT, 0.001)
    parts = zip(np.split(ref_CT[0], 3), np.split(est_CT[0], 3), strict=True)
    expected = [pesq.pesq(RATE, ref_T, est_T, "wb") for ref_T, est_T in parts]
    assert of("pesq", est_CT[None], ref_CT[None])["pesq"] == [pytest.approx(np.mean(expected))]
    half_CT = est_CT.copy()
    half_CT[:, : 20 * RATE] = 0
    assert of("pesq", half_CT[None], ref_CT[None])["pesq"] == [
        pytest.approx(np.mean([1, *expected[1:]]))
    ]


@needs("pesq")
def test_pesq_without_utterance_is_absent_and_of_a_silent_estimate_worst():
    ref_CT = speech()
    assert math.isnan(of("pesq", ref_CT[None], 0 * ref_CT[None])["pesq"][0])
    assert math.isnan(of("pesq", ref_CT[None, :, :3_000], ref_CT[None, :, :3_000])["pesq"][0])
    assert of("pesq", 0 * ref_CT[None], ref_CT[None])["pesq"] == [1.0]
    assert of("pesq", math.nan * ref_CT[None], ref_CT[None])["pesq"] == [1.0]
    assert of("pesq", 1_000 * ref_CT[None], ref_CT[None])["pesq"][0] > 4


@needs("dnsmos")
@pytest.mark.long
@pytest.mark.slow
def test_dnsmos_is_that_of_the_package():
    dnsmos = import_module("speechmos.dnsmos")
    est_CT = noisy(speech(5.0))  # the package takes it twice, as one window; 4 s would be seven
    keys = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
    expected = dnsmos.run(est_CT[0], RATE)
    found = of("dnsmos", est_CT[None], est_CT[None])
    assert [x_S[0] for x_S in found.values()] == pytest.approx([expected[key] for key in keys])
    # What the package refuses is clipped, as in a file of 16 bits.
    loud_CT = 50 * est_CT
    with pytest.raises(ValueError, match="between -1 and 1"):
        dnsmos.run(loud_CT[0], RATE)
    expected = dnsmos.run(loud_CT[0].clip(-1, 1), RATE)
    assert of("dnsmos", loud_CT[None], est_CT[None])["dnsmos_ovrl"] == [
        pytest.approx(expected["ovrl_mos"])
    ]


def test_channels_are_averaged_and_sources_kept_apart():
    one_CT, two_CT = speech(seed=1), speech(seed=2)
    ref_SCT = np.stack([np.concatenate([one_CT, two_CT]), np.concatenate([two_CT, 0 * two_CT])])
    est_SCT = noisy(ref_SCT)
    one, two, three = (
        of("stoi", est_SCT[s : s + 1, c : c + 1], ref_SCT[s : s + 1, c : c + 1])["stoi"][0]
        for s, c in ((0, 0), (0, 1), (1, 0))
    )
    assert of("stoi", est_SCT, ref_SCT)["stoi"] == pytest.approx([(one + two) / 2, three])


def test_value_of_a_run_is_the_mean_or_median_of_its_tracks():
    value_NS = np.array([[1.0, 10.0], [2.0, math.nan], [9.0, 30.0], [math.nan, math.nan]])
    value, item_N = summary_of("stoi", value_NS)
    assert item_N == pytest.approx([5.5, 2.0, 19.5, math.nan], nan_ok=True)
    assert value == pytest.approx(np.mean([5.5, 2.0, 19.5]))
    # Of each source its median over tracks, then the mean over sources.
    value, item_N = summary_of("bss_sdr", value_NS)
    assert value == np.mean([2.0, 20.0])
    assert item_N[2] == 19.5


def test_every_measure_is_declared_once_and_on_whole_files_only():
    assert set(measures()) == set(MEASURES)
    for measure in measures():
        for metric in given_by(measure):
            assert variants(metric.name) == (f"{metric.name}_full", f"{metric.name}_full_ema")
            assert set(variants(metric.name)) <= set(target_names())
            assert metric.worst is not None
    assert metric_of("bss_sdr_full_ema").summary == "median"


def test_missing_package_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setattr("engine.metrics.measures.find_spec", lambda name: None)
    assert missing_packages(["bss_sdr"]) == ""
    assert missing_packages(["stoi", "estoi", "bss_sdr"]) == (
        "stoi, estoi can't be measured: pystoi not installed; run pip install 'sepdash[speech-metrics]', or "
        "remove them from validation.metrics"
    )


def test_rates_that_a_measure_can_not_be_had_of_are_refused():
    assert rate_problem(["pesq", "stoi", "bss_sdr"], 16_000) == ""
    assert "at least 16000 Hz, but data.rate_hz = 8000; use 'pesq_nb'" in rate_problem(
        ["pesq"], 8_000
    )
    assert "remove it" in rate_problem(["stoi", "dnsmos"], 8_000)
