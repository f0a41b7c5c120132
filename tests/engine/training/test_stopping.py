"""Rules that end a run early: where they do, that it is exact through any interruption, and what is left."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config.counters import Counters, UpdateSize
from engine.events import CheckpointSaved, Evaluated, Noticed, RunStarted
from engine.training.reference_rule import MIN_EVALUATIONS, ReferenceCurve, shortfall
from engine.training.stopping import StopRules
from engine.training.trainer import Trainer
from tests.bench.stop_rules import false_stops, simulate

SIZE = UpdateSize(2, 4, audio_seconds=1.0, epochs=1 / 3)
LONG = {"length": "40 updates"}


def first_stop(rules: StopRules, values: list[float], *, every: int = 5) -> tuple[int, str] | None:
    """Return the update and the rule at which evaluations `every` updates end a run."""
    for number, value in enumerate(values, 1):
        counters = SIZE.after(number * every)
        rules.add(counters, {"si_sdr": value, "other": 1.0})
        if stop := rules.stop(counters.updates):
            return counters.updates, stop.rule
    return None


@pytest.fixture
def rules_of(make_config):
    """Return a function that makes the rules of a run of 1000 updates without an average."""

    def make(curve: ReferenceCurve | None = None, **rules: Any) -> StopRules:
        config = make_config(
            schedule={"length": "1000 updates"}, ema={"enabled": False}, stop_when=rules
        )
        return StopRules(config, SIZE, reference=curve)

    return make


@pytest.mark.parametrize(
    "patience", ["15 updates", "30 micro_batches", "60 items", "15 audio_seconds", "5 epochs"]
)
def test_patience_counts_on_any_clock(rules_of, patience):
    values = [1.0, 2.0, 3.0, 2.9, 3.0, 2.8, 9.0]
    assert first_stop(rules_of(patience=patience), values) == (30, "patience")


def test_an_improvement_has_to_exceed_min_delta(rules_of):
    creeping = [1.0 + 0.02 * n for n in range(40)]
    assert first_stop(rules_of(patience="20 updates"), creeping) is None
    # 0.05 dB are gained in three evaluations, 15 updates.
    assert first_stop(rules_of(patience="20 updates", min_delta="0.05 dB"), creeping) is None
    assert first_stop(rules_of(patience="10 updates", min_delta=0.05), creeping) == (15, "patience")


def test_values_that_are_not_finite_are_no_improvement_and_no_target(rules_of):
    nan = math.nan
    assert first_stop(rules_of(patience="15 updates"), [nan, 1.0, nan, nan, nan]) == (
        25,
        "patience",
    )
    assert first_stop(rules_of(patience="15 updates"), [nan] * 9) == (20, "patience")
    assert first_stop(rules_of(target=1), [nan, math.inf, -math.inf, 1.0]) == (20, "target")


def test_nothing_stops_before_after(rules_of):
    flat = [1.0] * 30
    assert first_stop(rules_of(patience="10 updates", after="240 items"), flat) == (60, "patience")
    assert first_stop(rules_of(target=0, after="12 updates"), flat) == (15, "target")


def test_a_metric_that_falls_is_better_lower(make_config):
    config = make_config(stop_when={"metric": "val_loss", "target": 0.5, "patience": "10 updates"})
    rules = StopRules(config, SIZE)
    for update, value in ((5, 2.0), (10, 1.0), (15, 0.6)):
        rules.add(SIZE.after(update), {"val_loss": value})
        assert rules.stop(update) is None
    rules.add(SIZE.after(20), {"val_loss": 0.5})
    assert rules.stop(20).text == "val_loss reached 0.50 (target 0.50)"


def test_the_state_is_the_evaluations_and_another_metric_begins_anew(rules_of):
    rules, again = (rules_of(patience="15 updates") for _ in range(2))
    for update, value in ((5, 1.0), (10, math.nan), (15, 0.1 + 0.2), (20, 0.3)):
        rules.add(SIZE.after(update), {"si_sdr": value})
    assert again.load_state_dict(rules.state_dict()) == ""
    assert again.state_dict() == rules.state_dict()
    assert again.stop(20) == rules.stop(20) is not None
    assert again.stop(21) is None
    other = rules_of(metric="sdr", patience="15 updates")
    note = other.load_state_dict(rules.state_dict())
    assert note == "stop_when reads sdr instead of si_sdr, from here on"
    assert other.state_dict() == {"metric": "sdr", "evaluations": []}


class Scripted:
    """A recipe whose evaluations follow a script by the number of updates made."""

    def __init__(self, recipe: Any, script: dict[int, float]) -> None:
        self._recipe, self._script, self.made = recipe, script, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recipe, name)

    def after_step(self, model: Any, made: Any) -> None:
        self.made = made.update

    def evaluate(self, model: Any, device: Any) -> Any:
        evaluation = self._recipe.evaluate(model, device)
        evaluation.metrics["si_sdr"] = self._script.get(self.made, 0.0)
        return evaluation

    def evaluate_whole(self, model: Any, device: Any) -> Any:
        return self.evaluate(model, device)


SCRIPT = {1: 0.0, 5: 1.0, 10: 3.0, 15: 2.0, 20: 2.5, 25: 2.9, 30: 9.0}
RULES = {"metric": "si_sdr", "patience": "60 items"}


def fit(config: Any, recipe: Any, folder: Path, *, recorder: Any, control: Any) -> Any:
    scripted = Scripted(recipe, SCRIPT)
    return Trainer(config, scripted, folder=folder, observers=[recorder], control=control).fit()


def states(folder: Path, checkpoint_tensors: Any) -> tuple[dict[str, Any], str]:
    last = folder / "checkpoints" / "last-000025"
    return checkpoint_tensors(last), (last / "state.json").read_text()


def assert_same(one: Any, other: Any) -> None:
    assert one[1] == other[1]
    assert one[0].keys() == other[0].keys()
    assert all(one[0][name].equal(other[0][name]) for name in one[0])


def test_a_run_that_stops_early_has_finished_with_evaluation_and_checkpoint(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    config = make_config(schedule=LONG, stop_when=RULES, validation={"full_files": True})
    ended = fit(config, line_recipe(), tmp_path, recorder=recorder, control=stop_after())
    assert (ended.outcome, ended.early, ended.counters.updates) == ("finished", True, 25)
    assert ended.reason == (
        "stopped early: SI-SDR has not improved for 60 items (best 3.00 dB at update 10)"
    )
    (notice,) = [event for event in recorder.of(Noticed) if event.kind == "stopped-early"]
    assert (notice.details["rule"], notice.details["value"]) == ("patience", 3.0)
    assert notice.message.startswith("stopped early at update 25 of 40: SI-SDR has not improved")
    last = recorder.of(Evaluated)[-1]
    assert (last.counters.updates, last.metrics["si_sdr_full"]) == (25, 2.9)
    saved = [event for event in recorder.of(CheckpointSaved) if event.kind == "last"]
    assert saved[-1].counters.updates == 25
    assert (tmp_path / "checkpoints" / "last-000025").is_dir()
    assert (tmp_path / "checkpoints" / "best-si_sdr").is_dir()


@pytest.mark.parametrize("left", [0, 1, 2])
@pytest.mark.parametrize("stop_at", [1, 4, 5, 10, 14, 23, 24, 25])
def test_interrupted_anywhere_it_stops_at_the_same_update_bit_for_bit(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors, stop_at, left
):
    """A kill leaves the checkpoints of before: `left` of the newest ones are lost."""
    config = make_config(schedule=LONG, stop_when=RULES, checkpoint={"keep_last": 9})
    for folder in ("whole", "parts"):
        control = stop_after(stop_at if folder == "parts" else math.inf)
        fit(config, line_recipe(), tmp_path / folder, recorder=new_recorder(), control=control)
    saved = sorted((tmp_path / "parts" / "checkpoints").glob("last-*"))
    for lost in saved[len(saved) - left :]:
        shutil.rmtree(lost)
    ended = fit(
        config, line_recipe(), tmp_path / "parts", recorder=new_recorder(), control=stop_after()
    )
    assert (ended.outcome, ended.early, ended.counters.updates) == ("finished", True, 25)
    assert_same(*(states(tmp_path / name, checkpoint_tensors) for name in ("whole", "parts")))


def test_with_changed_rules_it_goes_on_as_if_it_had_never_stopped(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors
):
    plain = make_config(schedule=LONG)
    config = make_config(schedule=LONG, stop_when=RULES)
    fit(plain, line_recipe(), tmp_path / "whole", recorder=new_recorder(), control=stop_after())
    fit(config, line_recipe(), tmp_path / "parts", recorder=new_recorder(), control=stop_after())

    longer = make_config(
        schedule=LONG, stop_when={**RULES, "patience": "15 updates", "min_delta": 1}
    )
    again = new_recorder()
    ended = fit(longer, line_recipe(), tmp_path / "parts", recorder=again, control=stop_after())
    assert (ended.early, again.of(RunStarted)[0].resumed_from) == (True, 25)

    resumed = new_recorder()
    rules = {**RULES, "patience": None}
    ended = fit(
        make_config(schedule=LONG, stop_when=rules), line_recipe(), tmp_path / "parts",
        recorder=resumed, control=stop_after(),
    )  # fmt: skip
    assert (ended.early, ended.counters.updates) == (False, 40)
    assert [event.message for event in resumed.of(Noticed)] == [
        "continues with stop_when.patience = none instead of 60 items"
    ]
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000040")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)


def test_a_rule_that_is_met_at_the_last_update_changes_nothing(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    config = make_config(schedule={"length": "25 updates"}, stop_when=RULES)
    ended = fit(config, line_recipe(), tmp_path, recorder=recorder, control=stop_after())
    assert (ended.early, ended.reason) == (False, "all updates completed")


def rising(items: np.ndarray, top: float) -> list[float]:
    return (top * (1 - np.exp(-4 * items / items[-1]))).tolist()


def test_a_hopeless_run_is_ended_and_an_equal_one_is_not(rules_of):
    items = np.arange(20, 4001, 20.0)
    reference = ReferenceCurve("night-1", tuple(items), tuple(rising(items, 10.0)))
    assert first_stop(rules_of(reference, reference="night-1"), rising(items, 10.0)) is None
    assert first_stop(rules_of(reference, reference="night-1"), rising(items, 11.0)) is None
    update, rule = first_stop(rules_of(reference, reference="night-1"), rising(items, 7.0)) or (
        0,
        "",
    )
    assert (rule, 400 <= update < 700) == ("reference", True)
    allowed = rules_of(reference, reference="night-1", tolerance="3.5 dB")
    assert first_stop(allowed, rising(items, 7.0)) is None
    late = rules_of(reference, reference="night-1", after="950 updates")
    assert first_stop(late, rising(items, 7.0)) == (950, "reference")


def test_few_evaluations_and_a_short_way_allow_no_verdict():
    points = [(float(n), float(n)) for n in range(1, 101)]
    low = [(at, value - 50) for at, value in points]
    assert shortfall(low[:39], points, end=100.0) is None
    assert shortfall(low[:60:10], points, end=100.0) is None
    assert shortfall(low[:60], points[: MIN_EVALUATIONS - 1], end=100.0) is None
    assert shortfall([(at, math.nan) for at, _ in low], points, end=100.0) is None


def test_runs_as_good_as_their_reference_are_hardly_ever_ended():
    """A small part of tests/bench/stop_rules.py, whose whole figures are in the docs."""
    outcomes = simulate(60, seed=11)
    hits, able = false_stops(outcomes["same"] + outcomes["slower"])
    assert able > 40
    assert hits / able < 0.05
    lost = [one for one in outcomes["worse"] if one.below > 1]
    assert np.mean([one.stopped_at < 1 for one in lost]) > 0.8


def test_counters_round_trip(rules_of):
    rules, again = rules_of(), rules_of()
    counters = Counters(7, 14, items=28, audio_seconds=0.7, epochs=2.333333333)
    rules.add(counters, {"si_sdr": 0.1})
    again.load_state_dict(rules.state_dict())
    assert again._evaluations[0].counters == counters
