"""References to runs in a plan that is only looked at: checked as when it is queued, nothing written."""

from __future__ import annotations

import pytest

from engine.config.errors import ConfigError
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.sweeps.plan import check_sweep, queue_sweep


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")


def test_the_references_of_a_plan_are_checked_without_a_store(plan, home) -> None:
    chain = {"a": {}, "b": {"init_from": "exp-a-s0"}, "c": {"init_from": "exp-b-s0@last"}}
    check_sweep(home, plan(variants=chain))
    chain["a"] = {"init_from": "exp-c-s0"}
    with pytest.raises(ConfigError, match="these runs would never start: exp-a-s0 needs exp-c-s0"):
        check_sweep(home, plan(variants=chain))
    with pytest.raises(ConfigError, match="init_from: no run 'exp-b-s1', did you mean 'exp-b-s0'"):
        check_sweep(home, plan(variants={"b": {"init_from": "exp-b-s1"}, "a": {}}))
    assert not home.root.exists()


def test_the_references_of_a_plan_are_checked_against_the_store(
    plan, home, tmp_path, write_tone, monkeypatch
) -> None:
    for folder in ("t", "v", "n"):
        write_tone(tmp_path / folder / "tone.wav")
    monkeypatch.chdir(tmp_path)
    home.create()
    queue_sweep(home, plan(variants={"first": {}}, name="{variant}"))
    again = plan(variants={"second": {"init_from": "first"}}, name="{variant}")
    queue_sweep(home, again)
    before = home.store.read_bytes()

    check_sweep(home, again)  # a plan that is queued already may still be looked at
    check_sweep(home, plan(variants={"third": {"init_from": "second@last"}}, name="{variant}"))
    wrong = {
        "x": {"init_from": "frist"},
        "y": {"init_from": "second@loudness"},
        "z": {"init_from": "9"},
    }
    with pytest.raises(ConfigError) as caught:
        check_sweep(home, plan(variants=wrong))
    with pytest.raises(ConfigError) as when_queued:
        queue_sweep(home, plan(variants=wrong))
    assert str(caught.value) == str(when_queued.value)
    assert len(caught.value.problems) == 3
    assert home.store.read_bytes() == before
    with StoreReader(home.store) as reader:
        assert len(reader.runs()) == 2
