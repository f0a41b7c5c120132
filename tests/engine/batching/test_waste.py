"""What plans cost on lengths like LibriSpeech's: padding, waiting, batches over the cap."""

from __future__ import annotations

from typing import Any

import pytest

from engine.batching.open_plan import open_plan
from engine.batching.report import report_on
from engine.config.loading import load_config
from tests.bench.batch_plans import librispeech_like

DYN = {"mode": "1D-bucketing-dyn", "bins": 100}


@pytest.mark.parametrize(
    ("batch", "world", "most_padding", "most_idle"),
    [
        (DYN, 1, 0.014, 0.0),
        ({"items": 1024}, 1, 0.026, 0.0),
        ({"items": 1024}, 8, 0.026, 0.002),
        ({"items": 32, "pool_updates": 32}, 1, 0.021, 0.0),
    ],
)
def test_little_is_wasted(
    batch: dict[str, Any], world: int, most_padding: float, most_idle: float
) -> None:
    sizes = librispeech_like(100_000)[:, None]
    config = load_config(
        {
            "data": {"kind": "bandwidth", "train": "t", "valid": "v"},
            "batch": {"cap_s": 320.0, "micro_batch": 4096, **batch},
        }
    )
    report = report_on(open_plan(config, sizes, manifest="", world=world), sizes)
    assert report.padding_share <= most_padding
    assert report.idle_share <= most_idle + 1e-9
    assert (report.over_cap, report.empty) == (0, 0)
    assert report.largest <= 320 * (1 + 1e-9)
