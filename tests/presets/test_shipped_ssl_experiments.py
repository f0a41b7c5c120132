"""Experiments that train the small presets of self-supervised recipes and ask what their features are worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.hubert import HubertLoss
from engine.config.iterations import iterations_of
from jobs.sweeps.plan import Plan, plan_sweep
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles
from tests.pretraining import write_audio


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("audio"))


def plan_of(name: str, audio: Path) -> Plan:
    """Plan as shipped, but for the place of the audio and the lengths of its items."""
    title, values = ExperimentFiles().read(f"ssl/{name}")
    shipped = values["set"].pop("data")
    assert not values["set"]
    data = {**shipped, **{split: str(audio / split) for split in ("train", "valid")}}
    return plan_sweep(title, {**values, "set": {"data": {**data, "min_s": 0.5}}}, Catalogue())


@pytest.mark.parametrize("recipe", ["hubert", "wav2vec2", "data2vec2"])
def test_each_recipe_has_three_seeds_and_a_probe(recipe: str, audio: Path) -> None:
    plan = plan_of(f"recipes-{recipe}", audio)
    assert [(run.variant, run.seed) for run in plan.runs] == [(recipe, seed) for seed in (0, 1, 2)]
    assert {run.config.recipe for run in plan.runs} == {recipe}
    assert plan.experiment.probe is not None
    assert plan.experiment.probe.data == Path("data/digits")


def test_two_iterations_are_one_setting(audio: Path) -> None:
    plan = plan_of("hubert-iterations", audio)
    assert plan.experiment.probe is not None
    for run in plan.runs:
        loss = run.config.loss
        assert isinstance(loss, HubertLoss)
        assert loss.iterations == {"one": 1, "two": 2}[run.variant]
    assert len(plan.runs) == 6
    two = next(run.config for run in plan.runs if run.variant == "two")
    (_, first), (_, second) = iterations_of(two, "x")
    assert isinstance(second.loss, HubertLoss)
    assert (second.loss.targets_from, second.loss.targets_layer) == ("x-it1", 2)
    assert second.model == first.model
