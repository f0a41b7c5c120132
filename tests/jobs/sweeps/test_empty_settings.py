"""The word `none` in an experiment: what it empties, and what can't be empty."""

from __future__ import annotations

import pytest

from engine.config.errors import ConfigError


def test_none_empties_a_setting_in_all_runs_a_variant_or_a_grid(plan) -> None:
    """Warm-up and restart are set by the preset."""
    (run,) = plan(set={"schedule": {"warmup": "none"}}).runs
    assert (run.config.schedule.warmup, str(run.config.ema.restart_at)) == (None, "200 updates")

    variants = {
        "with": {},
        "without": {"schedule": {"warmup": "none"}, "ema": {"restart_at": "none"}},
    }
    runs = {run.variant: run.config for run in plan(match="items", variants=variants).runs}
    assert str(runs["with"].schedule.warmup) == "800 items"
    assert (runs["without"].schedule.warmup, runs["without"].ema.restart_at) == (None, None)

    grid = {"ema.restart_at": ["none", "300 updates"], "checkpoint.best": ["none", ["si_sdr"]]}
    runs = {run.variant: run.config for run in plan(match="items", grid=grid).runs}
    assert {name: (config.ema.restart_at and str(config.ema.restart_at), config.checkpoint.best)
            for name, config in runs.items()} == {
        "restart_at-none-best-none": (None, ()),
        "restart_at-none-best-si_sdr": (None, ("si_sdr",)),
        "restart_at-300-updates-best-none": ("300 updates", ()),
        "restart_at-300-updates-best-si_sdr": ("300 updates", ("si_sdr",)),
    }  # fmt: skip


def test_an_option_may_set_again_what_the_file_empties_and_the_reverse(plan) -> None:
    emptied = {"schedule": {"warmup": "none"}}
    (run,) = plan(set=emptied, assignments=["schedule.warmup=7 updates"]).runs
    assert str(run.config.schedule.warmup) == "7 updates"
    (run,) = plan(assignments=["schedule.warmup=none"]).runs
    assert run.config.schedule.warmup is None
    one = plan(variants={"a": {}, "b": emptied}, assignments=["schedule.warmup=7 updates"]).runs[1]
    assert one.config.schedule.warmup is None


def test_what_can_not_be_empty_says_what_it_expects(plan) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(variants={"a": {"optimizer": {"clip_norm": "none"}, "model": {"strides": "none"}}})
    assert [str(problem) for problem in caught.value.problems] == [
        "variant a: model.strides: expected at least 1 value, found []",
        "variant a: optimizer.clip_norm: expected a number >= 0, found 'none'",
    ]
