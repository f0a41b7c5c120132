"""Presets and experiment of voices: the published numbers, and what the experiment compares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from engine.config.loading import load_config
from engine.config.voice import VoiceLoss
from jobs.sweeps.plan import plan_sweep
from models.voice.settings import VoiceConfig
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles


def test_fine_tuning_has_the_published_numbers() -> None:
    """mrq's page of ai-voice-cloning, and DL-Art-School's YAML: "accumulation 4" splits the 128 items."""
    config = load_config(Catalogue().read("voice/finetune"))
    assert isinstance(config.model, VoiceConfig)
    assert isinstance(config.loss, VoiceLoss)
    assert (config.batch.mode, config.batch.items, config.batch.micro_batch) == ("exact", 128, 32)
    optimizer, schedule = config.optimizer, config.schedule
    assert (optimizer.lr, optimizer.beta1, optimizer.beta2) == (1e-5, 0.9, 0.96)
    assert (optimizer.weight_decay, optimizer.decay_vectors, optimizer.clip_norm) == (
        0.01,
        False,
        4,
    )
    assert (str(schedule.length), schedule.kind, schedule.factor) == (
        "500 epochs",
        "multi_step",
        0.5,
    )
    assert [int(one.amount) for one in schedule.milestones] == [2, 4, 9, 18, 25, 33, 50]
    assert {one.clock for one in schedule.milestones} == {"epochs"}
    assert (str(config.validation.every), str(config.checkpoint.every)) == ("5 epochs",) * 2
    assert (config.loss.text_loss_weight, config.loss.mel_loss_weight) == (0.01, 1.0)
    model = config.model
    assert (model.layers, model.dim, model.heads) == (30, 1_024, 16)
    assert (model.max_text, model.max_codes, config.data.rate_hz) == (404, 608, 22_050)
    language = load_config(Catalogue().read("voice/new-language"))
    assert isinstance(language.loss, VoiceLoss)
    assert (language.loss.text_loss_weight, language.optimizer.lr) == (1.0, 1e-5)


def test_the_experiment_crosses_rates_and_text_weights_with_two_seeds(tmp_path: Path) -> None:
    rows = []
    for index in range(300):
        soundfile.write(tmp_path / f"{index}.wav", np.full(22_050, 0.1), 22_050)
        rows.append(json.dumps({"path": f"{index}.wav", "text": "a text"}))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    name, document = ExperimentFiles().read("voice/finetune-weights")
    data = {"data": {split: str(tmp_path / "rows.jsonl") for split in ("train", "valid")}}
    runs = plan_sweep(name, {**document, "set": data}, Catalogue()).runs
    found = {
        (run.config.optimizer.lr, run.config.loss.text_loss_weight, run.seed)
        for run in runs
        if isinstance(run.config.loss, VoiceLoss)
    }
    rates, weights = (1e-5, 5e-5, 1e-4), (0.01, 1.0)
    assert found == {(lr, weight, seed) for lr in rates for weight in weights for seed in (0, 1)}
    # 500 epochs of 300 items, in whole updates of 128.
    assert {run.items for run in runs} == {1_172 * 128}
