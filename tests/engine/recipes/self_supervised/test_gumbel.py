"""The temperature by hand; noise that has its distribution and depends on the item alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import kstest

from engine.config.counters import Counters
from engine.config.self_supervised import Wav2Vec2Loss
from engine.config.span import Span
from engine.recipes.self_supervised.gumbel import gumbel_noise, gumbel_temperature

THOUSAND = Span(1000, "updates")


def temperature(updates: int, length: Span = THOUSAND, **settings: Any) -> float:
    counters = Counters(updates, epochs=updates / 50)
    return gumbel_temperature(Wav2Vec2Loss(**settings), counters, length=length)


def test_temperature_falls_to_its_end_within_the_run() -> None:
    assert temperature(0) == 2.0
    # Half of the way to 700 of 1000 updates: the geometric mean of 2 and 0.5.
    assert temperature(350) == pytest.approx(1.0)
    assert temperature(175) == pytest.approx(2 * 0.25**0.25)
    assert temperature(700) == pytest.approx(0.5)
    assert temperature(999) == pytest.approx(0.5)
    assert temperature(500, gumbel_share=1.0) == pytest.approx(1.0)


def test_temperature_follows_the_clock_of_the_run() -> None:
    # 20 epochs of 50 updates are 1000 updates.
    for updates in (0, 100, 350, 900):
        assert temperature(updates, Span(20, "epochs")) == pytest.approx(temperature(updates))


@pytest.mark.parametrize(
    ("updates", "wanted"),
    [(0, 2.0), (50_000, 1.56), (100_000, 1.21), (277_300, 0.5), (400_000, 0.5)],
)
def test_published_temperature(updates: int, wanted: float) -> None:
    found = temperature(updates, Span(400_000, "updates"), gumbel_decay=0.999995)
    assert found == pytest.approx(wanted, abs=0.006)


def test_a_temperature_that_rises_is_refused() -> None:
    with pytest.raises(ValidationError, match="gumbel_end = 3 must be at most gumbel_start = 2"):
        Wav2Vec2Loss(gumbel_end=3.0)


def test_noise_has_the_distribution() -> None:
    noise = gumbel_noise(torch.arange(4), (100, 2, 320))
    assert noise.shape == (4, 100, 2, 320)
    assert noise.dtype == torch.float32
    assert kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 1e-3
    assert noise.mean().item() == pytest.approx(np.euler_gamma, abs=0.01)
    assert noise.var().item() == pytest.approx(np.pi**2 / 6, abs=0.03)


def test_noise_of_neighbours_is_independent() -> None:
    flat = gumbel_noise(torch.tensor([0, 1, 2, 2**62, -5]), (50, 2, 320)).flatten(1)
    rows = torch.cat([flat[:, 640:], flat[:, :-640], flat[:, 1:-639]])
    correlation = torch.corrcoef(rows) - torch.eye(len(rows))
    # 31,360 numbers a row: five deviations are 0.028.
    assert correlation.abs().max() < 0.028


def test_noise_is_that_of_the_item_and_place() -> None:
    whole = gumbel_noise(torch.tensor([11, 12, 13]), (9, 2, 5))
    assert torch.equal(gumbel_noise(torch.tensor([12]), (4, 2, 5))[0], whole[1, :4])
    assert not torch.equal(whole[0], whole[1])


def test_noise_is_finite_at_both_ends() -> None:
    noise = gumbel_noise(torch.arange(50), (200, 2, 320))
    assert noise.isfinite().all()
    assert noise.min() > -2.9
    assert noise.max() < 17
