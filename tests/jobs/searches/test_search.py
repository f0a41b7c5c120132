"""A search from its start to its confirming runs, with a worker that simulates training."""

from __future__ import annotations

import math
import sqlite3
from random import Random
from statistics import fmean

import pytest

from engine.config.errors import ConfigError, Problem
from jobs import submit
from jobs.searches import control
from jobs.searches.definition import find
from jobs.searches.overview import overview
from jobs.searches.tending import Step
from jobs.searches.trials import open_trials
from jobs.store.errors import StateError, StoreError
from tests.jobs.searches.fakes.training import BEST_LR, true_value

LR = {"optimizer": {"lr": {"low": 1e-5, "high": 1.0, "log": True}}}


def rising(config, progress: float) -> float:
    """Six decibels below its end at the start, for every rate."""
    return true_value(config.optimizer.lr) - 6.0 * (1.0 - progress)


def states(simulation, name: str = "lr") -> dict[str, str]:
    definition = find(simulation.home, name)
    opened = open_trials(simulation.home, definition)
    try:
        trials = opened.list()
    finally:
        opened.close()
    assert len({trial.variant for trial in trials}) == len(trials)
    return {trial.variant: trial.state for trial in trials}


def test_a_search_finds_a_known_optimum_and_confirms_it_with_fresh_seeds(simulate):
    simulation = simulate(rising)
    # Evaluated at its end only: nothing is pruned here.
    once = {"set": {"validation": {"every": "100 updates"}}}
    simulation.start(trials=30, pruner="none", space=LR, file=once)
    simulation.train_all()

    trials = simulation.runs()
    assert len(trials) == 30
    rates = {name: simulation.config(run).optimizer.lr for name, run in trials.items()}
    assert rates["t000"] == 1e-4
    best = max(rates, key=lambda name: true_value(rates[name]))
    assert abs(math.log10(rates[best] / BEST_LR)) < 0.2
    # After ten random ones the sampler gathers there. Of 20 random draws from five decades, 4 are that
    # near on average, and 8 or more in 3 % of cases.
    near = [abs(math.log10(lr / BEST_LR)) < 0.5 for lr in rates.values()]
    assert sum(near[10:]) >= 8

    confirming = [run for run in simulation.reader.runs() if run.experiment == "lr"]
    assert {(run.variant, run.seed) for run in confirming} >= {
        (variant, seed) for variant in ("baseline", best) for seed in (1, 2, 3)
    }
    assert len(confirming) == 12
    assert {run.state for run in confirming} == {"finished"}
    ordered = sorted(confirming, key=lambda run: run.id)
    assert ordered[0].variant == "baseline"
    assert [run.seed for run in ordered] == [1] * 4 + [2] * 4 + [3] * 4
    assert find(simulation.home, "lr").state == "finished"
    assert set(states(simulation).values()) == {"finished"}
    again = simulation.config(ordered[1])
    assert again.optimizer.lr == rates[best]


def test_the_same_search_proposes_the_same_settings_again(simulate, tmp_path):
    simulation = simulate(rising)
    once = {"set": {"validation": {"every": "100 updates"}}}
    for name in ("one", "two"):
        simulation.start(name, trials=14, pruner="none", space=LR, confirm=0, file=once)
        simulation.train_all()
    rates = [
        [simulation.config(run).optimizer.lr for run in simulation.runs(f"{name}:trials").values()]
        for name in ("one", "two")
    ]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == 14


def test_hopeless_runs_end_early_on_matched_clocks_whatever_their_batch_size(simulate):
    def curve(config, progress: float) -> float:
        # Ends differ by the size of the batch, and rise with the items seen.
        return (10.0 if config.batch.items == 4 else 2.0) + 5.0 * progress - config.optimizer.lr

    simulation = simulate(curve)
    simulation.start(
        file={"match": "items"}, trials=9, startup=3,
        space={**LR, "batch": {"items": {"choices": [4, 8]}}}, sampler="random", seed=3, confirm=0,
    )  # fmt: skip
    simulation.train_all()

    runs = simulation.runs()
    sizes = {name: simulation.config(run).batch.items for name, run in runs.items()}
    assert {8, 4} == set(sizes.values())
    pruned = {name: run for name, run in runs.items() if run.state == "stopped"}
    assert pruned
    # Never before the third trial has finished, nor before a fifth of the run, nor at its end.
    finished = [name for name, run in runs.items() if run.state == "finished"]
    assert min(pruned) > finished[2]
    assert {states(simulation)[name] for name in pruned} == {"pruned"}
    assert all(80 <= run.items < 400 for run in pruned.values())
    # Whatever the size of the batch, runs were compared, and ended, at equal items.
    assert {run.items % 40 for run in pruned.values()} == {0}
    for run in pruned.values():
        first, event = sorted(simulation.reader.events(run.id), key=lambda item: item.time)
        assert (first.kind, event.kind) == ("pruning", "pruned")
        assert first.message == f"to be {run.message}"
        assert event.message == run.message
        at = run.items
        own = curve(simulation.config(run), at / 400)
        done = [name for name in finished if name < run.variant]
        others = sorted(curve(simulation.config(runs[name]), at / 400) for name in done)
        middle = len(others) // 2
        median = others[middle] if len(others) % 2 else sum(others[middle - 1 : middle + 1]) / 2
        assert own < median
        assert event.message == (
            f"pruned at {at} items: SI-SDR {own:.2f} dB, median of {len(others)} trials {median:.2f} dB"
        )


def test_hyperband_ends_runs_early_and_says_so(simulate):
    simulation = simulate(rising)
    simulation.start(trials=14, pruner="hyperband", space=LR, sampler="random", confirm=0)
    simulation.train_all()
    pruned = [run for run in simulation.runs().values() if run.state == "stopped"]
    assert 3 <= len(pruned) <= 12
    assert all("hyperband keeps a third" in run.message for run in pruned)
    assert simulation.runs()["t000"].state == "finished"


def test_a_run_that_diverges_is_given_up_and_never_the_best(simulate):
    def curve(config, progress: float) -> float:
        return math.nan if config.optimizer.lr > 1e-2 else rising(config, progress)

    simulation = simulate(curve)
    simulation.start(trials=8, space=LR, sampler="random", confirm=0)
    simulation.train_all()
    runs = simulation.runs()
    bad = [run for run in runs.values() if simulation.config(run).optimizer.lr > 1e-2]
    assert bad
    assert {run.message for run in bad} == {"pruned at 40 items: SI-SDR is not finite"}
    view = overview(simulation.home, "lr", reader=simulation.reader)
    assert simulation.config(runs[view.best]).optimizer.lr <= 1e-2


def test_a_lower_metric_is_better_where_that_is_so(simulate):
    simulation = simulate(lambda config, progress: -rising(config, progress), metric="val_loss")
    simulation.start(trials=8, startup=2, metric="val_loss", space=LR, confirm=1)
    simulation.train_all()
    view = overview(simulation.home, "lr", reader=simulation.reader)
    rates = {name: simulation.config(run).optimizer.lr for name, run in simulation.runs().items()}
    assert view.best == max(rates, key=lambda name: true_value(rates[name]))
    assert any(run.state == "stopped" for run in simulation.runs().values())
    assert view.definition.metric == "val_loss"


def test_settings_of_a_kind_are_varied_with_this_kind_only(simulate):
    simulation = simulate(rising)
    simulation.start(
        trials=12, pruner="none", confirm=0, sampler="random",
        space={
            "model": {
                "kind": {"choices": ["audio_unet", "hybrid"]},
                "width": {"low": 4, "high": 8, "when": {"model.kind": "audio_unet"}},
            }
        },
    )  # fmt: skip
    simulation.train_all()
    view = overview(simulation.home, "lr", reader=simulation.reader)
    kinds = {row.settings["model.kind"]: "model.width" in row.settings for row in view.trials}
    assert kinds == {"audio_unet": True, "hybrid": False}
    configs = [simulation.config(run) for run in simulation.runs().values()]
    assert {config.model.kind for config in configs} == {"audio_unet", "hybrid"}


def test_settings_that_do_not_fit_together_and_repeated_ones_cost_no_run(simulate):
    simulation = simulate(rising)
    simulation.start(
        trials=10, pruner="none", confirm=0, sampler="random",
        space={"batch": {"items": {"choices": [1, 2]}}, "precision": {"devices": {"low": 1, "high": 2}}},
    )  # fmt: skip
    simulation.train_all()
    configs = [simulation.config(run) for run in simulation.runs().values()]
    seen = [(config.batch.items, config.precision.devices) for config in configs]
    # The base; and of four pairs, one leaves a process without an item.
    assert sorted(seen) == [(1, 1), (2, 1), (2, 2), (4, 1)]
    assert find(simulation.home, "lr").state in ("confirming", "finished")


def test_a_search_goes_on_with_more_trials_and_refuses_other_settings(simulate):
    simulation = simulate(rising)
    simulation.start(trials=4, pruner="none", space=LR, confirm=0)
    simulation.train_all()
    assert "already" in simulation.start(trials=4, pruner="none", space=LR, confirm=0)
    assert "6 trials" in simulation.start(trials=6, pruner="median", space=LR, confirm=0)
    simulation.train_all()
    assert len(simulation.runs()) == 6
    other = {"optimizer": {"lr": {"low": 1e-5, "high": 0.5, "log": True}}}
    with pytest.raises(ConfigError) as caught:
        simulation.start(
            trials=6, space=other, file={"set": {"batch": {"items": 2, "micro_batch": 2}}}
        )
    assert "was '1e-05 to 1, log' when the search started, now '1e-05 to 0.5, log'" in str(
        caught.value
    )
    assert "batch.items: was 4" in str(caught.value)
    assert "--remove" in str(caught.value)


def test_a_search_that_goes_on_while_it_runs_has_its_new_settings_at_once(simulate):
    """One worker tends it all the time: what it had opened kept the old pruner and the old sampler."""
    simulation = simulate(rising)
    simulation.start(trials=6, pruner="none", space=LR, sampler="random", confirm=0)
    simulation.train_all(limit=5)
    assert "pruned" not in states(simulation).values()
    said = simulation.start(
        trials=20, pruner="median", startup=2, space=LR, sampler="random", confirm=0
    )
    assert said == "search lr continues: 20 trials in all"
    simulation.train_all()
    assert "pruned" in states(simulation).values()


def test_a_search_whose_base_needs_a_run_that_is_not_there_is_refused_at_once(simulate):
    simulation = simulate(rising)
    needs = {"set": {"stop_when": {"reference": "night-1"}}}
    with pytest.raises(ConfigError) as caught:
        simulation.start(trials=6, space=LR, file=needs)
    assert "stop_when.reference: no run 'night-1'" in str(caught.value)
    assert find(simulation.home, "lr") is None


def test_a_stopped_search_stops_its_run_and_continues_where_it_was(simulate):
    simulation = simulate(rising)
    simulation.start(trials=4, pruner="none", space=LR, confirm=0)
    simulation.train_next()
    running = simulation.train_next(until=0.5)
    assert control.stop(simulation.home, "lr") == 1
    assert simulation.train(running.id).state == "stopped"
    assert simulation.train_next() is None
    with pytest.raises(StateError, match="it is stopped"):
        control.stop(simulation.home, "lr")

    assert "1 run resumed" in simulation.start(trials=4, pruner="none", space=LR, confirm=0)
    simulation.train_all()
    assert simulation.runs()[running.variant].state == "finished"
    assert list(states(simulation).values()) == ["finished"] * 4


def test_runs_that_a_person_stops_resumes_or_removes_are_taken_as_they_end(simulate):
    simulation = simulate(rising)
    simulation.start(trials=6, pruner="none", space=LR, confirm=0)
    simulation.train_next()
    stopped = simulation.train_next(until=0.5)
    submit.stop(simulation.home, stopped.id)
    simulation.train(stopped.id)
    removed = simulation.train_next(until=0.5)
    submit.stop(simulation.home, removed.id)
    assert simulation.train(removed.id).state == "stopped"
    submit.remove(simulation.home, removed.id)
    simulation.searches.tend(propose=False)
    assert states(simulation) == {"t000": "finished", "t001": "failed", "t002": "failed"}

    submit.resume(simulation.home, stopped.id)
    simulation.train_all()
    assert simulation.runs()["t001"].state == "finished"
    view = overview(simulation.home, "lr", reader=simulation.reader)
    rows = {row.variant: row for row in view.trials}
    assert rows["t001"].value == pytest.approx(rising(simulation.config(stopped), 1.0))
    assert (rows["t002"].state, rows["t002"].run) == ("removed", None)
    assert view.num_finished == 5


def test_a_pruned_run_that_is_resumed_runs_to_its_end_and_counts(simulate):
    simulation = simulate(rising)
    simulation.start(trials=10, startup=2, space=LR, sampler="random", confirm=0)
    simulation.train_all()
    pruned = next(run for run in simulation.runs().values() if run.state == "stopped")
    submit.resume(simulation.home, pruned.id)
    simulation.start(trials=11, startup=2, space=LR, sampler="random", confirm=0)
    simulation.train_all()
    assert simulation.reader.run(pruned.id).state == "finished"
    view = overview(simulation.home, "lr", reader=simulation.reader)
    row = next(row for row in view.trials if row.variant == pruned.variant)
    assert row.value == pytest.approx(rising(simulation.config(pruned), 1.0))
    assert len(view.trials) == 11


def test_a_run_that_finishes_before_it_can_be_pruned_says_so_and_counts(simulate):
    simulation = simulate(rising)
    simulation.too_fast = True
    simulation.start(trials=10, startup=2, space=LR, sampler="random", confirm=0)
    simulation.train_all()
    kinds = {
        name: [event.kind for event in simulation.reader.events(run.id)]
        for name, run in simulation.runs().items()
    }
    assert any("pruning" in found for found in kinds.values())
    assert all(found.count("pruning") == found.count("not-pruned") <= 1 for found in kinds.values())
    assert not any("pruned" in found for found in kinds.values())
    assert set(states(simulation).values()) == {"finished"}


def stopped_run(simulation):
    """Train trials until one was stopped, which the search has not taken in yet."""
    run = simulation.train_next()
    while run.state != "stopped":
        run = simulation.train_next()
    return run


def kinds_of(simulation, run):
    return sorted(event.kind for event in simulation.reader.events(run.id))


def test_a_run_is_called_pruned_once_and_only_when_it_has_stopped(simulate):
    simulation = simulate(rising)
    simulation.start(trials=10, startup=2, space=LR, sampler="random", confirm=0)
    run = stopped_run(simulation)
    assert kinds_of(simulation, run) == ["pruning"]
    (said,) = [line for line in simulation.said if line.startswith(f"run {run.name} ")]
    assert f"(id {run.id}) is to be pruned at " in said
    for _ in range(2):
        simulation.searches.tend(propose=False)
        assert kinds_of(simulation, run) == ["pruned", "pruning"]
    assert states(simulation)[run.variant] == "pruned"


@pytest.mark.parametrize(
    ("too_fast", "expected"), [(False, ["pruned"]), (True, ["not-pruned", "pruned"])]
)
def test_a_pruning_that_an_earlier_version_noted_at_its_request_is_read_as_it_was_meant(
    simulate, too_fast: bool, expected: list[str]
):
    simulation = simulate(rising)
    simulation.too_fast = too_fast
    simulation.start(trials=10, startup=2, space=LR, sampler="random", confirm=0)
    run = simulation.train_next()
    while "pruning" not in kinds_of(simulation, run):
        run = simulation.train_next()
    with simulation.store.transaction() as connection:
        connection.execute("UPDATE events SET kind = 'pruned' WHERE kind = 'pruning'")
    for _ in range(2):
        simulation.searches.tend(propose=False)
        assert kinds_of(simulation, run) == expected


def test_a_queued_run_is_pruned_at_once_and_one_event_says_so(simulate):
    simulation = simulate(rising)
    simulation.start(trials=4, startup=2, space=LR, confirm=0)
    simulation.searches.tend(propose=True)
    (run,) = simulation.runs().values()
    submit.stop(simulation.home, run.id, pruned="pruned at 3 items: no use")
    (event,) = simulation.reader.events(run.id)
    assert (event.kind, event.message) == ("pruned", "pruned at 3 items: no use")
    assert simulation.reader.run(run.id).message == event.message


def test_a_search_of_which_all_trials_fail_stops_and_says_what_to_do(simulate, monkeypatch):
    simulation = simulate(lambda config, progress: math.nan)
    simulation.start(trials=9, pruner="none", space=LR)
    assert simulation.train_all() == 3
    definition = find(simulation.home, "lr")
    assert definition.state == "failed"
    assert "the first 3 trials failed" in definition.message
    assert "sepdash sweep lr" in definition.message


def test_a_base_that_can_not_be_trained_ends_the_search_with_the_reason(simulate, monkeypatch):
    """Once, the search said that no new settings were left."""

    def refused(*args: object, **others: object) -> None:
        raise ConfigError([Problem("validation.metrics", "unknown setting")])

    simulation = simulate(rising)
    simulation.start(trials=4, space=LR)
    monkeypatch.setattr("jobs.searches.tending.config_of", refused)
    simulation.train_all()
    search = find(simulation.home, "lr")
    assert search.state == "failed"
    assert search.message == "the base can't be trained: validation.metrics: unknown setting"
    assert not simulation.runs()


def test_a_damaged_storage_ends_the_search_with_one_message_and_not_the_worker(simulate):
    simulation = simulate(rising)
    simulation.start(trials=3, pruner="none", space=LR)
    path = simulation.home.searches / "optuna.db"
    path.write_text("no database" * 1000)
    assert simulation.train_next() is None
    definition = find(simulation.home, "lr")
    assert (definition.state, definition.message) == (
        "failed", f"{path}: can't be used: file is not a database",
    )  # fmt: skip
    assert simulation.said == [f"search lr stopped: {definition.message}"]
    path.unlink()
    simulation.start(trials=3, pruner="none", space=LR, confirm=0)
    assert simulation.train_all() == 3


def test_a_bug_ends_a_search_and_not_the_night(simulate, monkeypatch, caplog):
    simulation = simulate(rising)
    simulation.start(trials=3, pruner="none", space=LR)
    monkeypatch.setattr(Step, "do", lambda self, *, propose: 1 // 0)
    assert simulation.train_next() is None
    assert (
        find(simulation.home, "lr").message
        == "ZeroDivisionError: integer division or modulo by zero"
    )
    assert "Traceback" in caplog.text


@pytest.mark.slow
def test_the_number_of_a_search_is_biased_and_the_confirmed_one_is_not(simulate):
    """The whole simulation is tests/bench/winners_curse.py."""

    def curve(config, progress: float) -> float:
        # No setting matters; each run has the noise of its settings and its seed.
        return 10.0 + Random(f"{config.optimizer.lr!r} {config.seed}").gauss(0.0, 1.0)

    simulation = simulate(curve)
    once = {"set": {"validation": {"every": "100 updates"}}}
    searched, confirmed = [], []
    for number in range(8):
        simulation.start(
            f"s{number}", file=once, trials=10, pruner="none", confirm=1, confirm_seeds=3,
            space=LR, seed=1000 * number, sampler="random",
        )  # fmt: skip
        simulation.train_all()
        view = overview(simulation.home, f"s{number}", reader=simulation.reader)
        base, best = view.confirmed
        assert len(base.values) == len(best.values) == 3
        searched.append(best.searched - 10.0)
        confirmed.append(best.mean - 10.0)
    # The largest of nine normal numbers is 1.49 deviations above their mean, with a deviation of 0.60:
    # the mean of eight of them has a standard error of 0.21. That of three runs each: 0.20.
    assert abs(fmean(searched) - 1.49) < 3 * 0.21
    assert abs(fmean(confirmed)) < 3 * 0.20


def test_a_removed_search_leaves_nothing_and_can_start_afresh(simulate):
    simulation = simulate(rising)
    simulation.start(trials=2, pruner="none", space=LR, confirm=1, confirm_seeds=1)
    simulation.train_all()
    assert control.remove(simulation.home, "lr", keep_runs=True) == 0
    with pytest.raises(StoreError, match="4 runs of an earlier experiment"):
        simulation.start(trials=2, space=LR)
    for run in control.runs_of(simulation.home, "lr"):
        submit.remove(simulation.home, run.id)
    simulation.start(trials=3, pruner="none", space=LR, confirm=0)
    simulation.train_all()
    assert control.remove(simulation.home, "lr") == 3
    assert simulation.reader.runs() == []
    with pytest.raises(StoreError, match="no search 'lr'"):
        control.find(simulation.home, "lr")


def test_files_of_a_search_are_private_and_in_the_home(simulate):
    simulation = simulate(rising)
    names = {"name": "x-{variant}-{seed}"}
    simulation.start("a b?%/c", file=names, trials=2, pruner="none", space=LR)
    simulation.train_all()
    files = list(simulation.home.searches.iterdir())
    assert {path.name for path in files} >= {"a%20b%3F%25%2Fc.json", "optuna.db"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    with sqlite3.connect(simulation.home.searches / "optuna.db") as connection:
        assert connection.execute("SELECT study_name FROM studies").fetchall() == [("a b?%/c",)]
