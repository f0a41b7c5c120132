"""Runs that end early under the worker: refusals when queued, kills, what the store keeps, going on."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import pytest

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from jobs import submit
from jobs.child.needs import NeedError
from jobs.child.reference import reference_needed
from jobs.home import Home
from jobs.needs import check_needs
from jobs.store.errors import StateError
from jobs.store.reader import StoreReader
from jobs.store.records import EventRecord
from jobs.store.writer import StoreWriter
from tests.jobs.small_training import curves_of, run_of, small_config, worker
from tests.waiting import until

UPDATES = 24
DEADLINE_S = 250.0
PATIENCE = {"patience": "20 items", "min_delta": "90 dB"}


def events_of(home: Home, run_id: int) -> list[EventRecord]:
    with StoreReader(home.store) as reader:
        return reader.events(run_id)


def finished_run(
    home: Home, config: RunConfig, *, name: str, top_db: float, points: int = 20
) -> int:
    """Put a finished run of `points` evaluations, one every two updates, into the store."""
    run_id = submit.enqueue(home, config, name=name)
    steps = [2 * (n + 1) for n in range(points)]
    with StoreWriter(home.store) as store:
        series = {"si_sdr_ema": [top_db * (1 - 0.7 ** (n + 1)) for n in range(points)]}
        store.add_points(run_id, steps=steps, series=series, units={"si_sdr_ema": "dB"})
        store.update_run(run_id, updates=steps[-1], items=2 * steps[-1])
        store.move(run_id, "running", ("queued",))
        store.move(run_id, "finished", ("running",))
    return run_id


@pytest.fixture
def rules(make_config):
    """Return a function that makes the config of a run with rules."""
    return lambda **values: make_config(stop_when=values)


def test_a_reference_that_can_not_be_had_is_refused_when_queued(home, make_config, rules):
    finished_run(home, make_config(), name="night-1", top_db=12.0)
    finished_run(home, make_config(), name="short", top_db=12.0, points=5)
    finished_run(home, make_config(loss={"kind": "l1"}), name="other-loss", top_db=12.0)
    for values, message in (
        (
            {"reference": "night-2"},
            "stop_when.reference: no run 'night-2', did you mean 'night-1'?",
        ),
        ({"reference": "./folder"}, "expected a run's name or id, found './folder'"),
        ({"reference": "night-1@last"}, "expected a run's name or id, found 'night-1@last'"),
        ({"reference": "short"}, "run short has 5 evaluations of si_sdr_ema; expected at least 8"),
        (
            {"reference": "night-1", "metric": "sdr"},
            "night-1 has 0 evaluations of sdr; expected at",
        ),
        (
            {"reference": "other-loss", "metric": "val_loss"},
            "has another loss.kind, so its val_loss means",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            submit.enqueue(home, rules(**values))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(ConfigError) as planned:
            check_needs(home, {"planned": rules(**values)})
        assert str(planned.value) == str(caught.value)
    check_needs(home, {"planned": rules(reference="night-1")})
    with StoreReader(home.store) as reader:
        assert [run.state for run in reader.runs()] == ["finished"] * 3


def test_the_curve_of_a_reference_is_copied_once_and_kept(home, make_config, rules):
    base = finished_run(home, make_config(), name="night-1", top_db=12.0)
    config = rules(reference="night-1")
    run_id = submit.enqueue(home, config, name="night-2")
    assert run_of(home, run_id).waiting == ""
    home.run_folder(run_id).mkdir(parents=True)
    curve = reference_needed(home, run_id, config=config)
    assert (curve.name, len(curve.items)) == ("night-1", 20)
    assert curve.items[:2] == (4.0, 8.0)
    assert curve.values[0] == pytest.approx(3.6)
    assert "compares si_sdr_ema with 20 evaluations" in events_of(home, run_id)[-1].message

    submit.remove(home, base, force=True)
    assert reference_needed(home, run_id, config=config) == curve
    path = home.run_folder(run_id) / "reference.json"
    assert path.stat().st_mode & 0o077 == 0
    path.write_text(path.read_text().replace("3.6", "9.6"))
    with pytest.raises(NeedError, match=r"has changed; restore it, or resume with --set stop_when"):
        reference_needed(home, run_id, config=config)
    path.unlink()
    with pytest.raises(NeedError, match="is missing"):
        reference_needed(home, run_id, config=config)


def test_a_run_waits_for_a_reference_that_has_not_finished(home, make_config, rules):
    submit.enqueue(home, make_config(), name="night-1")
    run_id = submit.enqueue(home, rules(reference="night-1"))
    assert run_of(home, run_id).waiting == "waiting for night-1 (queued)"


def test_only_rules_change_on_resume(home, make_config, rules):
    finished_run(home, make_config(), name="night-1", top_db=12.0)
    run_id = submit.enqueue(home, make_config())
    submit.stop(home, run_id)
    with pytest.raises(
        StateError, match=r"optimizer\.lr: only settings of stop_when can be changed"
    ):
        submit.resume(home, run_id, assignments=["optimizer.lr=1e-3", "stop_when.target=3"])
    with pytest.raises(ConfigError, match="'5 %': is in %"):
        submit.resume(home, run_id, assignments=["stop_when.target=5 %"])
    with pytest.raises(ConfigError, match="no run 'gone'"):
        submit.resume(home, run_id, assignments=["stop_when.reference=gone"])
    assert run_of(home, run_id).state == "stopped"
    submit.resume(
        home, run_id, assignments=["stop_when.reference=night-1", "stop_when.target=9 dB"]
    )
    assert run_of(home, run_id).state == "queued"
    with StoreReader(home.store) as reader:
        config = load_config(reader.config(run_id))
        (need,) = reader.needs(run_id)
    assert (config.stop_when.target.stored, need.needed_name) == (9.0, "night-1")
    assert events_of(home, run_id)[-1].message == (
        "continues with stop_when.target = 9 dB, stop_when.reference = night-1"
    )
    submit.stop(home, run_id)
    submit.resume(home, run_id, assignments=["stop_when.reference=none"])
    with StoreReader(home.store) as reader:
        assert reader.needs(run_id) == []


def test_a_run_that_completed_its_length_is_not_resumed_whatever_its_rules(home, make_config):
    run_id = finished_run(home, make_config(), name="night-1", top_db=12.0)
    with StoreWriter(home.store) as store:
        store.update_run(run_id, total_updates=40)
    with pytest.raises(StateError, match="it is finished"):
        submit.resume(home, run_id, assignments=["stop_when.target=3"])


@pytest.mark.long
@pytest.mark.slow
def test_killed_it_stops_where_it_would_have_and_goes_on_with_other_rules(home, tmp_path_factory):
    values = small_config(tmp_path_factory.mktemp("audio"), UPDATES).to_dict()
    values["validation"] |= {"every": "2 updates"}
    values["checkpoint"] |= {"every": "3 updates"}

    def add(name: str, **rules: Any) -> int:
        return submit.enqueue(home, load_config({**values, "stop_when": rules}), name=name)

    finished_run(home, load_config(values), name="far", top_db=60.0)
    killed = add("killed", **PATIENCE, after="16 updates")
    whole, hopeless = add("whole"), add("hopeless", reference="far")
    with worker(home) as process:
        until(lambda: run_of(home, killed).updates > 8, "the run to be killed trains")
        with contextlib.suppress(ProcessLookupError):
            os.kill(run_of(home, killed).pid or 0, signal.SIGKILL)
        assert process.wait(DEADLINE_S) == 0

    run, other = run_of(home, killed), run_of(home, hopeless)
    assert (run.state, run.updates, other.state, other.updates) == ("finished", 16, "finished", 14)
    assert run.message.startswith(
        "stopped early: SI-SDR (averaged weights) has not improved by more than 90.00 dB for 20 items"
    )
    assert "can't reach far (" in other.message
    assert "resumed after update" in (home.run_folder(killed) / "log.txt").read_text()
    (event,) = [event for event in events_of(home, killed) if event.kind == "stopped-early"]
    assert event.message.startswith(f"stopped early at update 16 of {UPDATES}: ")
    expected, found = curves_of(home, whole), curves_of(home, killed)
    for name, (steps, points) in expected.items():
        count = sum(step <= 16 for step in steps)
        assert found[name] == (steps[:count], points[:count])

    with pytest.raises(StateError, match=r"ended it early, and would again; change the rule"):
        submit.resume(home, killed)
    submit.resume(home, killed, assignments=["stop_when.patience=none"])
    with worker(home) as process:
        assert process.wait(DEADLINE_S) == 0
    run = run_of(home, killed)
    assert (run.state, run.updates, run.message) == ("finished", UPDATES, "")
    assert curves_of(home, killed) == expected
