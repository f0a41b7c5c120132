"""Small runs for the tests of the engine: a synthetic dataset, a tiny model, observers, controls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.synthetic import write_dataset
from engine.evaluation.result import Evaluation
from engine.events import Event
from engine.recipes.base import StepContext, StepOutput
from models.speech_configs import TransducerHead


class Recorder:
    """An observer that keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def curve(self, name: str) -> dict[int, float]:
        from engine.events import PointsRecorded

        return {
            int(update): float(value)
            for block in self.of(PointsRecorded)
            for update, value in zip(block.updates, block.series[name], strict=True)
        }


class StopAfter:
    """A control that stops a run once it has been asked `updates` times."""

    def __init__(self, updates: float = float("inf")) -> None:
        self.left = updates

    def stop_reason(self) -> str | None:
        self.left -= 1
        return "asked to stop" if self.left < 0 else None


class LineRecipe:
    """Fits y = 2 x + 1 with dropout; an item is poisoned by NaN when its index is in `poisoned`."""

    def __init__(self, *, num_items: int = 12, poisoned: Sequence[int] = (), dropout: float = 0.2):
        self.num_items = num_items
        self.poisoned = set(poisoned)
        self.dropout = dropout
        self.fetched: list[ItemDraw] = []

    @property
    def loss_unit(self) -> str:
        return ""

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(self.dropout), nn.Tanh(), nn.Linear(8, 4))

    def sizes(self, split: Split) -> np.ndarray:
        return np.full((self.num_items if split == "train" else 3, 1), 1.0)

    def manifest(self, split: Split) -> str:
        return f"line-{split}-{self.num_items}"

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        draws = micro_batch.draws
        self.fetched.extend(draws)
        rows = [np.random.default_rng([d.epoch, d.index]).normal(size=4) for d in draws]
        x = torch.tensor(np.stack(rows), dtype=torch.float32)
        y = 2 * x + 1
        for row, draw in enumerate(draws):
            if draw.index in self.poisoned:
                y[row] = float("nan")
        return Batch({"x": x, "y": y})

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        x, y = batch.tensors["x"], batch.tensors["y"]
        loss = (model(x).float() - y).square().mean(dim=1).sum()
        return StepOutput(loss, torch.tensor(float(len(x)), device=x.device))

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        draws = tuple(ItemDraw(-1 + 2**20, index) for index in range(3))
        batch = self.fetch("valid", MicroBatch(draws)).to(device)
        torch.rand(7), np.random.rand(7)
        loss = self.step(model, batch, context=StepContext(split="valid")).loss_sum / 3
        metrics = {"val_loss": float(loss), "si_sdr": -float(loss), "input_si_sdr": 0.5}
        return Evaluation(metrics, 3, num_excluded=0)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        return Batch({"x": torch.zeros(count, 4), "y": torch.zeros(count, 4)})


@pytest.fixture
def line_recipe() -> type[LineRecipe]:
    """The recipe of a toy problem that trains in microseconds."""
    return LineRecipe


@pytest.fixture
def recorder() -> Recorder:
    """An observer that keeps every event."""
    return Recorder()


@pytest.fixture
def new_recorder() -> type[Recorder]:
    """The class of `recorder`, for tests that need several."""
    return Recorder


@pytest.fixture
def stop_after() -> type[StopAfter]:
    """Controls that stop a run after a number of updates."""
    return StopAfter


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train` and `valid` tracks of voice, percussion and noise, 8 kHz."""
    folder = tmp_path_factory.mktemp("synthetic")
    write_dataset(folder, seed=3, tracks=3, duration_s=2.0, rate_hz=8_000)
    return folder


@pytest.fixture
def make_config(synthetic: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny stems run, changed by sections given as keywords."""
    base: dict[str, Any] = {
        "data": {
            "kind": "stems", "train": str(synthetic / "train"), "valid": str(synthetic / "valid"),
            "rate_hz": 8_000, "segment_s": 0.25, "targets": ["voice"],
            "others": ["percussion", "noise"],
        },
        "model": {"kind": "audio_unet", "width": 4, "strides": [2, 4], "residual_units": 1},
        "loss": {"windows": [256, 64]},
        "batch": {"items": 4, "micro_batch": 2},
        "optimizer": {"lr": 1e-2},
        "schedule": {"length": "12 updates"},
        "validation": {"every": "5 updates", "segment_s": 0.5, "training_items": 2},
        "checkpoint": {"every": "4 updates"},
        "precision": {"device": "cpu", "threads": 1},
    }  # fmt: skip

    def build(**sections: Any) -> RunConfig:
        below = {**base, "loss": {}} if "kind" in sections.get("loss", {}) else base
        return load_config(
            {
                **below,
                **{
                    n: {**below.get(n, {}), **v} if isinstance(v, dict) else v
                    for n, v in sections.items()
                },
            }
        )

    return build


@pytest.fixture
def checkpoint_tensors() -> Callable[[Path], dict[str, torch.Tensor]]:
    """Return a function that reads every tensor of a checkpoint directory."""
    from safetensors.torch import load_file

    def read(folder: Path) -> dict[str, torch.Tensor]:
        return {
            f"{path.name}:{name}": tensor
            for path in sorted(folder.glob("*.safetensors"))
            for name, tensor in load_file(path).items()
        }

    return read


_TONES_HZ = {"low": 300.0, "mid": 900.0, "top": 2_400.0}
_TINY_TRANSDUCER = {
    "layers": 1, "dim": 16, "heads": 2, "ffn": 32, "encoding_dim": 24, "embedding": 8,
    "lstm_hidden": 16, "lstm_layers": 1, "dropout": 0.0, "lstm_dropout": 0.0, "stride": 4,
}  # fmt: skip
_TINY_CTC = {
    "layers": 1, "dim": 16, "heads": 2, "ffn": 32, "dropout": 0.0, "stride": 4, "kernel": 5,
}  # fmt: skip
# A frame every 20 ms at 8 kHz.
TINY_WAVEFORM = {
    "conv_channels": [8, 8, 8], "conv_kernels": [10, 4, 4], "conv_strides": [10, 4, 4],
    "extractor_norm": "layer_norm", "layers": 2, "dim": 16, "heads": 2, "ffn": 32,
    "pos_conv_kernel": 8, "pos_conv_groups": 2, "channel_mask_length": 4, "time_mask_length": 2,
    "dropout": 0.0, "attention_dropout": 0.0, "projection_dropout": 0.0, "layer_drop": 0.0,
}  # fmt: skip
TINY_DATA2VEC = {
    name: value
    for name, value in TINY_WAVEFORM.items()
    if name not in ("pos_conv_kernel", "projection_dropout")
} | {"pos_conv_layers": 2, "pos_conv_width": 6, "prenet_dropout": 0.0, "ffn_dropout": 0.0}
_ENCODERS = {
    "conformer_rnnt": {"kernel": 5},
    "emformer_rnnt": {"segment": 8, "left_context": 4, "right_context": 4},
    "waveform_rnnt": {},
}


def _write_tones(folder: Path, name: str, texts: list[str], seed: int) -> None:
    """Write a file for each text, a tone of 0.15 s and a pause for each word, and their manifest."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, text in enumerate(texts):
        parts = [np.zeros(400)]
        for word in text.split():
            tone = 0.3 * np.sin(2 * np.pi * _TONES_HZ[word] * np.arange(1_200) / 8_000)
            parts += [tone, np.zeros(int(rng.integers(300, 900)))]
        samples = np.concatenate(parts)
        path = folder / f"{name}-{number}.wav"
        soundfile.write(path, samples + 1e-3 * rng.normal(size=len(samples)), 8_000)
        rows.append(json.dumps({"path": path.name, "text": text}))
    (folder / f"{name}.jsonl").write_text("\n".join(rows))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.jsonl (12 utterances) and valid.jsonl (4): a word is a tone, 8 kHz."""
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(sorted(_TONES_HZ), size=1 + number % 4)) for number in range(12)]
    _write_tones(folder, "train", texts, 1)
    _write_tones(folder, "valid", ["low top", "mid", "top low mid", "mid mid low top"], 2)
    return folder


def _speech_base(tones: Path, loss: str) -> dict[str, Any]:
    return {
        "data": {
            "kind": "speech", "train": str(tones / "train.jsonl"),
            "valid": str(tones / "valid.jsonl"), "rate_hz": 8_000, "num_mels": 16,
            "freq_mask_mels": 2, "time_mask_frames": 3, "min_s": 0.1, "normalize_waveform": True,
        },
        "loss": {"kind": loss},
        "batch": {"items": 4, "micro_batch": 2},
        "optimizer": {"lr": 1e-2},
        "schedule": {"length": "6 updates"},
        "validation": {"every": "3 updates", "batch_items": 3, "training_items": 2},
        "checkpoint": {"every": "2 updates", "best": ["wer", "wer_ema"]},
        "precision": {"device": "cpu", "threads": 1},
    }  # fmt: skip


@pytest.fixture
def speech_config(tones: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny transducer run: (kind of model, sections as keywords)."""
    base = _speech_base(tones, "rnnt")

    def build(kind: str = "conformer_rnnt", **sections: Any) -> RunConfig:
        tiny = _TINY_TRANSDUCER | _ENCODERS[kind]
        if kind == "waveform_rnnt":
            tiny = TINY_WAVEFORM | {n: tiny[n] for n in tiny if n in TransducerHead.model_fields}
        model = {"kind": kind, **tiny}
        config = {**base, "model": model}
        return load_config(
            {
                **config,
                **{
                    n: {**config.get(n, {}), **v} if isinstance(v, dict) else v
                    for n, v in sections.items()
                },
            }
        )

    return build


@pytest.fixture
def ctc_config(tones: Path) -> Callable[..., RunConfig]:
    """Return a function that builds a tiny CTC run: (kind of model, sections as keywords)."""
    base = _speech_base(tones, "ctc")

    def build(kind: str = "ctc_conformer", **sections: Any) -> RunConfig:
        tiny = {"ctc_conformer": _TINY_CTC, "ctc_data2vec2": TINY_DATA2VEC}
        model = tiny.get(kind, TINY_WAVEFORM)
        config = {**base, "model": {"kind": kind, **model}}
        return load_config(
            {
                **config,
                **{
                    n: {**config.get(n, {}), **v} if isinstance(v, dict) else v
                    for n, v in sections.items()
                },
            }
        )

    return build
