"""A preset to plan experiments on."""

from __future__ import annotations

import pytest

from jobs.sweeps.measured import Measured
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue

BASE = """
[data]
kind = "denoise"
train = "t"
valid = "v"
noise = "n"
rate_hz = 16000
segment_s = 2.0
[batch]
items = 8
[schedule]
length = "1000 updates"
kind = "exponential"
gamma = 0.999
warmup = "100 updates"
[ema]
restart_at = "200 updates"
[validation]
every = "250 updates"
"""


@pytest.fixture
def plan(tmp_path):
    """Return a function that plans an experiment on the preset `mine`."""
    (tmp_path / "mine.toml").write_text(BASE)

    def make(measured: Measured | None = None, assignments=(), **words):
        catalogue = Catalogue(tmp_path)
        return plan_sweep(
            "exp", {"base": "mine", **words}, catalogue, assignments=assignments, measured=measured
        )

    return make
