"""A recipe watches its curves: what it finds is reported once, ends the run, and survives a resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import engine.training.curves
from engine.config.counters import UpdateSize
from engine.events import Noticed, RunEnded
from engine.recipes.base import CurvePoints, Finding
from engine.training.curves import SilentTelemetry, Telemetry
from engine.training.trainer import Trainer
from engine.training.updates import UpdateResult
from engine.training.watching import CurveWatch, TrainingCollapsed

LOW = "loss-low"


class Watching:
    """Reports a loss below `level` for `updates` updates; ends the run at a loss above `limit`."""

    def __init__(self, *, level=0.5, updates=4, limit=np.inf, after=0):
        self.level, self.watch_updates, self.limit, self.after = level, updates, limit, after
        self.seen: list[CurvePoints] = []

    def watch(self, points):
        self.seen.append(points)
        findings = []
        if points.lasts(
            "loss", lambda loss: loss < self.level, updates=self.watch_updates, after=self.after
        ):
            findings.append(Finding(LOW, f"loss below {self.level}"))
        if (points.series["loss"] > self.limit).any():
            findings.append(Finding("loss-high", "the loss has exploded; lower it", ends=True))
        return findings


@pytest.mark.parametrize(
    ("values", "updates", "after", "expected"),
    [
        ([0, 0, 0], 2, 0, True),
        ([0, 0, 0], 3, 0, False),
        ([0, 0, 1, 0, 0], 2, 0, False),
        ([1, 0, 0, 0, 1], 2, 0, True),
        ([0, np.nan, 0], 2, 0, True),
        ([np.nan, np.nan, np.nan], 1, 0, False),
        ([0, 0, 0, 0], 2, 2, False),
        ([0, 0, 0, 0, 0], 2, 2, True),
        ([1, 1, 1], 1, 0, False),
        ([], 1, 0, False),
    ],
)
def test_how_long_a_condition_lasts(values, updates, after, expected):
    """By updates, not by points; a point without a finite update breaks nothing."""
    for every in (1, 5):
        points = CurvePoints(
            every * np.arange(1, len(values) + 1), {"x": np.array(values, dtype=np.float64)}
        )
        found = points.lasts("x", lambda x: x < 0.5, updates=updates * every, after=after * every)
        assert found is expected


def telemetry_of(watching, events, config, kind=Telemetry):
    size = UpdateSize(1, 4, audio_seconds=4.0)
    watch = CurveWatch(watching, emit=events.append)
    return kind(config.logging, size, loss_unit="", emit=events.append, watch=watch), watch


def feed(telemetry, losses):
    for loss in losses:
        result = UpdateResult(
            torch.tensor(loss), torch.tensor(1.0), grad_norm=torch.tensor(1.0), num_pieces=1
        )
        telemetry.add(result, 0.1, UpdateSize(1, 4, audio_seconds=4.0))
        if telemetry.is_full():
            telemetry.flush()
    telemetry.flush()


LOSSES = [1, 0.2, 0.2, 1, 0.1, 0.1, float("nan"), 0.1, 0.1, 1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 512])
@pytest.mark.parametrize("every", ["1 updates", "2 updates"])
def test_a_condition_is_reported_once_whatever_the_blocks(make_config, monkeypatch, block, every):
    monkeypatch.setattr(engine.training.curves, "MAX_BLOCK", block)
    events, watching = [], Watching()
    config = make_config(logging={"every": every, "flush_s": 60.0})
    telemetry, _ = telemetry_of(watching, events, config)
    feed(telemetry, LOSSES)
    found = [e for e in events if isinstance(e, Noticed) and e.kind == LOW]
    assert [(e.level, e.message) for e in found] == [("warning", "loss below 0.5")]
    # Not before it is so: the point of update 9 is the first that the last four updates lead to.
    assert found[0].counters.updates >= 9
    assert all("updates_per_s" not in points.series for points in watching.seen)


@pytest.mark.parametrize("cut", range(1, len(LOSSES)))
def test_a_resumed_watch_finds_what_an_uninterrupted_one_does(make_config, cut):
    config = make_config()
    whole_events, whole = [], None
    telemetry, whole = telemetry_of(Watching(), whole_events, config)
    feed(telemetry, LOSSES)
    events = []
    first, before = telemetry_of(Watching(), events, config)
    feed(first, LOSSES[:cut])
    second, watch = telemetry_of(Watching(), events, config)
    second.load_state_dict(first.state_dict())
    second.start_at(first._counters)
    watch.load_state_dict(before.tensors(), before.values())
    feed(second, LOSSES[cut:])
    kinds = [e.kind for e in events if isinstance(e, Noticed)]
    assert kinds.count(LOW) == 1
    assert watch.values() == whole.values()
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor.nan_to_num(-1), watch.tensors()[name].nan_to_num(-1))


def test_points_that_no_check_needs_are_dropped(make_config, monkeypatch):
    monkeypatch.setattr(engine.training.curves, "MAX_BLOCK", 10)
    watching = Watching(updates=25)
    telemetry, watch = telemetry_of(watching, [], make_config(logging={"flush_s": 60.0}))
    feed(telemetry, [1.0] * 200)
    assert max(len(points.updates) for points in watching.seen) == 25 + 1 + 10
    assert watch.tensors()["updates"].tolist() == list(range(175, 201))


def test_only_the_first_process_watches(make_config):
    watching = Watching()
    telemetry, _ = telemetry_of(watching, [], make_config(), SilentTelemetry)
    feed(telemetry, LOSSES)
    assert watching.seen == []


@pytest.fixture
def watching_line(line_recipe):
    class WatchingLine(line_recipe, Watching):
        def __init__(self, **watching):
            line_recipe.__init__(self)
            Watching.__init__(self, **watching)

    return WatchingLine


def fit(config, recipe, folder, observer, control):
    return Trainer(config, recipe, folder=folder, observers=[observer], control=control).fit()


def test_a_collapse_ends_the_run_and_keeps_the_checkpoints_from_before(
    tmp_path, make_config, line_recipe, recorder, stop_after, monkeypatch
):
    class Collapsing(line_recipe):
        watch_updates = 1

        def watch(self, points):
            ends = points.updates[-1] >= 8
            return [Finding("collapse", "the features have no variance", ends=True)] if ends else []

    monkeypatch.setattr(engine.training.curves, "MAX_BLOCK", 1)
    config = make_config(checkpoint={"every": "2 updates", "best": []})
    with pytest.raises(TrainingCollapsed, match="the features have no variance") as error:
        fit(config, Collapsing(), tmp_path, recorder, stop_after())
    # A mistake, not a bug: the run fails with this text, without a traceback.
    assert isinstance(error.value, ValueError)
    assert not recorder.of(RunEnded)
    assert list(recorder.curve("loss")) == list(range(1, 9))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["last-000004", "last-000006"]


@pytest.mark.parametrize("stop_at", [3, 6, 9])
def test_a_run_that_was_stopped_reports_what_a_whole_one_does(
    tmp_path, make_config, watching_line, new_recorder, stop_after, checkpoint_tensors, stop_at
):
    config = make_config()
    whole, parts = new_recorder(), new_recorder()
    fit(config, watching_line(level=100.0, updates=7), tmp_path / "whole", whole, stop_after())
    for control in (stop_after(stop_at), stop_after()):
        recipe = watching_line(level=100.0, updates=7)
        fit(config, recipe, tmp_path / "parts", parts, control)
    for observer in (whole, parts):
        assert [e.kind for e in observer.of(Noticed)].count(LOW) == 1
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000012")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert any("watch.values" in name for name in one)
    assert all(torch.equal(one[name], other[name]) for name in one)
