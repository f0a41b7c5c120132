"""A run that was stopped, or killed, and resumed ends bit-identical to one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.checkpoints.files import CheckpointError
from engine.checkpoints.find import ResumeError, require_same_run
from engine.checkpoints.layout import MANIFEST
from engine.events import CheckpointSaved, Noticed, RunStarted
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer

# What every loss had, whatever its kind.
FLAT = {"windows": [256, 64], "reduction": "mean"}
EXACT = ("loss", "grad_norm", "lr", "skipped")


def _fit(config: Any, recipe: Any, folder: Path, observer: Any, control: Any) -> Any:
    return Trainer(config, recipe, folder=folder, observers=[observer], control=control).fit()


def _assert_same_state(one: Path, other: Path, checkpoint_tensors: Any, name: str) -> None:
    a, b = (checkpoint_tensors(folder / "checkpoints" / name) for folder in (one, other))
    assert a
    assert a.keys() == b.keys()
    differing = [key for key in a if not torch.equal(a[key], b[key])]
    assert differing == []
    assert (one / "checkpoints" / name / "state.json").read_text() == (
        other / "checkpoints" / name / "state.json"
    ).read_text()


def _in_old_words(folder: Path) -> None:
    """Make of a checkpoint one that counts items as samples, no epochs, and has one flat loss."""
    path = folder / MANIFEST
    values = json.loads(path.read_text())
    del values["signature"]
    values["counters"]["samples"] = values["counters"].pop("items")
    del values["counters"]["epochs"]
    restart = values["config"]["ema"]["restart_at"]
    values["config"]["ema"]["restart_at"] = restart.replace("items", "samples")
    values["config"]["loss"] = {**values["config"]["loss"], **FLAT}
    text = json.dumps(values, sort_keys=True, indent=1)
    path.write_text(json.dumps({**values, "signature": sha256(text.encode()).hexdigest()}))


def test_a_checkpoint_in_old_words_goes_on_bit_identical(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors
):
    config = make_config(
        ema={"restart_at": "30 items"}, logging={"every": "7 items"}, loss={"kind": "l1"}
    )
    whole, first, second = new_recorder(), new_recorder(), new_recorder()
    end = _fit(config, line_recipe(), tmp_path / "whole", whole, stop_after())
    _fit(config, line_recipe(), tmp_path / "parts", first, stop_after(5))
    _in_old_words(tmp_path / "parts" / "checkpoints" / "last-000005")

    old = make_config(
        ema={"restart_at": "30 samples"},
        logging={"every": "7 samples"},
        loss={"kind": "l1", **FLAT},
    )
    ended = _fit(old, line_recipe(), tmp_path / "parts", second, stop_after())

    assert second.of(RunStarted)[0].resumed_from == 5
    assert second.of(RunStarted)[0].counters.epochs == 1.666666667
    assert ended.counters == end.counters
    _assert_same_state(tmp_path / "whole", tmp_path / "parts", checkpoint_tensors, "last-000012")
    for name in EXACT:
        assert first.curve(name) | second.curve(name) == whole.curve(name)


@pytest.mark.parametrize("stop_at", [1, 4, 7, 11])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_stopped_and_resumed_is_bit_identical(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors, stop_at, dtype
):
    config = make_config(
        precision={"dtype": dtype}, logging={"every": "3 updates"}, batch={"items": 5},
        schedule={"kind": "cosine", "warmup": "4 updates"}, ema={"restart_at": "30 items"},
    )  # fmt: skip
    whole, first, second = new_recorder(), new_recorder(), new_recorder()
    _fit(config, line_recipe(), tmp_path / "whole", whole, stop_after())
    ended = _fit(config, line_recipe(), tmp_path / "parts", first, stop_after(stop_at))
    assert (ended.outcome, ended.counters.updates) == ("stopped", stop_at)
    ended = _fit(config, line_recipe(), tmp_path / "parts", second, stop_after())
    assert (ended.outcome, ended.counters.updates) == ("finished", 12)
    assert second.of(RunStarted)[0].resumed_from == stop_at
    _assert_same_state(tmp_path / "whole", tmp_path / "parts", checkpoint_tensors, "last-000012")
    for name in EXACT:
        assert first.curve(name) | second.curve(name) == whole.curve(name)


def test_interrupted_at_every_update(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors
):
    config = make_config(schedule={"length": "6 updates"})
    _fit(config, line_recipe(), tmp_path / "whole", new_recorder(), stop_after())
    for _ in range(6):
        _fit(config, line_recipe(), tmp_path / "parts", new_recorder(), stop_after(1))
    _assert_same_state(tmp_path / "whole", tmp_path / "parts", checkpoint_tensors, "last-000006")


@pytest.mark.parametrize("workers", [0, 2])
def test_real_recipe_resumes_bit_identical(
    tmp_path, make_config, new_recorder, stop_after, checkpoint_tensors, workers
):
    config = make_config(batch={"workers": workers}, schedule={"length": "7 updates"})
    whole, first, second = new_recorder(), new_recorder(), new_recorder()
    _fit(config, SeparationRecipe(config), tmp_path / "whole", whole, stop_after())
    _fit(config, SeparationRecipe(config), tmp_path / "parts", first, stop_after(3))
    _fit(config, SeparationRecipe(config), tmp_path / "parts", second, stop_after())
    _assert_same_state(tmp_path / "whole", tmp_path / "parts", checkpoint_tensors, "last-000007")
    assert first.curve("loss") | second.curve("loss") == whole.curve("loss")


CHILD = """
import json, sys
from hashlib import sha256
from pathlib import Path
from engine.config.loading import load_config
from engine.events import CheckpointSaved
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer

class Tell:
    def on_event(self, event):
        if isinstance(event, CheckpointSaved):
            print(event.kind, event.counters.updates, flush=True)

class Never:
    def stop_reason(self):
        return None

if __name__ == "__main__":
    config = load_config(json.loads(sys.argv[1]))
    Trainer(config, SeparationRecipe(config), folder=Path(sys.argv[2]), observers=[Tell()],
            control=Never()).fit()
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_is_bit_identical(
    tmp_path, repository, make_config, new_recorder, stop_after, checkpoint_tensors, workers
):
    values = make_config(
        batch={"workers": workers}, schedule={"length": "40 updates"},
        checkpoint={"every": "3 updates"}, validation={"every": "20 updates"},
        logging={"flush_s": 0.05},
    )  # fmt: skip
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    child = subprocess.Popen(
        [sys.executable, str(script), json.dumps(values.to_dict()), str(tmp_path / "killed")],
        cwd=repository, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert child.stdout is not None
    deadline = monotonic() + 60
    for line in child.stdout:
        assert monotonic() < deadline
        if line.startswith("last") and int(line.split()[1]) >= 6:
            child.send_signal(signal.SIGKILL)
            break
    assert child.wait(10) == -signal.SIGKILL
    child.stdout.close()
    resumed = new_recorder()
    _fit(values, SeparationRecipe(values), tmp_path / "killed", resumed, stop_after())
    assert 6 <= resumed.of(RunStarted)[0].resumed_from < 40
    _fit(values, SeparationRecipe(values), tmp_path / "whole", new_recorder(), stop_after())
    _assert_same_state(tmp_path / "whole", tmp_path / "killed", checkpoint_tensors, "last-000040")
    assert not list((tmp_path / "killed" / "checkpoints").glob("*.tmp"))


def test_broken_checkpoint_is_passed_over_and_said(
    tmp_path, make_config, line_recipe, new_recorder, stop_after
):
    config = make_config()
    _fit(config, line_recipe(), tmp_path, new_recorder(), stop_after(6))
    newest = tmp_path / "checkpoints" / "last-000006" / "training.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    again = new_recorder()
    _fit(config, line_recipe(), tmp_path, again, stop_after())
    assert again.of(RunStarted)[0].resumed_from == 4
    (notice,) = again.of(Noticed)
    assert (notice.level, notice.kind) == ("warning", "checkpoint-broken")
    assert "last-000006/training.safetensors is damaged" in notice.message
    assert (tmp_path / "checkpoints" / "last-000006.broken").is_dir()
    assert [event.counters.updates for event in again.of(CheckpointSaved)][-1] == 12


def test_other_config_is_refused_by_name(
    tmp_path, make_config, line_recipe, new_recorder, stop_after
):
    _fit(make_config(), line_recipe(), tmp_path, new_recorder(), stop_after(3))
    other = make_config(optimizer={"lr": 2e-2}, seed=5)
    with pytest.raises(ResumeError) as caught:
        _fit(other, line_recipe(), tmp_path, new_recorder(), stop_after())
    assert "optimizer.lr (saved 0.01, now 0.02); seed (saved 0, now 5)" in str(caught.value)


def test_a_setting_younger_than_the_checkpoint_has_its_default(make_config):
    config = make_config()
    saved = config.to_dict()
    del saved["schedule"]["final_ratio"], saved["logging"]["flush_s"]
    manifest = SimpleNamespace(folder=Path("last"), values={"config": saved, "plan": "p"})
    require_same_run(manifest, config=config, plan_hash="p")
    other = make_config(logging={"flush_s": 3.0})
    with pytest.raises(ResumeError, match=r"logging\.flush_s \(saved [0-9.]+, now 3\.0\)"):
        require_same_run(manifest, config=other, plan_hash="p")
    saved["schedule"]["gone"] = 1
    with pytest.raises(ResumeError, match=r"schedule\.gone \(saved 1"):
        require_same_run(manifest, config=config, plan_hash="p")


def test_another_version_of_the_package_of_a_part_is_noted(make_config, monkeypatch):
    config = make_config()
    values = {
        "config": config.to_dict(), "plan": "p", "packages": {"model.kind": "own-model 1.0"},
    }  # fmt: skip
    manifest = SimpleNamespace(folder=Path("last"), values=values)
    told = {}
    for version in ("1.0", "1.1"):
        now = {"model.kind": f"own-model {version}"}
        monkeypatch.setattr("engine.checkpoints.find.packages_of", lambda values, now=now: now)
        told[version] = require_same_run(manifest, config=config, plan_hash="p")
    assert told["1.0"] == []
    (note,) = told["1.1"]
    assert note.startswith(
        "model.kind is of own-model 1.1, but the checkpoint was saved with own-model 1.0"
    )


def test_other_files_are_refused(tmp_path, make_config, line_recipe, new_recorder, stop_after):
    _fit(make_config(), line_recipe(), tmp_path, new_recorder(), stop_after(3))
    with pytest.raises(ResumeError, match="the training files have changed"):
        _fit(make_config(), line_recipe(num_items=13), tmp_path, new_recorder(), stop_after())


def test_checkpoint_of_another_model_is_refused(
    tmp_path, make_config, line_recipe, new_recorder, stop_after
):
    _fit(make_config(), line_recipe(), tmp_path, new_recorder(), stop_after(3))
    other = line_recipe()
    other.build_model = lambda: torch.nn.Linear(4, 4)
    with pytest.raises(CheckpointError, match="does not match this run"):
        _fit(make_config(), other, tmp_path, new_recorder(), stop_after())


def test_without_resume_a_run_starts_afresh(
    tmp_path, make_config, line_recipe, new_recorder, stop_after
):
    _fit(make_config(), line_recipe(), tmp_path, new_recorder(), stop_after(3))
    again = new_recorder()
    Trainer(
        make_config(), line_recipe(), folder=tmp_path, observers=[again], control=stop_after(1),
        resume=False,
    ).fit()  # fmt: skip
    assert again.of(RunStarted)[0].resumed_from == 0
