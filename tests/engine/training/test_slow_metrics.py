"""Metrics measured beside training: equal to those measured in line, once each, whatever ends the run."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoints.files import read_manifest
from engine.config.errors import ConfigError
from engine.events import CheckpointSaved, Evaluated, Noticed, RunEnded
from engine.measuring.values import summary_of, values_of
from engine.recipes.base import GivesEstimates
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training import slow_metrics
from engine.training.trainer import Trainer
from tests.waiting import until

MEASURES = ["stoi", "bss_sdr"]
NAMES = [f"{name}_full{end}" for end in ("", "_ema") for name in MEASURES]
# In place of the program: as fast, and with a result that depends on the update only.
QUICK = """
import json, pathlib, sys, time
folder, share = pathlib.Path(sys.argv[1]), sys.argv[2]
job = json.loads((folder / "job.json").read_text())
update = job["counters"]["updates"]
{before}
values = {{w: {{i: {{"stoi": [update / 100], "bss_sdr": [-update]}} for i in items}} for w, items in job["orders"].items()}}
part = folder / f"part-{{share}}"
part.write_text(json.dumps({{"found": values, "bad": {{w: [] for w in job["orders"]}}}}))
part.replace(folder / f"result-{{share}}.json")
"""


@pytest.fixture
def slow_config(make_config):
    """Return a function that builds a run which measures `stoi` and `bss_sdr` on whole files."""

    def build(*, every: str | None = "4 updates", **sections):
        validation = {
            "every": "2 updates", "at_start": False, "full_files": True, "metrics": MEASURES,
            "metrics_every": every, **sections.pop("validation", {}),
        }  # fmt: skip
        sections = {"schedule": {"length": "8 updates"}, "ema": {"decay": 0.5}, **sections}
        return make_config(validation=validation, **sections)

    return build


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Return a function that puts a program in the place of the one that measures."""

    def put(before: str = ""):
        program = tmp_path / "quick.py"
        program.write_text(QUICK.format(before=before))
        monkeypatch.setattr(slow_metrics, "_COMMAND", (slow_metrics.sys.executable, str(program)))

    return put


class Waits:
    """A control that holds the loop at an update until the jobs so far are measured."""

    def __init__(self, folder: Path, at=(), stop_at=math.inf):
        self.folder, self.at, self.stop_at, self.asked = folder, at, stop_at, 0

    def stop_reason(self):
        if self.asked in self.at:
            until(lambda: all(any(job.glob("result-*.json")) for job in self.jobs()), "results")
        self.asked += 1
        return "asked to stop" if self.asked > self.stop_at else None

    def jobs(self):
        return sorted((self.folder / "measuring").glob("update-*"))


def train(config, folder, recorder, control, *, resume=True):
    recipe = SeparationRecipe(config)
    return Trainer(
        config, recipe, folder=folder, observers=[recorder], control=control, resume=resume
    ).fit()


def late(recorder):
    return [event for event in recorder.of(Evaluated) if event.late]


@pytest.mark.slow
def test_values_equal_those_measured_in_line(slow_config, recorder, stop_after, tmp_path):
    """The same estimates, measured in this process: to the last digit, of weights and their average."""
    config = slow_config(every=None, validation={"segment_s": 0.6, "metrics_workers": 2})
    kept = {}

    class InLine(SeparationRecipe):
        def evaluate_and_keep(self, model, device, *, taker):
            outer = self

            class Both:
                def open(self, item, shape):
                    inner, blocks = taker.open(item, shape), []
                    weights = "raw" if taker._weights == "raw" else "average"
                    kept[weights, item] = blocks

                    class Item:
                        def add(self, est, ref):
                            blocks.append((est.copy(), ref.copy()))
                            inner.add(est, ref)

                        def close(self, order=()):
                            inner.close(order)

                    return Item()

            return SeparationRecipe.evaluate_and_keep(outer, model, device, taker=Both())

    recipe = InLine(config)
    assert isinstance(recipe, GivesEstimates)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    (found,) = late(recorder)
    assert found.counters.updates == 8
    assert list(found.metrics) == NAMES
    for end, weights in (("", "raw"), ("_ema", "average")):
        for name in MEASURES:
            rows = []
            for item in range(found.num_items):
                est, ref = (
                    np.concatenate(x, axis=-1) for x in zip(*kept[weights, item], strict=True)
                )
                rows.append(values_of(name, est, ref_SCT=ref, rate_hz=8_000)[name])
            value, item_N = summary_of(name, np.stack(rows))
            assert found.metrics[f"{name}_full{end}"] == value, (name, end)
            assert found.items[f"{name}_full{end}"].tolist() == item_N.tolist()
    # What they were measured on is gone, and so is everything else.
    assert not (tmp_path / "measuring").exists()
    # Its place in the run: after the evaluation of the last update, before the end.
    kinds = [type(event) for event in recorder.events]
    assert kinds.index(RunEnded) == len(kinds) - 1
    (whole,) = [event for event in recorder.of(Evaluated) if "si_sdr_full" in event.metrics]
    assert (found.items_key, found.num_items) == (whole.items_key, whole.num_items)


def test_best_checkpoint_holds_the_weights_that_were_measured(
    slow_config, recorder, tmp_path, quick
):
    """The quick program prefers later updates by STOI, earlier ones by SDR; results come updates later."""
    quick()
    config = slow_config(
        checkpoint={"every": "100 updates", "best": ["stoi_full", "bss_sdr_full_ema"]}
    )
    weights = {}

    class Watches(Waits):
        def stop_reason(self):
            if trainer._state is not None:
                state = trainer._state
                weights[self.asked] = {n: t.clone() for n, t in state.model.state_dict().items()}
                average = {n: t.clone() for n, t in state.ema.state_dict().items()}
                weights[self.asked, "average"] = average
            return super().stop_reason()

    control = Watches(tmp_path, at=(6,))
    trainer = Trainer(
        config, SeparationRecipe(config), folder=tmp_path, observers=[recorder], control=control
    )
    trainer.fit()
    assert [event.counters.updates for event in late(recorder)] == [4, 8]
    assert [event.metrics["stoi_full"] for event in late(recorder)] == [0.04, 0.08]
    by_stoi, by_sdr = (
        read_manifest(tmp_path / "checkpoints" / f"best-{name}")
        for name in ("stoi_full", "bss_sdr_full_ema")
    )
    assert (by_stoi.updates, by_sdr.updates) == (8, 4)
    assert by_sdr.values["metrics"]["bss_sdr_full_ema"] == -4
    assert "si_sdr_full" in by_sdr.values["metrics"]
    model = by_sdr.tensors("model.safetensors")
    for name, tensor in weights[4, "average"].items():
        assert torch.equal(model[name], tensor), name
    last = trainer._state.ema.state_dict()
    assert any(not torch.equal(model[name], tensor) for name, tensor in last.items())
    saved = [(event.kind, event.counters.updates) for event in recorder.of(CheckpointSaved)]
    assert saved.count(("best-stoi_full", 8)) == saved.count(("best-bss_sdr_full_ema", 4)) == 1


def test_training_goes_on_and_what_comes_too_soon_is_left_out_and_said(
    slow_config, recorder, tmp_path, quick
):
    """The program ends only once the last update is made: the loop did not wait for it."""
    gate = tmp_path / "gate"
    quick(f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)")
    config = slow_config(every="2 updates")

    class Opens(Waits):
        def stop_reason(self):
            if self.asked == 8:
                gate.touch()
            return super().stop_reason()

    ended = train(config, tmp_path, recorder, Opens(tmp_path))
    assert ended.outcome == "finished"
    assert [event.counters.updates for event in late(recorder)] == [2, 8]
    skipped = [event.message for event in recorder.of(Noticed) if event.kind == "metrics-skipped"]
    assert len(skipped) == 2
    assert skipped[0].startswith(
        "stoi, bss_sdr not measured at update 4: those of update 2 are still being measured; raise"
    )


@pytest.mark.parametrize("how", ["stopped", "killed", "killed after its result was reported"])
def test_run_that_ends_early_reports_each_measurement_once(
    slow_config, new_recorder, tmp_path, quick, how
):
    config = slow_config(checkpoint={"every": "4 updates", "best": ["stoi_full"]})
    folder, first = tmp_path / "run", new_recorder()
    never = "while True: time.sleep(1)"
    quick("" if "reported" in how else never)
    control = Waits(folder, at=(5,) if "reported" in how else (), stop_at=6)
    assert train(config, folder, first, control).outcome == "stopped"
    if how != "stopped":
        # As if killed after update 4 was saved: later checkpoints and their effects are lost.
        for path in (folder / "checkpoints").glob("last-*"):
            if path.name > "last-000004":
                shutil.rmtree(path)
    if "reported" in how:
        # The job is there until a checkpoint that a resume starts from knows of it.
        assert [event.counters.updates for event in late(first)] == [4]
    quick()
    second = new_recorder()
    assert train(config, folder, second, Waits(folder, at=(5, 6))).outcome == "finished"
    measured = {event.counters.updates: event.metrics for event in late(first)}
    again = {event.counters.updates: event.metrics for event in late(second)}
    assert list(again) in ([4, 8], [8])
    assert list({**measured, **again}) == [4, 8]
    assert read_manifest(folder / "checkpoints" / "best-stoi_full").updates == 8
    assert not (folder / "measuring").exists()


def test_measurement_of_an_update_that_is_made_again_is_thrown_away(
    slow_config, new_recorder, tmp_path, quick
):
    """Killed at update 6 with a job of update 4, and the newest checkpoint is that of update 2."""
    quick("while True: time.sleep(1)")
    config = slow_config(checkpoint={"every": "2 updates", "keep_last": 9})
    control = Waits(tmp_path, stop_at=6)
    train(config, tmp_path, new_recorder(), control)
    (job,) = control.jobs()
    (job / "mark").touch()
    for name in ("last-000004", "last-000006"):
        shutil.rmtree(tmp_path / "checkpoints" / name)
    quick()
    second = new_recorder()
    seen = []

    class Looks(Waits):
        def stop_reason(self):
            seen.append(
                (self.asked, [(path.name, (path / "mark").exists()) for path in self.jobs()])
            )
            return super().stop_reason()

    train(config, tmp_path, second, Looks(tmp_path, at=(3, 4)))
    assert seen[0] == (0, [])
    assert ("update-000000004", False) in [job for _, jobs in seen for job in jobs]
    assert [event.counters.updates for event in late(second)] == [4, 8]


def test_process_that_fails_costs_its_values_and_nothing_else(
    slow_config, recorder, tmp_path, quick
):
    quick("raise RuntimeError('the package is broken')")
    config = slow_config(every=None)
    assert train(config, tmp_path, recorder, Waits(tmp_path)).outcome == "finished"
    assert late(recorder) == []
    retried, failed = [event for event in recorder.of(Noticed) if event.kind.startswith("metrics")]
    assert retried.message == (
        "stoi, bss_sdr of update 8: a process failed (RuntimeError: the package is broken); it is measured "
        "again, without other processes beside it"
    )
    assert failed.message == (
        "stoi, bss_sdr of update 8 can't be measured: a process failed twice (RuntimeError: the package is "
        "broken); training goes on without these values"
    )


@pytest.mark.parametrize("killed", [["0"], ["1"], ["0", "1"]])
def test_share_whose_process_is_killed_is_measured_again_alone(
    slow_config, recorder, tmp_path, quick, killed
):
    beside = tmp_path / "beside"
    quick(
        f"""
import os
mine = pathlib.Path({str(tmp_path)!r}) / f"tried-{{share}}"
if mine.exists() and list(mine.parent.glob("at-work-*")): pathlib.Path({str(beside)!r}).touch()
if share in {killed!r} and not mine.exists():
    mine.touch()
    os.kill(os.getpid(), 9)
work = mine.parent / f"at-work-{{share}}"
work.touch()
__import__("atexit").register(work.unlink)
""".replace("{", "{{")
        .replace("}", "}}")
        .format()
    )
    config = slow_config(every=None, validation={"metrics_workers": 2})
    assert train(config, tmp_path, recorder, Waits(tmp_path)).outcome == "finished"
    (event,) = late(recorder)
    assert event.metrics["stoi_full"] == 8 / 100
    (notice,) = [event for event in recorder.of(Noticed) if event.kind.startswith("metrics")]
    assert "a process failed (it was killed); it is measured again" in notice.message
    assert not beside.exists()


def test_full_disk_costs_the_values_and_not_the_evaluation(
    slow_config, recorder, tmp_path, quick, monkeypatch
):
    quick()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.measuring.jobs.os.posix_fallocate", full)
    config = slow_config(every=None)
    assert train(config, tmp_path, recorder, Waits(tmp_path)).outcome == "finished"
    (notice,) = [event for event in recorder.of(Noticed) if event.kind == "metrics-failed"]
    assert "the estimates can't be written ([Errno 28] No space left on device)" in notice.message
    assert math.isfinite(recorder.of(Evaluated)[-1].metrics["si_sdr_full_ema"])


def test_no_more_audio_is_kept_than_asked_for(slow_config, recorder, tmp_path, quick):
    quick(
        "pathlib.Path(job['counters'] and folder.parent.parent / 'orders').write_text(json.dumps(job['orders']))"
    )
    config = slow_config(every=None, validation={"metrics_max_s": 0.1})
    train(config, tmp_path, recorder, Waits(tmp_path))
    assert json.loads((tmp_path / "orders").read_text()) == {"raw": {"0": []}, "average": {"0": []}}
    (found,) = late(recorder)
    assert found.num_items == 1
    assert np.isnan(found.items["stoi_full"]).tolist() == [False] + [True] * (
        len(found.items["stoi_full"]) - 1
    )


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"validation": {"metrics": ["stio"]}}, "'stio' is not one of pesq, pesq_nb, stoi, estoi, dnsmos, bss_sdr, did you mean 'stoi'"),
        ({"validation": {"metrics": ["pesq"]}}, "needs audio of at least 16000 Hz, but data.rate_hz = 8000; use 'pesq_nb'"),
        ({"validation": {"full_files": False}}, "measured on whole files, but validation.full_files = false; set it to true"),
        ({"validation": {"metrics": []}}, "validation.metrics is empty; name the metrics"),
        ({"checkpoint": {"best": ["pesq_full"]}}, "checkpoint.best has 'pesq_full', which is not measured: add 'pesq' to"),
    ],
)  # fmt: skip
def test_what_can_not_be_measured_is_refused(slow_config, sections, told):
    with pytest.raises(ConfigError) as error:
        slow_config(**sections)
    assert told in str(error.value)


def test_missing_package_ends_a_run_before_its_first_update(
    slow_config, recorder, tmp_path, monkeypatch
):
    monkeypatch.setattr("engine.metrics.measures.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"pystoi not installed; run pip install 'sepdash\[speech-metrics\]'"
    ):
        train(slow_config(), tmp_path, recorder, Waits(tmp_path))
    assert recorder.of(Evaluated) == []


def test_run_stopped_while_the_last_values_are_measured_finishes_when_resumed(
    slow_config, new_recorder, tmp_path, quick
):
    """All updates are made; only the values of the last are still missing, and none is made again."""
    quick("while True: time.sleep(1)")
    config = slow_config(every=None)
    first, second = new_recorder(), new_recorder()
    ended = train(config, tmp_path, first, Waits(tmp_path, stop_at=10))
    assert (ended.outcome, ended.counters.updates) == ("stopped", 8)
    assert late(first) == []
    quick()
    assert train(config, tmp_path, second, Waits(tmp_path)).outcome == "finished"
    assert [event.counters.updates for event in late(second)] == [8]
    assert [event for event in second.of(Evaluated) if not event.late] == []


def test_run_that_a_rule_ends_early_is_measured_at_its_end(slow_config, recorder, tmp_path, quick):
    quick()
    config = slow_config(every=None, stop_when={"metric": "si_sdr", "target": -99.0})
    ended = train(config, tmp_path, recorder, Waits(tmp_path))
    assert (ended.outcome, ended.early, ended.counters.updates) == ("finished", True, 2)
    assert [event.counters.updates for event in late(recorder)] == [2]
    with pytest.raises(ConfigError, match=r"stop_when\.metric"):
        slow_config(stop_when={"metric": "stoi_full", "target": 0.5})
