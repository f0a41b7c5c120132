"""Where an update stands: above, at the edge, below, and below with good reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.batching.advice import batch_advice
from engine.recipes.specs import BUILT_IN
from tests.tui.cli.test_plan import REPORT

HOUR = 3600.0
PUBLISHED = (1024, 5 * HOUR)


@pytest.mark.parametrize(
    ("items", "hours", "said"),
    [
        (1500.0, 4.0, "this is 1.46 times that"),
        (300.0, 5.1, "this is 1.02 times that"),
        (1024.0, 3.4, "at its lower edge (100%)"),
        (
            256.0,
            0.9,
            "this is only 25.0% of that: raise batch.items or batch.seconds (memory stays",
        ),
        (256.0, 2.0, "this is only 40.0% of that"),
    ],
)
def test_an_update_is_placed_by_whichever_is_larger(items, hours, said) -> None:
    report = replace(REPORT, mode="exact", mean_items=items, mean_s=hours * HOUR)
    advice = batch_advice(report, PUBLISHED)
    assert advice.startswith("more than 1,024 items or 5 h per update, as published results use")
    assert said in advice


def test_modes_by_device_grow_by_accumulation() -> None:
    report = replace(REPORT, mean_items=100.0, mean_s=300.0)
    assert "raise batch.accumulation" in batch_advice(report, PUBLISHED)


def test_a_small_training_set_needs_no_large_updates() -> None:
    report = replace(REPORT, mean_items=16.0, mean_s=50.0, audio_s=2 * HOUR)
    assert "only 0.4 such updates: a smaller update is right" in batch_advice(report, PUBLISHED)


def test_who_is_advised() -> None:
    assert {spec.name: spec.large_update for spec in BUILT_IN} == {
        "separation": None, "transducer": PUBLISHED, "ctc": None, "data2vec2": None, "wav2vec2": (450, 1.6 * HOUR),
        "hubert": None, "codec": None, "voice": None,
    }  # fmt: skip
