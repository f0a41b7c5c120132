"""The folder that the examples of `--help` speak of: audio, tables, presets, runs and tiny untrained models."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from engine.checkpoints.files import MODEL, write_checkpoint
from engine.config.counters import Counters
from engine.config.loading import load_config
from engine.data.synthetic import write_dataset
from engine.exchange.exporting import export_model
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer
from models.codec.mel_codec import MelCodec
from tests.engine.exchange import tortoise_layout
from tests.pretraining import ENCODER

RATE = 8_000
WORDS = "the quick brown fox jumps over a lazy dog, zero to nine. Good morning."
EXPERIMENT = """
description = "Two widths"
base = "denoise/small"
match = "updates"
seeds = [0, 1]
[set]
data.train = "{home}/speech/train"
data.valid = "{home}/speech/test"
data.noise = "{home}/noise"
[variants.narrow]
model.width = 8
[variants.wide]
model.width = 16
"""
SEARCH = """
description = "Learning rate"
base = "denoise/small"
match = "items"
[set]
data.train = "{home}/speech/train"
data.valid = "{home}/speech/test"
data.noise = "{home}/noise"
[search]
trials = 4
confirm = 1
confirm_seeds = 2
[search.space]
optimizer.lr = {{ low = 1e-4, high = 1e-2, log = true }}
"""


class NoStop:
    """A control that never stops a run."""

    def stop_reason(self) -> None:
        """Return no reason."""


def write_audio(path: Path, seconds: float, *, rate_hz: int = 16_000, seed: int = 0) -> None:
    """Write noise under a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    wave = 0.2 * np.sin(2 * np.pi * (200 + 40 * seed) * time) + 0.05 * rng.normal(size=len(time))
    soundfile.write(path, wave, rate_hz)


def write_files(home: Path) -> None:
    """Write what the examples read below the home folder of a person."""
    for split, number in (("train", 4), ("valid", 3), ("test", 3)):
        for index in range(number):
            write_audio(home / "speech" / split / f"{index}.wav", 3.0, seed=index + 10 * number)
        for stem in ("vocals", "accompaniment"):
            write_audio(home / "musdb18hq" / split / "song" / f"{stem}.wav", 9.0, rate_hz=44_100)
    write_audio(home / "noise" / "street.wav", 3.0, seed=9)
    write_audio(home / "interview" / "part.wav", 60.0, rate_hz=RATE)
    samples, rate_hz = soundfile.read(home / "interview" / "part.wav")
    samples[(np.arange(len(samples)) // (rate_hz // 2)) % 6 == 5] = 0  # half a second in three
    soundfile.write(home / "interview" / "part.wav", samples, rate_hz)
    for name in (
        "song.flac",
        "noisy.wav",
        "call.wav",
        "a.wav",
        "b.wav",
        "x.flac",
        "recordings/r.wav",
    ):
        write_audio(home / name, 1.5, rate_hz=RATE, seed=len(name))
    for split, number in (("train", 6), ("test", 3), ("words", 6)):
        rows = []
        for index in range(number):
            path = f"clips/{split}-{index}.wav"
            write_audio(home / path, 1.0, seed=index)
            rows.append({"path": path, "text": WORDS, "speaker": ("anna", "theo")[index % 2]})
        (home / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = json.dumps({"path": "train/0.wav", "text": "one"})
    (home / "speech" / "train.jsonl").write_text(texts)
    for speaker in ("ann", "theo"):
        for digit in range(10):
            for take in (0, 7):
                path = home / "digits" / speaker / f"{digit}_{take:02}.wav"
                write_audio(path, 0.5, rate_hz=RATE, seed=digit)
    for folder in ("LJSpeech-1.1", "anna", "theo", "voices"):
        write_voice(home / folder)
    rows = [f"wavs/{index}.wav|take number {'ab'[index % 2] * index}" for index in range(12)]
    (home / "anna" / "metadata.csv").unlink()
    (home / "anna" / "train.txt").write_text("\n".join(rows))
    (home / "texts.txt").write_text("seven two\nnine\n")
    write_data(home)
    (home / "mine.toml").write_text(EXPERIMENT.format(home=home))
    (home / "lr.toml").write_text(SEARCH.format(home=home))


def write_data(home: Path) -> None:
    """Link the folders that presets name to what there is."""
    data = home / "data"
    data.mkdir()
    for name, target in (("vctk", "speech"), ("noise", "noise"), ("stems", "musdb18hq")):
        (data / name).symlink_to(home / target)
    write_dataset(data / "demo", tracks=1, duration_s=2.0, rate_hz=16_000)
    for name in ("digit-strings/train", "digit-strings/valid"):
        path = data / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        rows = (home / "train.jsonl").read_text().replace("clips/", "../../clips/")
        path.write_text(rows)


def write_voice(folder: Path) -> None:
    """Write recordings of one voice as LJSpeech has them."""
    rows = []
    for index in range(12):
        write_audio(folder / "wavs" / f"{index}.wav", 1.5, rate_hz=22_050, seed=index)
        rows.append(f"{index}|take number {'ab'[index % 2] * (index + 1)}")
    (folder / "metadata.csv").write_text("\n".join(rows))


def save(folder: Path, values: dict[str, Any], *, network: Any = None, kind: str = "last") -> Path:
    """Write the checkpoint of a model whose weights are drawn."""
    config = load_config(values)
    torch.manual_seed(3)
    model = open_recipe(config).build_model() if network is None else network(config)
    if values["model"]["kind"] == "conformer_rnnt":
        model.joiner.linear.weight.data.mul_(3)  # one that says something
    about = {
        "kind": kind, "config": config.to_dict(), "counters": asdict(Counters(updates=1)), "plan": "",
        "metrics": {}, "packages": {},
    }  # fmt: skip
    write_checkpoint(
        folder, about, tensors={MODEL: dict(model.state_dict())}, documents={"state.json": {}}
    )
    return folder


def separation(folder: Path) -> Path:
    """Write a model that separates."""
    data = {
        "kind": "bandwidth",
        "train": "t",
        "valid": "v",
        "rate_hz": RATE,
        "input_rates_hz": [4000],
    }
    model = {"kind": "audio_unet", "width": 4, "strides": [2, 4], "residual_units": 1}
    return save(folder, {"data": data, "model": model})


def recogniser(folder: Path, manifest: Path) -> Path:
    """Write a model that transcribes."""
    data = {
        "kind": "speech",
        "train": str(manifest),
        "valid": str(manifest),
        "rate_hz": RATE,
        "num_mels": 16,
        "freq_mask_mels": 2,
    }
    model = {
        "kind": "conformer_rnnt", "kernel": 5, "layers": 1, "dim": 16, "heads": 2, "ffn": 32, "encoding_dim": 24,
        "embedding": 8, "lstm_hidden": 16, "lstm_layers": 1, "stride": 4,
    }  # fmt: skip
    return save(folder, {"data": data, "loss": {"kind": "rnnt"}, "model": model})


def pretrained(folder: Path, kind: str = "hubert", **sizes: Any) -> Path:
    """Write a pre-trained encoder."""
    data = {"kind": "unlabelled", "train": "t", "valid": "v"}
    model = {
        "kind": kind,
        "final_dim": 8,
        **ENCODER,
        "layers": 3,
        "extractor_norm": "group_norm",
        **sizes,
    }
    loss = {"kind": kind, **({"clusters": 10} if kind == "hubert" else {})}
    return save(folder, {"data": data, "model": model, "loss": loss})


def published(folder: Path, scratch: Path) -> None:
    """Write weights as other libraries publish them: HuBERT of torchaudio, wav2vec 2.0 of transformers."""
    base = {"layers": 1, "dim": 768, "heads": 12, "layer_norm_first": False}
    hubert = pretrained(scratch / "hubert", "hubert", **base)
    export_model(hubert, library="torchaudio", out=scratch / "out")
    torch.save(load_file(scratch / "out" / "model.safetensors"), folder / "hubert_base_ls960.pt")
    files = tortoise_layout.write_files(scratch / "tortoise")
    for name, new in (
        ("autoregressive.pth", ""),
        ("dvae.pth", ""),
        ("tokenizer.json", "bpe.json"),
        ("mel_norms.pth", "m.pth"),
    ):
        shutil.copyfile(files / name, folder / (new or name))
    np.save(folder / "km500.npy", np.random.default_rng(0).normal(size=(10, 768)).astype("f"))
    wav2vec2 = pretrained(
        scratch / "wav2vec2", "wav2vec2", code_groups=2, code_entries=5, code_dim=8
    )
    export_model(wav2vec2, library="transformers", out=folder / "wav2vec2-base")


def voice(folder: Path, manifest: Path, scratch: Path) -> Path:
    """Train a voice for one update, with a codec whose weights are drawn."""
    data = {
        "kind": "unlabelled",
        "train": "t",
        "valid": "v",
        "rate_hz": RATE,
        "min_s": 0.2,
        "max_s": 1.0,
    }
    model = {
        "kind": "mel_codec", "mel_bands": 20, "channels": [24, 32], "strides": [2, 2], "residual_blocks": 1,
        "levels": [5, 5, 3],
    }  # fmt: skip

    def network(config: Any) -> MelCodec:
        codec = MelCodec(config.model)
        codec.normalise_by(torch.full((20,), -5.0), torch.full((20,), 2.0))
        return codec

    codec = save(
        scratch / "codec",
        {"data": data, "model": model, "loss": {"kind": "mel_codec"}},
        network=network,
    )
    config = load_config(
        {
            "codec": str(codec),
            "data": {
                "kind": "voice", "train": str(manifest), "valid": str(manifest), "rate_hz": RATE, "min_s": 0.2,
                "max_s": 2.0, "references": 2, "reference_s": 0.4,
            },
            "model": {
                "kind": "voice_gpt", "layers": 1, "dim": 16, "heads": 2, "max_text": 80, "max_codes": 24,
                "reference_layers": 1,
            },
            "loss": {"kind": "voice"},
            "batch": {"items": 2, "micro_batch": 2},
            "schedule": {"length": "1 updates"},
            "ema": {"enabled": False},
            "validation": {"every": "9 updates", "spoken": 0, "clips": 0},
            "checkpoint": {"best": ["val_mel_loss"]},
            "precision": {"device": "cpu", "threads": 1},
        }
    )  # fmt: skip
    recipe = open_recipe(config, opening=Opening(scratch / "run", {"codec": codec}))
    Trainer(config, recipe, folder=scratch / "run", observers=[], control=NoStop()).fit()
    (scratch / "run" / "checkpoints" / "last-000001").rename(folder)
    return folder
