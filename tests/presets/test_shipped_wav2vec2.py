"""The shipped presets and experiments of wav2vec 2.0: published sizes, and one update on made-up audio."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from engine.batching.open_plan import open_plan
from engine.config.loading import load_config
from engine.config.overrides import apply_overrides
from engine.config.schema import RunConfig
from engine.data.kinds import check_data
from engine.recipes.base import StepContext
from engine.recipes.registry import open_recipe
from jobs.sweeps.plan import plan_sweep
from models.registry import count_parameters
from models.self_supervised.wav2vec2 import Wav2Vec2
from models.self_supervised.wav2vec2_settings import Wav2Vec2Config
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles

# Millions of parameters; 95 and 317 are those of the paper.
SIZES = {"base": 95.04, "large": 317.39, "night": 32.40, "small": 0.50}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of single words: files of 0.3 to 0.8 s at 8 kHz, to be joined."""
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        (folder / split).mkdir()
        for index in range(40):
            wave = rng.uniform(-0.1, 0.1, int(8_000 * rng.uniform(0.3, 0.8)))
            soundfile.write(folder / split / f"{index:02}.wav", wave, 8_000)
    return folder


def config_of(name: str, folder: Path, *more: str) -> RunConfig:
    moved = [f"data.{split}={json.dumps(str(folder / split))}" for split in ("train", "valid")]
    return load_config(apply_overrides(Catalogue().read(f"ssl/wav2vec2-{name}"), [*moved, *more]))


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name: str, words: Path) -> None:
    config = config_of(name, words)
    assert isinstance(config.model, Wav2Vec2Config)
    with torch.device("meta"):
        model = Wav2Vec2(config.model)
    assert count_parameters(model) / 1e6 == pytest.approx(SIZES[name], abs=0.005)
    # Padding needs a norm that it doesn't change; normalised waveforms go with layer norm.
    large = config.model.extractor_norm == "layer_norm"
    values = config.to_dict()["data"]
    assert values["normalize_waveform"] == large
    assert values["fit"] == "crop" or large
    assert values["rate_hz"] / config.model.hop == 50


def test_the_small_one_trains_on_a_folder_of_single_words(words: Path) -> None:
    config = config_of("small", words, "batch.seconds=10.0", "batch.pool_updates=1")
    check_data(config.data)
    recipe = open_recipe(config)
    sizes = recipe.sizes("train")
    assert sizes.min() >= 3
    plan = open_plan(config, sizes, manifest=recipe.manifest("train"))
    batch = recipe.fetch("train", plan.micro_batches(0)[0])
    output = recipe.step(recipe.build_model(), batch, context=StepContext(update=1))
    output.loss_sum.backward()
    assert torch.isfinite(output.loss_sum)
    assert output.weight > 50


@pytest.mark.parametrize(("name", "variants"), [("conformer", 2), ("penalty", 3)])
def test_experiments_see_equal_audio(name: str, variants: int, words: Path) -> None:
    title, values = ExperimentFiles().read(f"ssl/wav2vec2-{name}")
    data = {split: str(words / split) for split in ("train", "valid")}
    small = {"data": data, "batch": {"seconds": 10.0}}
    runs = plan_sweep(title, {**values, "set": small}, Catalogue()).runs
    assert len(runs) == 3 * variants
    assert len({run.updates for run in runs}) == 1
    assert [run.warnings for run in runs if run.warnings] == []
