"""Claims about choosing a checkpoint: what each is for, and a run that goes on from an older one, and back again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.checkpoints.choosing import checkpoints_of, choose_state, go_on_from
from engine.checkpoints.layout import choose_checkpoint
from engine.events import RunStarted
from engine.training.trainer import Trainer


@pytest.fixture
def fit(tmp_path, make_config, line_recipe, new_recorder, stop_after) -> Any:
    config = make_config(
        checkpoint={"every": "4 updates", "keep_last": 3}, validation={"every": "5 updates"}
    )

    def run(name: str, *, updates: float = float("inf")) -> Any:
        recorder = new_recorder()
        Trainer(
            config, line_recipe(), folder=tmp_path / name, observers=[recorder],
            control=stop_after(updates),
        ).fit()  # fmt: skip
        return recorder

    return run


def test_the_list_says_what_each_is_for(tmp_path, fit):
    fit("run")
    folder = tmp_path / "run"
    found = checkpoints_of(folder, metric="val_loss")
    assert [one.name for one in found if one.is_state] == [
        "last-000012",
        "last-000008",
        "last-000004",
    ]
    by_name = {one.name: one for one in found}
    assert by_name["last-000012"].use == "resume, apply, init_from RUN@last"
    assert by_name["last-000008"].use == "resume --from last-000008"
    best = [one for one in found if one.name.startswith("best-")]
    main = choose_checkpoint(folder)
    assert main is not None
    assert [one.name for one in best if "RUN alone" in one.use] == [main.name]
    for one in found:
        manifest = json.loads((one.path / "manifest.json").read_text())
        assert one.updates == manifest["counters"]["updates"]
        assert one.epochs == manifest["counters"]["epochs"] > 0
        assert one.size_bytes == sum(
            path.stat().st_size for path in one.path.iterdir() if path.name != "manifest.json"
        )
        assert one.saved_at > 1e9
        if one.name.startswith("best-"):
            assert one.value == manifest["metrics"][one.metric]


def test_a_run_goes_on_from_an_older_state_and_back_again_bit_identical(
    tmp_path, fit, checkpoint_tensors
):
    fit("whole")
    fit("parts", updates=10)
    folder = tmp_path / "parts"
    chosen = choose_state(folder, "4")
    assert go_on_from(folder, chosen) == ["last-000010.newer", "last-000008.newer"]
    again = fit("parts")
    assert again.of(RunStarted)[0].resumed_from == 4
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000012")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    # Nothing was lost: the newer state of before is there, and can be gone back to.
    aside = {one.name: one for one in checkpoints_of(folder) if one.is_aside}
    assert sorted(aside) == ["last-000008.newer", "last-000010.newer"]
    assert aside["last-000010.newer"].use == "set aside; resume --from last-000010.newer"
    go_on_from(folder, choose_state(folder, "last-000010.newer"))
    assert fit("parts").of(RunStarted)[0].resumed_from == 10


def test_what_is_no_resume_state_is_refused_with_those_there_are(tmp_path, fit):
    fit("run", updates=9)
    folder = tmp_path / "run"
    for name in ("best-val_loss", "7", "last-000007", "../../etc"):
        with pytest.raises(ValueError, match=r"there are: last-000009, last-000008, last-000004"):
            choose_state(folder, name)


def test_damaged_checkpoints_are_listed_as_such(tmp_path, fit):
    fit("run")
    below = tmp_path / "run" / "checkpoints"
    (below / "last-000008").rename(below / "last-000008.broken")
    (below / "last-000004" / "manifest.json").write_text("{")
    problems = {one.name: one.problem for one in checkpoints_of(tmp_path / "run") if one.problem}
    assert problems == {"last-000008.broken": "damaged", "last-000004": "unreadable manifest"}
    assert choose_state(tmp_path / "run", "12").name == "last-000012"
    assert checkpoints_of(Path("/nowhere")) == []
