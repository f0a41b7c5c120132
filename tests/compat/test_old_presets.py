"""Presets and experiments of 2026-11-22 mean what they meant."""

from __future__ import annotations

import pytest

from tests.compat.old_home import assert_close, assert_same_config, expected, in_old_words

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PRESETS = sorted(expected()["presets"])
SWEEPS = sorted(expected()["sweeps"])


def test_new_words_are_compared_as_old_ones():
    today = {"validation": {"clips": 2}, "schedule": {"length": "64 items", "milestones": []}}
    assert in_old_words(today) == {
        "validation.samples": 2, "schedule.length": "64 samples", "schedule.milestones": [],
    }  # fmt: skip
    assert in_old_words({"items": 640, "by": "items"}) == {"samples": 640, "by": "samples"}


def test_every_recorded_preset_is_listed(old):
    listed = {info["name"]: info for info in old.json("presets") if info["origin"] == "user"}
    assert sorted(listed) == PRESETS
    assert not any(info["problem"] for info in listed.values())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_makes_the_config_it_made(old, recorded, name):
    assert_same_config(old.json("presets", name), recorded["presets"][name], old.user)


@pytest.mark.parametrize("name", SWEEPS)
def test_an_experiment_plans_the_runs_it_planned(old, recorded, name):
    plan, then = old.json("sweep", name, "--dry-run"), recorded["sweeps"][name]
    assert in_old_words({"match": plan["match"]}) == {"match": then["match"]}
    assert plan["base"] == then["base"]
    assert plan["scale_schedules"] == then["scale_schedules"]
    for run, was in zip(plan["runs"], then["runs"], strict=True):
        now = in_old_words({key: value for key, value in run.items() if key != "config"})
        for key in ("name", "variant", "seed", "updates", "samples", "audio_seconds"):
            assert_close(now[key], was[key], f"{was['name']}: {key}")
        if "config" in was:
            assert_same_config(run["config"], was["config"], old.user)


def test_old_words_are_taken_by_set(old):
    changes = ["validation.samples=5", "schedule.length=96 samples", "loss.kind=spectral",
               "loss.windows=[32]", "checkpoint.best=['val_loss_ema']"]  # fmt: skip
    words = [word for change in changes for word in ("--set", change)]
    old.sepdash("plan", "old/tiny", *words)


def test_a_run_of_an_old_preset_trains_to_its_end(fresh):
    """The one with the spectral loss, milestones and micro-batches as its clock."""
    fresh.sepdash("enqueue", "old/spectral", "--name", "spectral")
    fresh.sepdash("worker", "--drain", "--device", "cpu")
    shown = fresh.json("show", "spectral")
    run = in_old_words(shown["run"])
    assert run["state"] == "finished", run["message"]
    # 64 micro-batches of 2; an update holds 4.
    assert (run["updates"], run["samples"]) == (32, 128)
    clips = fresh.json("samples", "spectral")
    # Of both items, input and target, and an estimate at sample 100 and at the end.
    assert sorted((clip["kind"], clip["updates"]) for clip in clips) == sorted(
        [("input", 0), ("target", 0), ("estimate", 25), ("estimate", 32)] * 2
    )


def test_the_printed_config_of_an_old_run_is_a_preset(fresh, recorded):
    path = fresh.root / "presets" / "again.toml"
    path.write_text(fresh.sepdash("show", "pair-baseline-s0", "--config"))
    then = recorded["runs"]["pair-baseline-s0"]["config"]
    assert_same_config(fresh.json("presets", "again"), then, fresh.user)
