"""The examples of a loss, a kind of data and an encoder alone: installed, trained, resumed, and missing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.data.synthetic import write_dataset
from tests.e2e.shell import Shell
from tests.pages import ROOT
from tests.pretraining import ENCODER, write_audio

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

EXAMPLES = ROOT / "examples"
PARTS = ("own_loss", "own_data", "own_encoder")
SHORT: dict[str, Any] = {
    "batch": {"items": 4, "micro_batch": 2}, "schedule": {"length": "4 updates"},
    "validation": {"every": "2 updates", "full_files": False, "training_items": 2},
    "checkpoint": {"best": ["val_loss"]}, "logging": {"every": "1 updates"},
    "precision": {"device": "cpu", "threads": 1},
}  # fmt: skip
MEL = {
    "layers": 2,
    "dim": 16,
    "heads": 2,
    "ffn": 16,
    "num_mels": 16,
    "kernel": 5,
    "layer_drop": 0.3,
}


@pytest.fixture
def installed(install: Callable[[Path], Shell]) -> Shell:
    """A shell that finds the three packages."""
    for part in PARTS:
        shell = install(EXAMPLES / part)
    return shell


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Recordings without texts: in folders, and the same in shards."""
    folder = write_audio(tmp_path / "audio")
    for split in ("train", "valid"):
        shards = folder / "shards" / split
        shards.mkdir(parents=True)
        with tarfile.open(shards / "0.tar", "w") as tar:
            for file in sorted((folder / split).iterdir()):
                tar.add(file, file.name)
    return folder


def hubert(audio: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """Return a tiny run of HuBERT; a section with a kind replaces that of the built-in one."""
    data = {"kind": "unlabelled", "train": str(audio / "train"), "valid": str(audio / "valid")}
    values: dict[str, Any] = {
        **SHORT,
        "data": {**data, "min_s": 0.5, "max_s": 4.0},
        "model": {"kind": "hubert", "final_dim": 8, **ENCODER},
        "loss": {"kind": "hubert", "clusters": 8, "mask_length": 4, "frames_per_cluster": 20},
    }
    for name, section in sections.items():
        values[name] = section if name == "model" else {**values[name], **section}
    return values


def shards(audio: Path) -> dict[str, Any]:
    places = {split: str(audio / "shards" / split) for split in ("train", "valid")}
    return {"kind": "tar_shards", **places}


@pytest.mark.usefixtures("installed")
def test_parts_train_alone_and_together_and_resume_to_the_same_bits(
    audio: Path, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "stems", tracks=2, duration_s=2.0, rate_hz=16_000)
    denoise = {
        **SHORT,
        "data": {
            "kind": "denoise", "train": str(tmp_path / "stems/train"), "rate_hz": 16_000,
            "valid": str(tmp_path / "stems/valid"), "noise": str(tmp_path / "stems/train"),
            "segment_s": 0.25,
        },
        "model": {"kind": "audio_unet", "width": 4, "strides": [2, 4]},
        "loss": {"kind": "stft_si_sdr", "windows": [64, 256]},
    }  # fmt: skip
    mel = {"kind": "mel_hubert", "final_dim": 8, **MEL}
    codes = {"code_entries": 4, "code_dim": 8, "final_dim": 8}
    contrast = hubert(audio, data=shards(audio), model={"kind": "mel_wav2vec2", **MEL, **codes})
    distractors = {"distractors": 5, "mask_length": 4, "penalty": 0.0}
    padded = {**shards(audio), "fit": "pad", "normalize_waveform": True}
    runs = {
        "built-in": hubert(audio),
        "data": hubert(audio, data=shards(audio)),
        "no-focus": hubert(audio, loss={"kind": "focal_hubert", "focus": 0.0}),
        "focus": hubert(audio, loss={"kind": "focal_hubert", "focus": 2.0}),
        "encoder": hubert(audio, model=mel),
        "all": hubert(audio, data=padded, model=mel, loss={"kind": "focal_hubert"}),
        "codes": {**contrast, "loss": {**distractors, "kind": "wav2vec2"}},
        "codes-no-focus": {
            **contrast,
            "loss": {**distractors, "kind": "focal_wav2vec2", "focus": 0.0},
        },
        "codes-focus": {**contrast, "loss": {**distractors, "kind": "focal_wav2vec2"}},
        "waveform": denoise,
        # Its clusters are those of a layer of the encoder above.
        "second": hubert(
            audio, loss={"targets_from": str(tmp_path / "runs/encoder/whole"), "targets_layer": 2}
        ),
    }
    result = subprocess.run(
        [sys.executable, "-P", "-m", "tests.e2e.training_parts", str(tmp_path / "runs")],
        input=json.dumps(runs), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout.splitlines()[-1])
    assert {name: answer["outcomes"] for name, answer in answers.items()} == {
        name: ["finished", "stopped", "finished"] for name in runs
    }
    assert [name for name, answer in answers.items() if not answer["same"]] == []
    assert all(math.isfinite(answer["loss"]) for answer in answers.values())
    # Shards hold what the folders hold; without a focus the focal loss is cross-entropy.
    weights = {name: answer["weights"] for name, answer in answers.items()}
    assert weights["built-in"] == weights["data"] == weights["no-focus"]
    assert len(set(weights.values())) == len(runs) - 2
    # The built-in contrastive loss is computed in another order, so bits may differ.
    losses = {name: answer["loss"] for name, answer in answers.items()}
    assert losses["codes-no-focus"] == pytest.approx(losses["codes"], rel=1e-4)
    assert losses["codes-focus"] < losses["codes"]


def test_presets_of_parts_train_and_are_refused_without_their_package(
    installed: Shell, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = words_of(f"data.{name}={audio}/shards/{name}" for name in ("train", "valid"))
    small = words_of([
        "data.kind=tar_shards", "loss.kind=focal_hubert", "loss.clusters=8", "data.join_s=0",
        "schedule.length=4 updates", "schedule.warmup=1 updates", "validation.every=2 updates",
        "loss.frames_per_cluster=20", "data.min_s=0.5", "batch.items=4", "batch.micro_batch=4",
    ])  # fmt: skip
    installed.run("enqueue", "mel_conformer/hubert", "--name", "parts", *places, *small)
    installed.run("worker", "--drain", "--device", "cpu", timeout_s=800)
    run = installed.show("parts")["run"]
    assert run["state"] == "finished", run["message"]
    (manifest,) = (installed.home / "runs").glob("*/checkpoints/last-*/manifest.json")
    saved = json.loads(manifest.read_text())
    config = saved["config"]
    assert saved["packages"] == {
        "data.kind": "tar-shards 0.1.0", "model.kind": "mel-conformer 0.1.0",
        "loss.kind": "more-losses 0.1.0",
    }  # fmt: skip
    kinds = {name: config[name]["kind"] for name in ("data", "model", "loss")}
    assert kinds == {"data": "tar_shards", "model": "mel_hubert", "loss": "focal_hubert"}
    keys = {item["key"] for item in json.loads(installed.run("presets", "--settings", "--json"))}
    assert {"model.num_mels", "loss.focus", "loss.si_sdr_weight"} <= keys
    told = installed.run("doctor")
    assert all(
        kind in told for kind in ("mel_hubert", "mel_wav2vec2", "tar_shards", "focal_hubert")
    )
    assert "8 files" in installed.run("data", "check", "tar_shards/hubert", *places)
    for preset, key in (("denoise", "si_sdr_weight"), ("hubert", "focus")):
        assert key in installed.run("presets", f"more_losses/{preset}", "--full")

    wave = str(audio / "train" / "0.wav")
    installed.run("features", "parts", wave, "-o", str(tmp_path / "features"), "--layer", "1")
    (written,) = (tmp_path / "features").rglob("*.npy")
    assert np.load(written).shape == (49, 128)

    # Without the packages: the run is listed, and what would load it says so in a line for each part.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert [run["name"] for run in installed.runs()] == ["parts"]
    monkeypatch.setenv("SEPDASH_HOME", str(installed.home))
    told = refused("features", "parts", wave, "-o", str(tmp_path / "other"))
    for section, kind in kinds.items():
        assert f"{section}.kind: unknown kind {kind!r}" in told
    assert "saved with tar-shards 0.1.0, more-losses 0.1.0, mel-conformer 0.1.0" in told
    assert told.count("f a package provides this kind, install that package and try again") == 3


def words_of(assignments: Iterable[str]) -> list[str]:
    """Return the `--set` words of assignments."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def refused(*arguments: str) -> str:
    """Return what a command says that a person can't run, with exit status 2 and no traceback."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", "tui.main", *arguments],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert result.returncode == 2, f"{result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result.stderr


def test_shards_that_cant_be_read_are_refused_before_the_queue(
    installed: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEPDASH_HOME", str(installed.home))
    good = tmp_path / "good"
    good.mkdir()
    soundfile.write(tmp_path / "a.wav", np.zeros(48_000), 16_000)
    with tarfile.open(good / "0.tar", "w") as tar:
        tar.add(tmp_path / "a.wav", "a.wav")
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "0.tar").write_bytes(b"no tar" * 200)
    places = words_of([f"data.train={good}", f"data.valid={bad}"])
    told = refused("enqueue", "tar_shards/hubert", *places)
    assert f"data.valid: {bad / '0.tar'}: can't be read" in told
    assert installed.runs() == []
