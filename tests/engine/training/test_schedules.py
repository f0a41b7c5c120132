"""Clocks, learning rates and the decay of the average, against answers by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.batching.recipe_plan import plan_of
from engine.config.counters import EpochsUnknown, UpdateSize
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.config.sections import EmaConfig, ScheduleConfig
from engine.config.span import Span
from engine.training.run_warnings import run_warnings
from engine.training.schedule_preview import schedule_curve, schedule_warnings
from engine.training.schedules import ema_decay, is_due, lr_factor, total_updates
from engine.training.trainer import Trainer

SIZE = UpdateSize(micro_batches=2, items=32, audio_seconds=64.0)


@pytest.mark.parametrize(
    ("span", "updates"),
    [("10 updates", 10), ("10 micro_batches", 5), ("33 items", 2), ("6400 audio_seconds", 100)],
)
def test_length_in_any_clock(span, updates):
    assert total_updates(Span.parse(span), SIZE) == updates


def test_due_is_true_once_per_multiple():
    every = Span.parse("100 items")
    assert [k for k in range(1, 14) if is_due(every, k, size=SIZE)] == [4, 7, 10, 13]
    assert [k for k in range(1, 8) if is_due(Span(3, "updates"), k, size=SIZE)] == [3, 6]
    assert all(is_due(Span.parse("1 items"), k, size=SIZE) for k in range(1, 8))


def _factors(config: ScheduleConfig, updates: range) -> list[float]:
    return [lr_factor(config, SIZE.after(done), size=SIZE) for done in updates]


def test_warmup_then_constant():
    config = ScheduleConfig(warmup=Span(4, "updates"))
    assert _factors(config, range(6)) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_exponential_decays_on_its_own_clock():
    config = ScheduleConfig(kind="exponential", gamma=0.5, per=Span(64, "items"))
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
    assert ema_decay(config, 1, size=SIZE) == pytest.approx(2 / 11)
    assert ema_decay(config, 3, size=SIZE) == pytest.approx(4 / 13)
    assert ema_decay(config, 5, size=SIZE) == pytest.approx(2 / 11)
    assert ema_decay(config, 400, size=SIZE) == 0.5


def test_ema_decay_follows_its_clock():
    config = EmaConfig(decay=0.9, per=Span(16, "items"))
    assert ema_decay(config, 10_000, size=SIZE) == pytest.approx(0.81)


def _run_of(updates: int, **schedule) -> RunConfig:
    data = {"kind": "bandwidth", "train": "a", "valid": "b"}
    batch = {"items": 32, "micro_batch": 16}
    return load_config(
        {"data": data, "batch": batch, "schedule": {"length": f"{updates} updates", **schedule}}
    )


def test_linear_falls_in_equal_steps_to_its_end():
    config = ScheduleConfig(kind="linear", length=Span(8, "updates"), final_ratio=0.2)
    assert _factors(config, range(10)) == pytest.approx(
        [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.2]
    )


def test_hold_decay_holds_then_falls_straight():
    config = ScheduleConfig(kind="hold_decay", length=Span(10, "updates"), hold=0.6)
    assert _factors(config, range(11)) == pytest.approx([1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_hold_exponential_holds_then_halves_down_to_its_floor():
    config = ScheduleConfig(
        kind="hold_exponential", warmup=Span(2, "updates"), hold_for=Span(64, "items"),
        half_life=Span(128, "audio_seconds"), final_ratio=0.2,
    )  # fmt: skip
    # Of 32 items and 64 seconds an update: hold for 2 updates, halve every 2.
    assert _factors(config, range(11)) == pytest.approx(
        [0.5, 1, 1, 1, 1, 0.5**0.5, 0.5, 0.5**1.5, 0.25, 0.2, 0.2]
    )


def test_the_published_schedule_of_a_transducer():
    config = ScheduleConfig(
        kind="hold_exponential", warmup=Span(1632, "updates"), hold_for=Span(18_000, "updates"),
        half_life=Span(10_880, "updates"), final_ratio=0.1, length=Span(100_000, "updates"),
    )  # fmt: skip
    lrs = {
        at: 4e-3 * lr_factor(config, SIZE.after(at), size=SIZE)
        for at in (0, 815, 1631, 19_632, 30_512)
    }
    assert lrs == pytest.approx({0: 4e-3 / 1632, 815: 2e-3, 1631: 4e-3, 19_632: 4e-3, 30_512: 2e-3})
    # The floor of 4e-4 is a tenth: log2(10) half-lives after the hold, 36 142 updates.
    assert lr_factor(config, SIZE.after(19_632 + 36_143), size=SIZE) == 0.1
    assert lr_factor(config, SIZE.after(19_632 + 36_142), size=SIZE) > 0.1


def test_multi_step_falls_at_each_milestone_on_its_clock():
    milestones = (Span(2, "updates"), Span(128, "items"))
    config = ScheduleConfig(kind="multi_step", milestones=milestones, factor=0.5)
    assert _factors(config, range(6)) == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_multi_step_without_steps_is_refused():
    with pytest.raises(ValueError, match=r"multi_step requires schedule\.milestones"):
        ScheduleConfig(kind="multi_step")


def test_inverse_sqrt_falls_from_the_end_of_the_warmup():
    config = ScheduleConfig(kind="inverse_sqrt", warmup=Span(4, "updates"))
    factors = _factors(config, range(65))
    assert factors[:5] == [0.25, 0.5, 0.75, 1, 1]
    assert (factors[16], factors[64]) == (0.5, 0.25)


def test_cosine_restarts_go_down_in_equal_cycles_and_end_low():
    config = ScheduleConfig(
        kind="cosine_restarts", cycles=2, length=Span(8, "updates"), final_ratio=0.2
    )
    factors = _factors(config, range(10))
    assert factors[:4] == pytest.approx(factors[4:8])
    assert (factors[0], factors[2], factors[8]) == (1, pytest.approx(0.6), pytest.approx(0.2))


def test_curve_has_the_first_and_the_last_update():
    curve = schedule_curve(_run_of(10, kind="linear"), points=4)
    assert curve.updates == [1, 4, 7, 10]
    assert curve.lr == pytest.approx([3e-4, 3e-4 * 0.7, 3e-4 * 0.4, 3e-4 * 0.1])


QUIET = [
    "constant",
    "exponential",
    "linear",
    "cosine",
    "inverse_sqrt",
    "hold_decay",
    "hold_exponential",
]


@pytest.mark.parametrize("kind", QUIET)
def test_no_kind_but_restarts_rises_after_warmup(kind):
    assert schedule_warnings(_run_of(5000, kind=kind, warmup="1600 items")) == []


def test_restarts_are_warned_about():
    (warning,) = schedule_warnings(_run_of(400, kind="cosine_restarts", warmup="40 updates"))
    assert "increases after warm-up, first at update 131 of 400" in warning


def test_a_schedule_that_is_spent_early_is_warned_about():
    # 0.995 ** 1379 is the first power of 0.995 below 1e-3: update 1380 is the first with it.
    (warning,) = schedule_warnings(_run_of(2000, kind="exponential", gamma=0.995))
    assert "below 0.001 of its peak from update 1380 of 2000 onwards, so the last 31%" in warning
    assert schedule_warnings(_run_of(1500, kind="exponential", gamma=0.995)) == []


def test_a_warmup_longer_than_the_run_is_warned_about():
    (warning,) = schedule_warnings(_run_of(100, warmup="6400 items"))
    assert "takes 200 updates, but the run ends after 100" in warning


def test_a_schedule_in_epochs_is_looked_at_once_their_length_is_known() -> None:
    config = _run_of(100, kind="linear", warmup="2 epochs")
    with pytest.raises(EpochsUnknown, match="2 epochs: the length of an epoch is unknown until"):
        schedule_curve(config)
    assert schedule_warnings(config) == []
    size = replace(config.update_size, epochs=0.05)
    # Two epochs of 20 updates.
    assert schedule_curve(config, size=size).lr[19] == pytest.approx(config.optimizer.lr / 2)
    assert schedule_curve(config, size=size).lr[39] == pytest.approx(config.optimizer.lr)
    (warning,) = schedule_warnings(config, size=replace(size, epochs=0.01))
    assert warning == "schedule.warmup takes 200 updates, but the run ends after 100"


@pytest.mark.parametrize(
    ("rules", "schedule", "words"),
    [
        ({}, {"kind": "cosine"}, None),
        ({"target": 3}, {"kind": "constant"}, None),
        ({"target": 3}, {"kind": "cosine"}, "100% of its peak after 0 updates, 0% at the end"),
        (
            {"patience": "6400 items"},
            {"kind": "linear"},
            "80% of its peak after 200 updates, 0% at",
        ),
        # No run ends for its reference before 40 % of its length.
        (
            {"reference": "a"},
            {"kind": "linear"},
            "60% of its peak after 400 updates, 0% at the end",
        ),
        (
            {"reference": "a", "patience": "6400 items"},
            {"kind": "linear"},
            "80% of its peak after 200 updates, 0% at",
        ),
        ({"reference": "a", "target": 3}, {"kind": "linear"}, "100% of its peak after 0 updates"),
        ({"target": 3, "after": "900 updates"}, {"kind": "linear", "final_ratio": 0.1}, None),
        ({"target": 3, "after": "2000 updates"}, {}, "no effect: it may stop from update 2000 on"),
        ({"metric": "sdr"}, {}, "stop_when has no effect: set its patience, target or reference"),
        ({"patience": "99 updates"}, {}, "one evaluation without improvement ends the run"),
    ],
)
def test_a_rule_that_would_cut_the_decay_or_does_nothing_is_warned_about(rules, schedule, words):
    config = _run_of(1000, **schedule)
    values = {**config.to_dict(), "stop_when": rules, "validation": {"every": "100 updates"}}
    warnings = schedule_warnings(load_config(values))
    assert [words in warning for warning in warnings] == ([True] if words else [])


EPOCHS = (2, 4, 9, 18, 25, 33, 50)


@pytest.mark.parametrize("items", [32, 60, 320])
def test_the_published_milestones_in_epochs_halve_the_rate_where_each_epoch_is_over(items):
    """Seven halvings, each at the first update before which so many passes are over, whatever divides."""
    size = UpdateSize(1, 32, audio_seconds=64.0, epochs=32 / items)
    config = ScheduleConfig(
        kind="multi_step",
        factor=0.5,
        length=Span(60, "epochs"),
        milestones=tuple(Span(epochs, "epochs") for epochs in EPOCHS),
    )
    total = total_updates(config.length, size)
    assert total == -(-60 * items // 32)
    rates = [lr_factor(config, size.after(done), size=size) for done in range(total)]
    falls = [done for done in range(1, total) if rates[done] < rates[done - 1]]
    # In whole numbers: done * 32 items are at least so many passes over all of them.
    assert falls == [-(-epochs * items // 32) for epochs in EPOCHS]
    assert rates[-1] == 0.5**7


def test_restarts_have_peaks_of_their_own_and_one_floor():
    config = ScheduleConfig(
        kind="cosine_restarts",
        length=Span(400, "updates"),
        peaks=(1.0, 0.75, 0.5, 0.25),
        final_ratio=1e-3,
    )
    rates = _factors(config, range(402))
    assert [rates[at] for at in (0, 100, 200, 300)] == [1.0, 0.75, 0.5, 0.25]
    assert all(rates[at] > rates[at + 1] for at in range(400) if at not in (99, 199, 299))
    assert min(rates) == pytest.approx(1e-3)
    assert rates[400:] == [pytest.approx(1e-3)] * 2
    # Half a cycle down is half way between its peak and the floor.
    assert rates[150] == pytest.approx((0.75 + 1e-3) / 2)


@pytest.mark.parametrize("cycles", [2, 3, 7, 49, 100])
def test_every_restart_is_at_its_update_whatever_rounding_says(cycles):
    """29 / 100 * 100 is below 29 in floating point: that update would have stayed at the floor."""
    config = ScheduleConfig(
        kind="cosine_restarts", cycles=cycles, length=Span(10 * cycles, "updates")
    )
    rates = _factors(config, range(10 * cycles))
    assert rates[::10] == [pytest.approx(1.0)] * cycles


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peaks": [1.0, 0.5], "kind": "cosine"}, "those of cosine_restarts"),
        ({"peaks": [1.0, 0.5], "kind": "cosine_restarts"}, "2 values, but schedule.cycles = 4"),
        (
            {"peaks": [1.0, 0.1], "cycles": 2, "final_ratio": 0.2, "kind": "cosine_restarts"},
            "0.1, which is below schedule.final_ratio = 0.2",
        ),
    ],
)
def test_peaks_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ScheduleConfig.model_validate_json(json.dumps(settings))


@pytest.mark.parametrize(
    "schedule",
    [
        {"kind": "multi_step", "factor": 0.5, "milestones": ["2 epochs", "4 epochs"]},
        {"kind": "cosine_restarts", "peaks": [1.0, 0.75, 0.5, 0.25], "final_ratio": 0.001},
    ],
)
def test_the_preview_is_the_rate_that_is_trained_at(
    tmp_path, make_config, line_recipe, recorder, stop_after, schedule
):
    config = make_config(
        schedule={"length": "7 epochs", "warmup": "2 updates", **schedule},
        optimizer={"lr": 0.01}, logging={"every": "1 updates"}, batch={"items": 5},
    )  # fmt: skip
    recipe = line_recipe()
    size = plan_of(config, recipe).mean_size
    shown = schedule_curve(config, size=size)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    trained = recorder.curve("lr")
    assert list(trained) == shown.updates
    assert list(trained.values()) == pytest.approx(shown.lr)


@pytest.mark.parametrize(
    ("init_from", "lr", "kind", "warned"),
    [
        ("base", 3e-4, "constant", True),
        ("base", 1e-5, "constant", False),
        ("base", 3e-4, "cosine", False),
        (None, 3e-4, "constant", False),
    ],
)
def test_a_high_rate_without_decay_on_a_fine_tune_is_warned_about(
    make_config, init_from, lr, kind, warned
):
    config = make_config(init_from=init_from, optimizer={"lr": lr}, schedule={"kind": kind})
    texts = [text for text in run_warnings(config) if "may fry your fine-tune" in text]
    assert len(texts) == warned
    assert all("1e-5" in text for text in texts)
