"""A model of another package: found by its metadata, checked, built, trained; broken ones say why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch

from models.base.settings import setting
from models.entry_points import Plugins, find_plugins
from models.plugins import GROUP, PluginModel, accept_model
from models.registry import build_model

SETTINGS = '''
from typing import ClassVar, Literal
from models.plugins import PluginModel
from models.settings import setting

class ToyConfig(PluginModel):
    """One gain for each source."""

    rates_hz: ClassVar[tuple[int, int]] = (8000, 16000)
    kind: Literal["toy"] = setting("toy", "A gain for each source.")
    start: float = setting(0.5, "Gain at the start.", ge=0, le=1)

    def build(self, *, channels, sources):
        from toy_model.network import Toy
        return Toy(self.start, sources)
'''
NETWORK = """
import torch

class Toy(torch.nn.Module):
    def __init__(self, start, sources):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.full((sources, 1, 1), start))

    def forward(self, mix):
        return mix.unsqueeze(1) * self.gain
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the package `toy-model` installed in it, and a second one that is broken."""
    site = tmp_path / "site"
    package = site / "toy_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "settings.py").write_text(SETTINGS)
    (package / "network.py").write_text(NETWORK)
    install(site, "toy-model", "toy = toy_model.settings:ToyConfig")
    install(site, "bad-model", "bad = bad_model:Config")
    return site


def install(site: Path, name: str, point: str) -> None:
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{point}\n")


def run_python(repository: Path, site: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(site)])}
    command = [sys.executable, "-P", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_an_installed_model_is_a_kind_like_any_other(repository: Path, site: Path) -> None:
    code = """
import json, sys
from engine.config.fields import list_settings
from engine.config.errors import ConfigError
from engine.config.loading import load_config

def problem(**model):
    data = {"kind": "denoise", "train": "a", "valid": "b", "noise": "c", "rate_hz": 16000}
    try:
        config = load_config({"data": data, "model": model})
    except ConfigError as error:
        return str(error)
    again = load_config(json.loads(config.to_json()))
    assert again == config and again.fingerprint == config.fingerprint
    return type(config.model).__name__

answers = [problem(kind="toy", start=0.25), problem(kind="toy", start=2), problem(kind="bad")]
keys = [item.key for item in list_settings({"model": "toy"}) if item.key.startswith("model.")]
kinds = next(item.choices for item in list_settings() if item.key == "model.kind")
print(json.dumps([answers, keys, kinds, "torch" in sys.modules]))
"""
    answers, keys, kinds, torch_loaded = json.loads(run_python(repository, site, code))
    assert answers[0] == "ToyConfig"
    assert "<= 1, found 2" in answers[1]
    assert "model.kind: unknown kind 'bad'" in answers[2]
    assert "package bad-model: No module named 'bad_model'" in answers[2]
    assert keys == ["model.kind", "model.start"]
    assert kinds[0] == "audio_unet"
    assert kinds[-1] == "toy"
    assert not torch_loaded


def test_an_installed_model_trains_and_is_loaded_from_its_checkpoint(
    repository: Path, site: Path, tmp_path: Path
) -> None:
    code = f"""
from pathlib import Path
import torch
from engine.checkpoints.find import find_checkpoint, load_model
from engine.config.loading import load_config
from engine.data.synthetic import write_dataset
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer

class Control:
    def stop_reason(self):
        return None

folder = Path({str(tmp_path)!r})
write_dataset(folder / "data", tracks=2, duration_s=1.0)
data = {{"kind": "stems", "train": str(folder / "data/train"), "valid": str(folder / "data/valid"),
        "rate_hz": 8000, "segment_s": 0.5, "targets": ["voice"], "others": ["noise"]}}
config = load_config({{"data": data, "model": {{"kind": "toy"}}, "batch": {{"items": 2, "micro_batch": 2}},
    "schedule": {{"length": "3 updates"}}, "precision": {{"device": "cpu", "threads": 1}}}})
end = Trainer(config, SeparationRecipe(config), folder=folder / "run", observers=[], control=Control()).fit()
config, model = load_model(find_checkpoint(folder / "run"))
print(type(config.model).__name__, type(model).__name__, 0 < abs(float(model.gain) - 0.5) < 0.1)
"""
    assert run_python(repository, site, code).split() == ["ToyConfig", "Toy", "True"]


class Good(PluginModel):
    """Puts out its input."""

    kind: Literal["good"] = setting("good", "An identity.")

    def build(self, *, channels: int, sources: int) -> torch.nn.Module:
        return torch.nn.Identity()


class Lazy(PluginModel):
    """Has no `build`."""

    kind: Literal["lazy"] = setting("lazy", "Nothing.")


class Silent(Good):
    """Has a setting without help."""

    kind: Literal["silent"] = setting("silent", "An identity.")  # type: ignore[assignment]
    width: int = 3


class Wrong(Good):
    """Builds what is no network."""

    rates_hz: ClassVar[tuple[int, int]] = (8000, 8000)
    kind: Literal["wrong"] = setting("wrong", "A text.")  # type: ignore[assignment]

    def build(self, *, channels: int, sources: int) -> str:  # type: ignore[override]
        return "network"


def point(name: str, value: object) -> EntryPoint:
    class Point(EntryPoint):
        def load(self) -> object:
            return value

    return Point(name, f"package:{name}", GROUP)


def found_of(*points: EntryPoint) -> Plugins[type[PluginModel]]:
    return find_plugins(GROUP, accept_model, taken=["audio_unet"], points=points)


def test_a_good_model_is_found() -> None:
    found = found_of(point("good", Good))
    assert found.parts == {"good": Good}
    assert found.broken == {}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("audio_unet", Good, "the name 'audio_unet' is already taken"),
        ("other", Good, "must declare kind: Literal['other']"),
        ("good", "text", "is not a subclass of models.plugins.PluginModel"),
        ("lazy", Lazy, "has no method `build`"),
        ("silent", Silent, "no help text for width"),
    ],
)
def test_a_broken_model_is_left_out_with_the_reason(name: str, value: object, words: str) -> None:
    found = found_of(point(name, value))
    assert found.parts == {}
    assert words in found.broken[name]
    assert words in found.why_missing(name)
    assert found.why_missing("another") == ""


def test_of_two_models_of_one_kind_the_second_is_left_out() -> None:
    found = found_of(point("good", Good), point("good", Good))
    assert found.parts == {"good": Good}
    assert "already taken" in found.broken["good"]


def test_what_is_built_must_be_a_network() -> None:
    assert isinstance(build_model(Good(), channels=1, sources=1), torch.nn.Module)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"returned str, expected a torch\.nn\.Module"):
        build_model(Wrong(), channels=1, sources=1)  # type: ignore[arg-type]
