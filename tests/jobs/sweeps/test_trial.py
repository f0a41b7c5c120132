"""Configs are timed by short real runs, which leave times and nothing else."""

from __future__ import annotations

import pytest

from engine.data.update_size import planned_size
from engine.training.schedules import total_updates
from jobs.machine.lease import DeviceUse, LeaseError
from jobs.store.reader import StoreReader
from jobs.sweeps import trial
from jobs.sweeps.measured import Measured
from jobs.sweeps.night import NightError
from jobs.sweeps.trial import read_measured, time_configs
from tests.jobs.small_training import small_config


def with_settings(config, **sections):
    from engine.config.loading import load_config
    from presets.merging import merge

    return load_config(merge(config.to_dict(), sections))


def duration(measured: Measured, config):
    size = planned_size(config)
    return measured.duration(config, size, total=total_updates(config.schedule.length, size))


@pytest.mark.slow
def test_each_kind_of_config_is_timed_once(home, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(trial, "_TIMED_S", 1.0)
    base = small_config(tmp_path / "data", 5000)
    whole = {"full_files": True, "full_every": "1000 updates"}
    config = with_settings(base, validation=whole)
    other = with_settings(config, batch={"items": 4}, init_from="./weights")
    longer = with_settings(config, schedule={"length": "90000 updates"}, seed=3)
    assert duration(read_measured(home), config) is None
    said: list[str] = []
    configs = [("first", config), ("other", other), ("longer", longer)]
    measured = time_configs(home, configs, echo=said.append)
    assert [line for line in said if line.endswith("...")] == [
        "timing first ...",
        "timing other ...",
    ]
    one, long = duration(measured, config), duration(measured, longer)
    assert 0 < one.expected_s <= one.slowest_s
    # 18 times the updates and evaluations, but one start of a few seconds.
    start = (18 * one.expected_s - long.expected_s) / 17
    assert 0 < start < 60
    # Kept for later plans, without checkpoints; the user's own runs are as before.
    assert duration(read_measured(home), other) == duration(measured, other)
    assert list((home.root / "timing").rglob("*.safetensors")) == []
    with StoreReader(home.store) as reader:
        assert reader.runs() == []
    assert time_configs(home, configs, echo=lambda text: pytest.fail(text)) is not None


def test_nothing_is_timed_beside_a_run(home, tmp_path) -> None:
    config = small_config(tmp_path / "data", 50)
    with (
        DeviceUse(home.locks, trial.resolve_device("auto"), purpose="run 7; stop it with Ctrl-C"),
        pytest.raises(LeaseError, match=r"in use by process .*: run 7; stop it"),
    ):
        time_configs(home, [("first", config)], echo=str)


def test_training_that_fails_says_why_and_leaves_nothing(home, tmp_path, monkeypatch) -> None:
    config = small_config(tmp_path / "data", 50)
    monkeypatch.setattr(trial, "RUNNER", ("false",))
    with pytest.raises(NightError, match="timing failed: its process exited with status 1"):
        time_configs(home, [("first", config)], echo=str)
    assert duration(read_measured(home), config) is None


def test_what_a_short_run_can_not_tell_is_said(home, tmp_path) -> None:
    config = with_settings(small_config(tmp_path / "data", 50), precision={"devices": 2})
    with pytest.raises(
        NightError, match=r"first can't be timed beforehand: precision\.devices = 2"
    ):
        time_configs(home, [("first", config)], echo=str)
