"""A voice that starts from TorToiSe's files: import, fine-tune, speak; what is kept of the base."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import MODEL, read_manifest
from engine.config.loading import load_config
from engine.config.references import why_weights_do_not_fit
from engine.config.schema import RunConfig
from engine.exchange.tortoise import TortoiseFiles, import_tortoise
from engine.exchange.weight_files import read_weights
from engine.programs.speak import speak
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.training.initial_weights import InitError
from engine.training.trainer import Trainer
from presets.catalogue import Catalogue
from tests.engine.exchange.tortoise_layout import SMALL, write_files

RATE = 22_050
TEXTS = ["The cat sat.", "They sat, then!", "A mat and a cat.", "That hat", "Dr. Ann, 2 cats"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small model of that layout."""
    folder = write_files(tmp_path_factory.mktemp("tortoise"))
    files = TortoiseFiles(
        folder / "dvae.pth", folder / "tokenizer.json", folder / "mel_norms.pth", heads=SMALL.heads
    )
    weights = read_weights(folder / "autoregressive.pth")
    return import_tortoise(weights, out=folder / "checkpoint", files=files).folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        rows = []
        for index, text in enumerate(TEXTS):
            name = f"{split}-{index}.wav"
            soundfile.write(folder / name, 0.1 * rng.normal(size=RATE + 500 * index), RATE)
            rows.append(json.dumps({"path": name, "text": text, "speaker": "ab"[index % 2]}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def make(base: Path, speech: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a run of a preset with the sizes of the base."""

    def build(preset: str, **changes: Any) -> RunConfig:
        values = Catalogue().read(preset)
        data = {
            "train": str(speech / "train.jsonl"),
            "valid": str(speech / "valid.jsonl"),
            "reference_s": 0.5,
        }
        values["data"] |= {**data, "tokens": "bpe", "min_s": 0.2, **changes}
        values["model"] |= {
            "layers": SMALL.layers, "dim": SMALL.dim, "heads": SMALL.heads, "max_text": SMALL.text_places,
            "max_codes": SMALL.mel_places, "reference_layers": SMALL.reference_layers,
        }  # fmt: skip
        values["batch"] |= {"items": 4, "micro_batch": 2, "workers": 0}
        values["schedule"] |= {"length": "2 updates", "kind": "constant", "milestones": []}
        values["validation"] |= {"every": "2 updates", "batch_items": 4, "spoken": 1, "clips": 1}
        values["checkpoint"] |= {"every": "2 updates"}
        values["precision"] = {"device": "cpu", "threads": 1}
        return load_config({**values, "init_from": str(base)})

    return build


class Never:
    def stop_reason(self) -> None:
        """Never stop."""


def train(config: RunConfig, base: Path, folder: Path) -> Path:
    recipe = open_recipe(config, opening=Opening(folder, {"init_from": base}))
    trainer = Trainer(config, recipe, folder=folder, observers=[], control=Never())
    trainer.fit(init_from=base)
    return folder / "checkpoints" / "last-000002"


def spoken(checkpoint: Path, out: Path, clips: list[Path]) -> dict[str, Any]:
    job = {
        "checkpoint": str(checkpoint), "items": [{"place": "text", "text": "The cat sat.", "path": str(out)}],
        "clips": [str(clip) for clip in clips], "saved": None, "save_as": None, "judge": None, "speaker": None,
        "device": "cpu", "seed": 0, "candidates": 1,
        "sampling": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0},
    }  # fmt: skip
    answers = io.StringIO()
    speak(job, answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()][1]["spoken"]


@pytest.mark.parametrize("preset", ["voice/finetune", "voice/new-language"])
def test_import_fine_tune_speak(
    preset: str, make: Any, base: Path, speech: Path, tmp_path: Path
) -> None:
    last = train(make(preset), base, tmp_path / "run")
    before, after = (read_manifest(path).tensors(MODEL) for path in (base, last))
    # Two updates with a rate of 1e-5 move weights by 2e-5 at most.
    largest = max(
        float((after[name].float() - before[name].float()).abs().max()) for name in before
    )
    assert 0 < largest < 1e-4
    for checkpoint, clips in ((base, [speech / "valid-0.wav"]), (last, [])):
        out = tmp_path / f"{checkpoint.name}.wav"
        about = spoken(checkpoint, out, clips)
        assert about["read_as"] == "the cat sat."
        samples_T, rate_hz = soundfile.read(out)
        assert (rate_hz, len(samples_T)) == (RATE, 1_024 * about["codes"])
        assert np.isfinite(samples_T).all()


def test_without_a_clip_the_base_says_what_it_needs(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no clips .*; name recordings with --voice CLIP"):
        spoken(base, tmp_path / "out.wav", [])


def test_new_characters_keep_the_rows_of_the_base(make: Any, base: Path, tmp_path: Path) -> None:
    config = make("voice/new-language", language="de", case="keep")
    last = train(config, base, tmp_path / "run")
    before, after = (read_manifest(path).tensors(MODEL) for path in (base, last))
    # Capitals and digits are unknown to the base.
    new = sorted({char for text in TEXTS for char in text if char.isupper() or char.isdecimal()})
    rows = SMALL.text_rows - 1
    for name in ("text_embedding.weight", "text_head.weight"):
        assert len(after[name]) == SMALL.text_rows + len(new)
        torch.testing.assert_close(after[name][:rows], before[name][:rows], atol=1e-4, rtol=0)
        torch.testing.assert_close(after[name][-1], before[name][-1], atol=1e-4, rtol=0)


def test_other_tokens_than_those_of_the_base_are_refused(
    make: Any, base: Path, tmp_path: Path
) -> None:
    config = make("voice/finetune", tokens="char")
    trained = read_manifest(base).values["config"]
    assert "data.tokens = 'bpe'" in why_weights_do_not_fit(config, trained)
    assert why_weights_do_not_fit(make("voice/finetune"), trained) == ""
    with pytest.raises(InitError, match="has tokens that this run has not"):
        train(config, base, tmp_path / "run")
