"""Stages before training and state beyond the model, with a recipe that has all of it.

The same recipe goes through queue, worker and kill -9 in `tests/jobs/test_masked_toy.py`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from masked_toy.recipe import BASE, CLUSTER_STEPS, CODE_STEPS, Clusters, MaskedToy
from torch import Tensor

from engine.checkpoints.files import CheckpointError
from engine.checkpoints.find import ResumeError
from engine.checkpoints.recipe_files import RecipeState
from engine.events import Noticed, RunEnded, RunStarted, StageProgressed
from engine.recipes.base import Opening, Stage
from engine.recipes.own_state import load_own_state
from engine.training.trainer import Trainer

LAST = "last-000012"
STEPS = CLUSTER_STEPS + CODE_STEPS
# How often stages ask whether to stop: before each step, and when there is none left.
ASKS = STEPS + 2


@pytest.fixture
def config(make_config) -> Any:
    return make_config(
        batch={"items": 5, "micro_batch": 2}, schedule={"length": "12 updates"},
        validation={"every": "5 updates"}, logging={"every": "3 updates"},
        checkpoint={"every": "4 updates", "best": ["val_loss", "val_loss_ema"]},
    )  # fmt: skip


@pytest.fixture
def fit(
    config, tmp_path, stop_after, new_recorder
) -> Callable[..., tuple[RunEnded, Any, MaskedToy]]:
    def run(
        name: str, *, updates: float = float("inf"), config: Any = config, prepare: Any = None,
        **more: Any,
    ) -> tuple[RunEnded, Any, MaskedToy]:  # fmt: skip
        recipe, recorder = MaskedToy(config, Opening(tmp_path / name)), new_recorder()
        if prepare is not None:
            prepare(recipe)
        ended = Trainer(
            config,
            recipe,
            folder=tmp_path / name,
            observers=[recorder],
            control=stop_after(updates),
            **more,
        ).fit()
        return ended, recorder, recipe

    return run


@pytest.fixture
def assert_same(tmp_path, checkpoint_tensors) -> Callable[[str, str], None]:
    """Return a function that compares the end of two runs, bit for bit, stages included."""

    def compare(one: str, other: str) -> None:
        for place in (f"checkpoints/{LAST}", "stages/clusters", "stages/codes"):
            a, b = (checkpoint_tensors(tmp_path / name / place) for name in (one, other))
            assert a.keys() == b.keys()
            assert [key for key in a if not torch.equal(a[key], b[key])] == []
        for file in ("state.json", "recipe.json"):
            a, b = (tmp_path / name / "checkpoints" / LAST / file for name in (one, other))
            assert a.read_text() == b.read_text()

    return compare


def progress(recorder: Any, *, saved: bool = False) -> list[tuple[str, int, int]]:
    return [(e.name, e.done, e.total) for e in recorder.of(StageProgressed) if e.saved == saved]


def test_stages_come_first_in_order_and_say_how_far_they_are(fit):
    ended, recorder, recipe = fit("run")
    assert ended.outcome == "finished"
    stages = recorder.of(StageProgressed)
    assert recorder.events[: len(stages)] == stages
    assert progress(recorder, saved=True)[-1] == ("codes", CODE_STEPS, CODE_STEPS)
    first = [event for event in stages if not event.saved]
    assert (first[0].text, first[0].number, first[0].count) == ("stage clusters 0 %", 1, 2)
    assert first[-1].text == "stage codes 100 %"
    middle = StageProgressed("clusters", 2, total=5)
    assert middle.text == "stage clusters 40 %"
    assert len(recipe.codes) == 40
    assert recipe.state_dict().values["codes"] == recipe.codes
    # Of two tones that are equally frequent in an item the first counts.
    assert len(set(recipe.codes)) >= 3


@pytest.mark.parametrize(("every", "save_every_s"), [(1, 0.0), (7, 1e9), (STEPS, 0.0)])
def test_stopped_at_any_step_and_resumed_is_bit_identical(
    fit, assert_same, every, save_every_s, monkeypatch
):
    monkeypatch.setattr(Clusters, "save_every_s", save_every_s)
    whole, parts = fit("whole"), []
    for _ in range(200):
        parts.append(fit("parts", updates=every))
        if parts[-1][0].outcome == "finished":
            break
    assert parts[0][0].counters.updates == 0
    assert (parts[0][0].outcome, parts[0][0].reason) == ("stopped", "asked to stop")
    assert len(parts) >= (STEPS + 12) / every
    assert_same("whole", "parts")
    for name in ("loss", "toy_accuracy", "toy_kept_accuracy"):
        found: dict[int, float] = {}
        for _, recorder, _ in parts:
            found |= recorder.curve(name)
        assert found == whole[1].curve(name)
        assert list(found) == [3, 6, 9, 12]


def count_steps(made: list[str]) -> Callable[[MaskedToy], None]:
    def prepare(recipe: MaskedToy) -> None:
        def noting(place: str) -> None:
            made.append(place)

        recipe.accidents.at = noting

    return prepare


def test_what_is_complete_is_not_made_again(fit, assert_same, tmp_path):
    fit("whole")
    fit("parts", updates=ASKS + 5)
    made: list[str] = []
    fit("parts", prepare=count_steps(made), updates=2)
    assert not [place for place in made if place.startswith(("clusters", "codes"))]

    # The checkpoint alone knows enough, and so do the stages alone.
    made.clear()
    shutil.move(tmp_path / "parts" / "stages", tmp_path / "aside")
    fit("parts", prepare=count_steps(made), updates=1)
    assert not [place for place in made if place.startswith(("clusters", "codes"))]
    shutil.move(tmp_path / "aside", tmp_path / "parts" / "stages")
    shutil.rmtree(tmp_path / "parts" / "checkpoints")
    made.clear()
    fit("parts", prepare=count_steps(made))
    assert made[0] == "update-1"
    assert_same("whole", "parts")


def test_without_resume_stages_start_afresh(fit):
    fit("run", updates=ASKS)
    made: list[str] = []
    fit("run", prepare=count_steps(made), updates=1, resume=False)
    assert made == ["clusters-0"]


def test_a_damaged_stage_is_said_and_made_again(fit, assert_same, tmp_path):
    fit("whole")
    for _ in range(2):
        fit("parts", updates=20)
        file = tmp_path / "parts" / "stages" / "clusters" / "stage.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    _, recorder, _ = fit("parts")
    (notice,) = recorder.of(Noticed)
    assert (notice.level, notice.kind) == ("warning", "checkpoint-broken")
    assert "stage.safetensors is damaged" in notice.message
    assert notice.message.endswith("restarting stage clusters")
    assert_same("whole", "parts")


def test_a_stage_of_another_config_is_refused_by_name(fit, make_config):
    fit("run", updates=9)
    with pytest.raises(ResumeError, match=r"stages/clusters: the config differs in .*seed"):
        fit("run", config=make_config(seed=7))


@pytest.mark.parametrize("names", [["two words"], ["a", "b", "a"]])
def test_names_of_stages_are_checked(fit, names):
    def prepare(recipe: MaskedToy) -> None:
        stages = [Stage() for _ in names]
        for stage, name in zip(stages, names, strict=True):
            stage.name = name
        recipe.stages = lambda: stages

    with pytest.raises(ValueError, match=f"invalid or duplicate stage name '{names[0]}'"):
        fit("run", prepare=prepare)


def test_teacher_and_codebook_come_back_to_the_bit(fit, tmp_path):
    _, _, recipe = fit("run")
    ended, recorder, again = fit("run")
    assert recorder.of(RunStarted)[0].resumed_from == 12
    assert ended.counters.updates == 12
    one, other = recipe.state_dict(), again.state_dict()
    assert one.values == other.values
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)
    assert not torch.equal(one.tensors["codebook"], fresh_codebook(recipe))
    assert one.tensors["usage"].sum() == 12 * 5 * 12


def fresh_codebook(recipe: MaskedToy) -> Tensor:
    fresh = MaskedToy(recipe.config, Opening())
    fresh.start_state(fresh.build_model(), torch.device("cpu"))
    return fresh.state_dict().tensors["codebook"]


def test_every_checkpoint_carries_the_recipe_without_second_copies(
    fit, tmp_path, checkpoint_tensors
):
    fit("run")
    folder = tmp_path / "run" / "checkpoints"
    for name in ("best-val_loss", "best-val_loss_ema", LAST):
        found = checkpoint_tensors(folder / name)
        assert "recipe.safetensors:stage.clusters.centres" in found
        assert "recipe.safetensors:state.teacher.head.weight" in found
        assert not [key for key in found if "training" in key and "codebook" in key]
        values = json.loads((folder / name / "recipe.json").read_text())
        assert values["state"]["origin"] == "fresh"
        assert values["stages"]["codes"]["codes"] == values["state"]["codes"]


def test_state_that_does_not_fit_is_refused_by_name(fit):
    fit("run", updates=ASKS + 3)

    def renamed(recipe: MaskedToy) -> None:
        state_dict = recipe.state_dict

        def other() -> RecipeState:
            state = state_dict()
            state.tensors["bins"] = state.tensors.pop("usage")
            return state

        recipe.state_dict = other

    with pytest.raises(CheckpointError, match=r"missing: bins; unexpected: usage"):
        fit("run", prepare=renamed)

    def shorter(recipe: MaskedToy) -> None:
        stages = recipe.stages
        recipe.stages = lambda: stages()[:1]

    with pytest.raises(
        CheckpointError, match="results of stages that the recipe does not have: codes"
    ):
        fit("run", prepare=shorter)


def test_a_recipe_that_keeps_nothing_takes_no_state(line_recipe):
    load_own_state(line_recipe(), None)
    with pytest.raises(ValueError, match="unexpected recipe state: codebook"):
        load_own_state(line_recipe(), RecipeState({"codebook": torch.zeros(1)}))


def test_a_checkpoint_without_state_is_refused_by_a_recipe_that_keeps_some(config):
    recipe = MaskedToy(config, Opening())
    recipe.start_state(recipe.build_model(), torch.device("cpu"))
    with pytest.raises(ValueError, match=r"missing recipe state: codebook, codes, or"):
        load_own_state(recipe, None)


def test_a_base_gives_its_codebook_and_is_needed_once(fit, tmp_path, config):
    """The second run starts from the codebook of the first; its resume does without the first."""
    _, _, base = fit("base")
    last = tmp_path / "base" / "checkpoints" / LAST

    def needs(recipe: MaskedToy) -> None:
        recipe.opening = Opening(recipe.opening.folder, {BASE: last})

    _, _, heir = fit("heir", prepare=needs, updates=ASKS)
    assert heir.state_dict().values["origin"] == "base"
    assert torch.equal(heir._codebook_VD, base._codebook_VD)
    _, _, heir = fit("heir", prepare=needs, updates=3)
    shutil.rmtree(last)
    ended, _, heir = fit("heir")
    assert (ended.outcome, heir.state_dict().values["origin"]) == ("finished", "base")


def test_memory_that_runs_out_leaves_metrics_teacher_and_codebook_right(fit):
    def calm(recipe: MaskedToy, fits: int) -> None:
        recipe.fits = fits
        build = recipe.build_model

        def without_dropout() -> Any:
            model = build()
            model.encoder[2].p = 0.0
            return model

        recipe.build_model = without_dropout

    quiet = fit("quiet", prepare=lambda recipe: calm(recipe, 99))
    scarce = fit("scarce", prepare=lambda recipe: calm(recipe, 1))
    assert len(scarce[1].of(Noticed)) == 1
    one, other = (made[2].state_dict().tensors for made in (quiet, scarce))
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)
    for name in ("toy_accuracy", "toy_kept_accuracy"):
        assert scarce[1].curve(name) == pytest.approx(quiet[1].curve(name), abs=1e-6)


def test_updates_that_are_not_finite_move_nothing(fit):
    """All items are poisoned from the fourth update on: teacher, codebook and curves stay there."""
    _, _, early = fit("early", updates=ASKS + 3)
    states = early.state_dict().tensors

    def poison(recipe: MaskedToy) -> None:
        recipe.poisoned = frozenset(range(40))

    _, recorder, recipe = fit("early", prepare=poison)
    late = recipe.state_dict().tensors
    assert all(torch.equal(states[name], late[name]) for name in states)
    curve = recorder.curve("toy_accuracy")
    assert list(curve) == [6, 9, 12]
    assert all(value != value for value in curve.values())


def test_a_stop_within_a_stage_leaves_no_update_and_a_partial_save(fit, tmp_path, monkeypatch):
    """However long ago the last save is."""
    monkeypatch.setattr(Clusters, "save_every_s", 1e9)
    ended, recorder, _ = fit("run", updates=11)
    assert (ended.outcome, ended.counters.updates) == ("stopped", 0)
    assert recorder.events[-1] == ended
    manifest = json.loads((tmp_path / "run/stages/clusters/manifest.json").read_text())
    assert (manifest["done"], manifest["complete"]) == (11, False)
    assert not Path(tmp_path / "run/stages/codes").exists()
