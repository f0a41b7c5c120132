"""Stages that keep what they make in memory, stages whose files are lost, and what stages have to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from masked_toy.recipe import Clusters, MaskedToy

from engine.checkpoints.recipe_files import RecipeState
from engine.events import Noticed, StageProgressed
from engine.recipes.base import Opening, Stage
from engine.training.trainer import Trainer

SAMPLE_STEPS = 4


class Sample(Stage):
    """Gathers numbers in the memory of its recipe, for the clusters."""

    name = "sample"
    save_every_s = 0.0
    feeds = "clusters"

    def __init__(self, held: list[int]) -> None:
        self.held = held

    def num_steps(self) -> int:
        return SAMPLE_STEPS

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        self.held.append(index)
        return RecipeState({"secret": torch.full((3,), 7.0)})

    def notices(self, result: RecipeState) -> list[Any]:
        return [("warning", f"a sample of {len(self.held)}")]


class NeedsSample(Clusters):
    """Clusters that can't be made without the sample."""

    held: list[int]

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        assert self.held == list(range(SAMPLE_STEPS))
        return super().step(index, state, device=device)


class Written(Stage):
    """Writes a file that may get lost."""

    name = "written"

    def __init__(self, file: Path) -> None:
        self.file = file

    def num_steps(self) -> int:
        return 1

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        self.file.write_text("labels")
        return state

    def lost(self, result: RecipeState) -> str:
        return "" if self.file.exists() else f"{self.file.name} is gone"


@pytest.fixture
def fit(make_config, tmp_path, stop_after, new_recorder):
    def run(updates: float = float("inf")):
        config = make_config(schedule={"length": "2 updates"}, checkpoint={"every": "1 updates"})
        folder = tmp_path / "run"
        recipe, recorder = MaskedToy(config, Opening(folder)), new_recorder()
        recipe.held = []
        clusters = NeedsSample(recipe)
        clusters.held = recipe.held
        recipe.stages = lambda: [Sample(recipe.held), clusters, Written(tmp_path / "labels")]
        use = recipe.use
        recipe.used = []

        def noting(name: str, result: RecipeState) -> None:
            recipe.used.append(name)
            if name == "clusters":
                use(name, result)

        recipe.use = noting
        ended = Trainer(
            config, recipe, folder=folder, observers=[recorder], control=stop_after(updates)
        ).fit()
        return ended, recorder, recipe

    return run


def steps_of(recorder) -> set[str]:
    return {event.name for event in recorder.of(StageProgressed)}


def test_it_is_run_again_after_a_stop_and_never_written(fit, tmp_path):
    whole = fit()[2].centres_KF
    (tmp_path / "run").rename(tmp_path / "whole")
    # Stopped in the middle of the clusters, which need all of the sample again.
    ended, recorder, recipe = fit(SAMPLE_STEPS + 9)
    assert ended.outcome == "stopped"
    assert steps_of(recorder) == {"sample", "clusters"}
    ended, recorder, recipe = fit()
    assert ended.outcome == "finished"
    assert recipe.held == list(range(SAMPLE_STEPS))
    assert recipe.used == ["clusters", "written"]
    assert torch.equal(recipe.centres_KF, whole)
    assert {path.name for path in (tmp_path / "run" / "stages").iterdir()} == {
        "clusters",
        "written",
    }
    secret = torch.full((3,), 7.0).numpy().tobytes()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]


def test_it_is_skipped_where_what_it_is_for_is_there(fit):
    # A stop after the clusters, before the first update; then one after it.
    fit(SAMPLE_STEPS + 33)
    _, recorder, recipe = fit(1)
    assert recipe.held == []
    _, recorder, recipe = fit()
    assert recipe.held == []
    assert "sample" not in steps_of(recorder)


def test_a_stage_whose_files_are_lost_is_run_again_and_that_is_said(fit, tmp_path):
    fit(1e9)
    for stop in (1, 1e9):
        (tmp_path / "labels").unlink()
        _, recorder, _ = fit(stop)
        (notice,) = recorder.of(Noticed)
        assert notice.kind == "stage-lost"
        assert notice.message == "stage written is run again: labels is gone"
        assert (tmp_path / "labels").exists()
    assert fit()[1].of(Noticed) == []


def test_what_a_stage_has_to_say_is_said_once(fit):
    _, recorder, _ = fit()
    assert [(n.level, n.kind, n.message) for n in recorder.of(Noticed)] == [
        ("warning", "stage-sample", "a sample of 4")
    ]
    assert fit()[1].of(Noticed) == []
