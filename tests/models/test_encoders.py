"""Encoders of installed packages: a transducer around them, trained, streamed, refused when broken."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from models.base.settings import setting
from models.entry_points import find_plugins
from models.self_supervised.hubert import build_hubert
from models.self_supervised.plugin_settings import PluginWaveformEncoder
from models.self_supervised.settings import HubertHead
from models.speech_configs import ENCODERS, PluginEncoder, accept_encoder
from models.transducer import build_encoder, build_transducer

SETTINGS = '''
from typing import Literal
from models.settings import setting
from models.speech_configs import PluginEncoder

class LinearConfig(PluginEncoder):
    """One linear layer."""

    kind: Literal["linear"] = setting("linear", "One linear layer on each frame.")
    gain: float = setting(1.0, "Factor on the frames.", gt=0, le=10)

    def build(self, *, num_mels):
        from linear_encoder.network import Linear
        return Linear(self.gain, num_mels, self.encoding_dim)
'''
NETWORK = """
import torch

class Linear(torch.nn.Module):
    def __init__(self, gain, num_mels, dim):
        super().__init__()
        self.gain = gain
        self.layer = torch.nn.Linear(num_mels, dim)

    def forward(self, feat, lengths):
        return self.layer(self.gain * feat), lengths

    def segments(self, feat):
        for start in range(0, feat.shape[1], 50):
            part = feat[:, start : start + 50]
            yield start + part.shape[1], self.layer(self.gain * part)
"""


class Good(PluginEncoder):
    """Pads or cuts the bands."""

    kind: Literal["good"] = setting("good", "An encoder.")

    def build(self, *, num_mels: int) -> torch.nn.Module:
        return torch.nn.Identity()


class Lazy(PluginEncoder):
    """Has no `build`."""

    kind: Literal["lazy"] = setting("lazy", "Nothing.")


class Wrong(Good):
    """Builds what is no network."""

    kind: Literal["wrong"] = setting("wrong", "A text.")  # type: ignore[assignment]

    def build(self, *, num_mels: int) -> Any:
        return "network"


class Waveforms(PluginWaveformEncoder):
    """Of no recipe."""

    kind: Literal["waveforms"] = setting("waveforms", "An encoder.")

    hop: ClassVar[int] = 320
    receptive_field: ClassVar[int] = 400
    local_dim: ClassVar[int] = 8

    def build(self) -> Any:
        return torch.nn.Identity()


class UnderHubert(HubertHead, Waveforms):
    """Builds what can't be used in steps."""

    kind: Literal["under_hubert"] = setting("under_hubert", "An encoder.")  # type: ignore[assignment]


class Unfinished(HubertHead, PluginWaveformEncoder):
    """Says nothing of its frames."""

    kind: Literal["unfinished"] = setting("unfinished", "An encoder.")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("conformer_rnnt", Good, "the name 'conformer_rnnt' is already taken"),
        ("other", Good, "must declare kind: Literal['other']"),
        ("good", "text", "is not a subclass of models.speech_configs.PluginEncoder"),
        ("lazy", Lazy, "has no method `build`"),
        ("waveforms", Waveforms, "is a subclass of neither HubertHead nor Wav2Vec2Head"),
        ("unfinished", Unfinished, "does not define hop, receptive_field, local_dim, build"),
    ],
)
def test_a_broken_encoder_is_left_out_with_the_reason(name: str, value: object, words: str) -> None:
    class Point(EntryPoint):
        def load(self) -> object:
            return value

    points = [Point(name, f"package:{name}", ENCODERS)]
    found = find_plugins(ENCODERS, accept_encoder, taken=["conformer_rnnt"], points=points)
    assert found.parts == {}
    assert words in found.broken[name]


def test_what_is_built_must_be_a_network() -> None:
    assert isinstance(build_encoder(Good(), num_mels=8), torch.nn.Module)
    with pytest.raises(ValueError, match=r"built str, expected a torch\.nn\.Module"):
        build_encoder(Wrong(), num_mels=8)


def test_what_is_built_for_hubert_must_be_usable_in_steps() -> None:
    with pytest.raises(
        ValueError, match=r"built Identity, expected a .*frame_encoder\.FrameEncoder"
    ):
        build_hubert(UnderHubert(), clusters=4)


def test_an_encoder_without_segments_does_not_stream() -> None:
    model = build_transducer(Good(encoding_dim=8), num_mels=8, num_tokens=4)
    with pytest.raises(ValueError, match="stream"):
        list(model.stream(torch.zeros(1, 10, 8)))


def test_an_installed_encoder_is_trained_and_transcribes(site: Any, tmp_path: Path) -> None:
    site.install(
        "linear-encoder",
        {"sepdash.encoders": {"linear": "linear_encoder.settings:LinearConfig", "bad": "no:No"}},
        {
            "linear_encoder/__init__.py": "",
            "linear_encoder/settings.py": SETTINGS,
            "linear_encoder/network.py": NETWORK,
        },
    )
    code = f"""
import json, sys
from pathlib import Path
from engine.config.errors import ConfigError
from engine.config.fields import kind_choices, list_settings
from engine.config.loading import load_config

folder = Path({str(tmp_path)!r})
"""
    code += """
import numpy as np, soundfile
rows = []
for number, text in enumerate(["low low", "top", "low top", "top top"]):
    tone = np.concatenate([np.sin(np.arange(2000) * (0.2 if w == "low" else 1.5)) for w in text.split()])
    soundfile.write(folder / f"{number}.wav", 0.3 * tone, 8000)
    rows.append(json.dumps({"path": f"{number}.wav", "text": text}))
(folder / "all.jsonl").write_text("\\n".join(rows) + "\\n")

def config_of(**model):
    data = {"kind": "speech", "train": str(folder / "all.jsonl"), "valid": str(folder / "all.jsonl"),
        "rate_hz": 8000, "num_mels": 16, "freq_mask_mels": 2, "min_s": 0.1}
    model = {"encoding_dim": 24, "embedding": 8, "lstm_hidden": 16, "lstm_layers": 1, **model}
    return load_config({"data": data, "model": model, "batch": {"items": 2, "micro_batch": 2},
        "schedule": {"length": "2 updates"}, "precision": {"device": "cpu", "threads": 1}})

def problem(**model):
    try:
        return config_of(**model).model.kind
    except ConfigError as error:
        return str(error)

answers = [problem(kind="linear"), problem(kind="linear", gain=0.0), problem(kind="bad")]
keys = [i.key for i in list_settings({"model": "linear"}) if i.key.startswith("model.")]
kinds = kind_choices()["model"]
torch_loaded = "torch" in sys.modules

import torch
from engine.recipes.registry import open_recipe
from engine.recipes.speech.transcribing import load_transcriber
from engine.training.trainer import Trainer

class Control:
    def stop_reason(self):
        return None

config = config_of(kind="linear", gain=2.0)
end = Trainer(config, open_recipe(config), folder=folder / "run", observers=[], control=Control()).fit()
transcriber = load_transcriber(folder / "run", torch.device("cpu"))
print(json.dumps([answers, keys, kinds, torch_loaded, end.outcome,
    type(transcriber._model.encoder).__name__, transcriber._model.encoder.gain]))
"""
    answers, keys, kinds, torch_loaded, outcome, encoder, gain = json.loads(
        site.run(code).splitlines()[-1]
    )
    assert answers[0] == "linear"
    assert "model.gain: expected a number > 0, <= 10, found 0.0" in answers[1]
    assert "unknown kind 'bad'" in answers[2]
    assert (
        "skipped an installed package: package linear-encoder: No module named 'no'" in answers[2]
    )
    assert keys[-2:] == ["model.kind", "model.gain"]
    assert "model.encoding_dim" in keys
    assert "model.layers" not in keys
    assert kinds[-1] == "linear"
    assert not torch_loaded
    assert (outcome, encoder, gain) == ("finished", "Linear", 2.0)
