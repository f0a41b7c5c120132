"""The shipped presets of speech recognition, read and planned on tiny fakes of their data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.batching.open_plan import open_plan
from engine.config.loading import load_config
from engine.config.overrides import apply_overrides
from engine.config.schema import RunConfig
from engine.config.speech import SpeechData
from engine.data.kinds import check_data
from engine.data.speech.digit_strings import WORDS, build_digit_strings
from engine.recipes.registry import open_recipe
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles

NAMES = [info.name for info in Catalogue().list() if info.name.startswith(("transducer/", "ctc/"))]
MODES = {
    "fixed", "duration", "1D-bucketing", "1D-bucketing-dyn", "2D-bucketing", "2D-bucketing-fixed",
    "2D-bucketing-singlet",
}  # fmt: skip


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LibriSpeech with 2 x 24 utterances, and digit strings, of noise."""
    root = tmp_path_factory.mktemp("speech")
    draw = np.random.default_rng(0)
    for split in ("train", "dev-clean"):
        folder = root / "LibriSpeech" / split / "84" / "121"
        folder.mkdir(parents=True)
        lines = []
        for number in range(24):
            name = f"84-121-{number:04}"
            seconds = draw.uniform(0.5, 2.5)
            soundfile.write(
                folder / f"{name}.flac", draw.uniform(-0.1, 0.1, round(seconds * 16_000)), 16_000
            )
            words = [WORDS[digit].upper() for digit in draw.integers(10, size=1 + number % 5)]
            lines.append(" ".join([name, *words]))
        (folder / "84-121.trans.txt").write_text("\n".join(lines) + "\n")
    for digit in range(10):
        for take in (0, 7):
            path = root / "digits" / "theo" / f"{digit}_{take:02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, draw.uniform(-0.1, 0.1, 2_400), 8_000)
    build_digit_strings(root / "digits", root / "digit-strings", num_train=24, num_valid=8)
    return root


def config_on(name: str, fakes: Path) -> RunConfig:
    """Return the config of a preset with its data in the fakes, and as many pieces as they allow."""
    values = Catalogue().read(name)
    moved = [
        f"data.{split}={json.dumps(str(fakes / Path(values['data'][split]).relative_to('data')))}"
        for split in ("train", "valid")
    ]
    small = ["batch.accumulation=1", "batch.workers=0"]
    if values["data"].get("tokens") == "sentencepiece":
        small.append("data.vocab_size=30")
    return load_config(apply_overrides(values, [*moved, *small]))


@pytest.mark.parametrize("name", NAMES)
def test_preset_reads_and_plans_its_data(name: str, fakes: Path) -> None:
    config = config_on(name, fakes)
    check_data(config.data)
    recipe = open_recipe(config)
    sizes = recipe.sizes("train")
    assert sizes.shape[1] == 2
    plan = open_plan(config, sizes, manifest=recipe.manifest("train"))
    micro_batches = plan.micro_batches(0)
    assert plan.update_size(0).items == sum(len(part.draws) for part in micro_batches) > 0
    batch = recipe.fetch("train", micro_batches[0])
    assert {len(tensor) for tensor in batch.tensors.values()} == {len(micro_batches[0].draws)}


def test_every_sampling_mode_has_a_preset_of_its_name() -> None:
    configs = {name: load_config(Catalogue().read(name)) for name in NAMES}
    found = {name.removeprefix("transducer/"): config for name, config in configs.items()}
    assert {name: config.batch.mode for name, config in found.items() if name.lower() != name} == {}
    assert {mode: found[mode.lower()].batch.mode for mode in MODES} == {
        mode: mode for mode in MODES
    }


def test_published_numbers() -> None:
    config = load_config(Catalogue().read("transducer/librispeech-published"))
    assert config.batch.mode == "exact"
    assert config.batch.seconds is not None
    assert config.batch.seconds > 5 * 3600
    optimizer, schedule = config.optimizer, config.schedule
    assert (optimizer.lr, optimizer.weight_decay, optimizer.clip_norm) == (4e-3, 1e-2, 1.0)
    assert schedule.kind == "hold_exponential"
    assert str(schedule.warmup) == "1632 updates"
    assert str(schedule.hold_for) == "18000 updates"
    assert str(schedule.half_life) == "10880 updates"
    assert optimizer.lr * schedule.final_ratio == pytest.approx(4e-4)
    assert (config.ema.enabled, config.ema.decay) == (True, 0.999)
    assert str(config.validation.every) == "1000 updates"
    assert str(config.checkpoint.every) == "5000 updates"


def test_streaming_differs_from_the_conformer_in_model_and_pieces_alone() -> None:
    base, emformer = (
        load_config(Catalogue().read(f"transducer/{name}"))
        for name in ("librispeech", "emformer-streaming")
    )
    assert emformer.model.kind == "emformer_rnnt"
    assert emformer.model_dump(exclude={"data", "model"}) == base.model_dump(
        exclude={"data", "model"}
    )


def test_digits_are_those_of_the_builder(fakes: Path) -> None:
    config = config_on("transducer/digits", fakes)
    assert isinstance(config.data, SpeechData)
    assert config.data.rate_hz == 8_000
    assert config.precision.threads == 1


def test_low_resource_experiments_differ_in_labels_and_in_what_they_start_from_alone() -> None:
    shares = {}
    for percent in (1, 10, 100):
        name = f"ssl/low-resource-{percent}"
        runs = plan_sweep(*ExperimentFiles().read(name), Catalogue()).runs
        assert {(run.variant, run.seed) for run in runs} == {
            (variant, seed) for variant in ("scratch", "pre-trained") for seed in (0, 1, 2)
        }
        scratch, tuned = (
            next(run.config for run in runs if run.variant == variant)
            for variant in ("scratch", "pre-trained")
        )
        assert tuned.init_from == "hubert-small"
        assert tuned.model_copy(update={"init_from": None}) == scratch
        assert isinstance(scratch.data, SpeechData)
        assert set("".join(WORDS)) == set(scratch.data.vocabulary)
        shares[percent] = scratch.data.share
    assert shares == {1: 0.01, 10: 0.1, 100: 1.0}
