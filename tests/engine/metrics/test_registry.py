"""Names, directions and texts of metrics, and the one choice of the best checkpoint."""

from __future__ import annotations

import math

import pytest

from engine.metrics.best import BestMetrics, best_checkpoint
from engine.metrics.registry import (
    BUILT_IN,
    Metric,
    common_title,
    compared_names,
    default_targets,
    headline,
    metric_of,
    of_average,
    of_whole_files,
    stored_name,
    target_names,
    training_names,
    variant_of,
    variants,
)


@pytest.mark.parametrize(
    ("metric", "value", "text", "with_unit"),
    [
        ("si_sdr", 12.345, "12.35", "12.35 dB"),
        ("si_sdr_full_ema", -0.5, "-0.50", "-0.50 dB"),
        ("wer", 0.0312, "3.12%", "3.12%"),
        ("wer_ema", 0.5, "50.0%", "50.0%"),
        ("wer", 0.09996, "10.0%", "10.0%"),
        ("cer", 0.9996, "100%", "100%"),
        ("wer", 12.5, "1250%", "1250%"),
        ("wer", None, "–", "–"),
        ("si_sdr", math.nan, "–", "–"),
        ("val_loss", 1.5, "1.50", "1.50"),
        ("gone_with_its_package_ema", 2.0, "2.00", "2.00"),
    ],
)
def test_values(metric: str, value: float | None, text: str, with_unit: str) -> None:
    assert metric_of(metric).text(value) == text
    assert metric_of(metric).with_unit(value) == with_unit


@pytest.mark.parametrize("metric", BUILT_IN, ids=lambda metric: metric.name)
def test_names_are_taken_apart_as_they_were_built(metric: Metric) -> None:
    names = variants(metric.name)
    on = 2 if metric.whole_files and not metric.measure else 1
    assert len(set(names)) == on * (1 if metric.of_input else 2)
    for name in names:
        what = variant_of(name)
        assert (what.metric, what.name) == (metric, name)
        assert name == stored_name(metric.name, full=what.full, ema=what.ema)


def test_evaluations_are_named_by_what_was_measured() -> None:
    values = {"si_sdr": 1.0, "input_si_sdr": 0.5}
    assert of_average(of_whole_files(values)) == {"si_sdr_full_ema": 1.0}
    assert variant_of("si_sdr_full_ema").of == "whole files, averaged weights"
    assert variant_of("si_sdr").of == ""


def test_headlines_and_defaults() -> None:
    assert (headline("separation"), headline("transducer")) == ("si_sdr", "wer")
    assert {headline(name) for name in ("hubert", "wav2vec2", "data2vec2")} == {"probe_accuracy"}
    assert headline("a recipe of no headline") == "val_loss"
    # The defaults that runs of 2026-11-22 were saved with: a change would change every fingerprint.
    assert default_targets() == (
        "si_sdr", "si_sdr_ema", "wer", "wer_ema", "val_loss", "val_loss_ema",
    )  # fmt: skip
    assert set(default_targets()) <= set(target_names())
    whole = [name for name in compared_names() if "_full" in name]
    assert whole[:2] == ["si_sdr_full", "si_sdr_full_ema"]
    assert whole[-2:] == ["bss_sdr_full", "bss_sdr_full_ema"]
    assert "bss_sdr" not in compared_names()


def test_a_column_is_called_after_what_all_have_in_common() -> None:
    assert common_title(["wer", "wer"]) == "WER"
    assert common_title(["wer", "si_sdr"]) == "best"
    assert common_title([]) == "SI-SDR"


def test_better_is_higher_or_lower_and_never_nan() -> None:
    watch = BestMetrics(["si_sdr", "wer"])
    assert watch.update({"si_sdr": 1.0, "wer": 0.5, "lsd": 0.0}) == ["si_sdr", "wer"]
    assert watch.update({"si_sdr": 0.5, "wer": 0.6}) == []
    assert watch.update({"si_sdr": math.nan, "wer": math.nan}) == []
    assert watch.update({"si_sdr": 1.5, "wer": 0.4}) == ["si_sdr", "wer"]


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        # The average is not taken for being one: the weights measured 12.4, their average 11.9.
        ({"best-si_sdr": {"si_sdr": 12.4, "si_sdr_ema": 11.0},
          "best-si_sdr_ema": {"si_sdr": 12.1, "si_sdr_ema": 11.9}}, "best-si_sdr"),
        ({"best-si_sdr": {"si_sdr": 3.0}, "best-si_sdr_ema": {"si_sdr_ema": 3.0}}, "best-si_sdr_ema"),
        ({"best-wer": {"wer": 0.2}, "best-wer_ema": {"wer_ema": 0.1}}, "best-wer_ema"),
        ({"best-val_loss_ema": {"val_loss_ema": 0.1}, "best-si_sdr": {"si_sdr": -3.0}}, "best-si_sdr"),
        ({"best-val_loss_ema": {"val_loss_ema": 0.3}, "best-val_loss": {"val_loss": 0.2},
          "last": {}}, "best-val_loss"),
        ({"best-si_sdr_full": {"si_sdr_full": 20.0}, "best-si_sdr": {"si_sdr": 1.0}}, "best-si_sdr"),
        ({"best-si_sdr_full": {"si_sdr_full": 20.0}, "best-val_loss": {"val_loss": 1.0}},
         "best-si_sdr_full"),
        ({"best-cer": {"cer": 0.2}, "best-val_loss": {"val_loss": 1.0}}, "best-cer"),
        ({"best-si_sdr": {}, "best-si_sdr_ema": {}, "best-val_loss": {"val_loss": 1.0}, "last": {}},
         "best-si_sdr_ema"),
        ({"last": {}}, "last"),
        ({}, None),
    ],
)  # fmt: skip
def test_best_checkpoint(kinds: dict[str, dict[str, float]], chosen: str | None) -> None:
    assert best_checkpoint(kinds) == chosen
    assert best_checkpoint(dict(reversed(kinds.items()))) == chosen


def test_training_metrics_are_what_is_declared_or_unknown(monkeypatch):
    declared = {
        "wave_snr": Metric("wave_snr", "SNR", unit="dB", of_training=True),
        "probe": Metric("probe", "probe"),
    }
    monkeypatch.setattr("engine.metrics.registry._installed", lambda: declared)
    series = [
        "loss",
        "lr",
        "val_loss",
        "si_sdr_full_ema",
        "wave_snr",
        "probe",
        "masked",
        "odd",
        "odd_ema",
        "val_x",
    ]
    assert training_names(series) == ("masked", "wave_snr")
