"""Clocks, learning rates and the decay of the average, against answers by hand."""

from __future__ import annotations

import pytest

from engine.config.sections import EmaConfig, ScheduleConfig
from engine.config.span import Span
from engine.counters import UpdateSize
from engine.schedules import ema_decay, is_due, lr_factor, total_updates

SIZE = UpdateSize(micro_batches=2, samples=32, audio_seconds=64.0)


@pytest.mark.parametrize(
    ("span", "updates"),
    [("10 updates", 10), ("10 micro_batches", 5), ("33 samples", 2), ("6400 audio_seconds", 100)],
)
def test_length_in_any_clock(span, updates):
    assert total_updates(Span.parse(span), SIZE) == updates


def test_due_is_true_once_per_multiple():
    every = Span.parse("100 samples")
    assert [k for k in range(1, 14) if is_due(every, k, SIZE)] == [4, 7, 10, 13]
    assert [k for k in range(1, 8) if is_due(Span(3, "updates"), k, SIZE)] == [3, 6]
    assert all(is_due(Span.parse("1 samples"), k, SIZE) for k in range(1, 8))


def _factors(config: ScheduleConfig, updates: range) -> list[float]:
    return [lr_factor(config, SIZE.after(done), SIZE) for done in updates]


def test_warmup_then_constant():
    config = ScheduleConfig(warmup=Span(4, "updates"))
    assert _factors(config, range(6)) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_exponential_decays_on_its_own_clock():
    config = ScheduleConfig(kind="exponential", gamma=0.5, per=Span(64, "samples"))
    assert _factors(config, range(5)) == pytest.approx([1, 0.5**0.5, 0.5, 0.5**1.5, 0.25])


def test_cosine_goes_down_only_and_stays():
    config = ScheduleConfig(kind="cosine", length=Span(8, "updates"), final_ratio=0.2)
    factors = _factors(config, range(30))
    assert factors[0] == 1
    assert factors[4] == pytest.approx(0.6)
    assert factors == sorted(factors, reverse=True)
    assert factors[8:] == [pytest.approx(0.2)] * 22


def test_cosine_starts_where_warmup_ends():
    config = ScheduleConfig(
        kind="cosine", length=Span(10, "updates"), warmup=Span(128, "micro_batches")
    )
    assert _factors(config, range(3)) == [1 / 64, 2 / 64, 3 / 64]


def test_ema_warms_up_and_starts_again():
    config = EmaConfig(decay=0.5, restart_at=Span(4, "updates"))
    assert ema_decay(config, 1, SIZE) == pytest.approx(2 / 11)
    assert ema_decay(config, 3, SIZE) == pytest.approx(4 / 13)
    assert ema_decay(config, 5, SIZE) == pytest.approx(2 / 11)
    assert ema_decay(config, 400, SIZE) == 0.5


def test_ema_decay_follows_its_clock():
    config = EmaConfig(decay=0.9, per=Span(16, "samples"))
    assert ema_decay(config, 10_000, SIZE) == pytest.approx(0.81)
