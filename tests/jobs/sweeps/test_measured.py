"""What earlier runs tell of the speed of a new one: only those that train alike count."""

from __future__ import annotations

from typing import Any

import pytest

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from jobs.sweeps.measured import Measured


def speech(train: str = "a.jsonl", **data: Any) -> RunConfig:
    values = {"kind": "speech", "train": train, "valid": "v.jsonl", **data}
    return load_config(
        {"data": values, "model": {"kind": "conformer_rnnt"}, "loss": {"kind": "rnnt"}}
    )


def segments(train: str = "a", **data: Any) -> RunConfig:
    return load_config({"data": {"kind": "bandwidth", "train": train, "valid": "v", **data}})


@pytest.mark.parametrize(
    ("first", "second", "known"),
    [
        (segments(), segments("b"), True),
        (segments(), segments(segment_s=1.0), False),
        (speech(), speech(valid="w.jsonl"), True),
        (speech(), speech("b.jsonl"), False),
        (speech(), speech(max_s=5.0), False),
        (speech(), speech(num_mels=40), False),
        (speech(), speech(vocab_size=64), False),
    ],
)
def test_time_of_an_update_is_known_from_runs_that_train_alike(
    store, reader, first: RunConfig, second: RunConfig, known: bool
) -> None:
    run = {"name": "run", "config": first.to_json(), "fingerprint": "", "seed": 0}
    store.update_run(store.insert_run(run), updates=10, train_seconds=5.0)
    measured = Measured.of(reader)
    assert measured.seconds_per_update(first) == 0.5
    assert measured.seconds_per_update(second) == (0.5 if known else None)
