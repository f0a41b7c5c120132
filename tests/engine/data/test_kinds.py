"""The table of the kinds of data, and kinds of installed packages."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import pytest

from engine.config.data import AudioData, BuiltInData, accept_data
from engine.config.data_settings import DataSettings
from engine.config.errors import ConfigError
from engine.data.kinds import kind_of
from models.base.settings import setting
from models.entry_points import find_plugins, load_target

SETTINGS = '''
from typing import ClassVar, Literal
from engine.config.data import AudioData
from models.settings import setting

class EchoData(AudioData):
    """Audio and its echo."""

    handler: ClassVar[str] = "echo_data.kind:ECHO"
    default_loss: ClassVar[str] = "l1"
    kind: Literal["echo"] = setting("echo", "Audio with an echo, to be taken off.")
    delay_s: float = setting(0.01, "Delay of the echo.", unit="s", gt=0, le=0.1)

    @property
    def source_names(self):
        return ("dry",)
'''
KIND = """
from engine.data.kinds import audio_kind

ECHO = audio_kind("echo_data.dataset:EchoDataset")
"""
DATASET = """
import numpy as np
from engine.data.files.headers import scan_indexed
from engine.data.files.source import make_sources, manifest_of
from engine.data.separation.dataset import AudioItem
from engine.data.separation.excerpts import Excerpts, OnExcerpts

class EchoDataset(OnExcerpts):
    def __init__(self, config, split):
        self._data = data = config.data
        setting = f"data.{split}"
        folder = data.train if split == "train" else data.valid
        infos = scan_indexed(folder, setting=setting)
        self._sources = make_sources(infos, data, setting=setting, split=split)
        self._excerpts = Excerpts([source.length for source in self._sources], config, split=split)
        self.manifest = manifest_of(folder, infos)

    def item(self, epoch, index):
        place = self._excerpts.locate(epoch, index)
        dry_CT = self._sources[place.file].read(place.start, place.frames)
        delay = round(self._data.delay_s * self._data.rate_hz)
        echo_CT = np.pad(dry_CT, ((0, 0), (delay, 0)))[:, : dry_CT.shape[1]]
        return AudioItem(place.pad(dry_CT + 0.5 * echo_CT), place.pad(dry_CT[None]))
"""


class Good(AudioData):
    """Complete."""

    handler: ClassVar[str] = "package.kind:GOOD"
    kind: Literal["good"] = setting("good", "A kind.")


class Nameless(AudioData):
    """Names no entry of the table."""

    kind: Literal["nameless"] = setting("nameless", "A kind.")


class Alone(DataSettings):
    """Names no recipes."""

    kind: Literal["alone"] = setting("alone", "A kind.")


class Lossless(Alone):
    """Names no loss."""

    recipes: ClassVar[frozenset[str]] = frozenset({"toy"})
    kind: Literal["lossless"] = setting("lossless", "A kind.")  # type: ignore[assignment]


def found_of(name: str, value: object) -> Any:
    class Point(EntryPoint):
        def load(self) -> object:
            return value

    points = [Point(name, f"package:{name}", "sepdash.data")]
    return find_plugins("sepdash.data", accept_data, taken=["stems"], points=points)


def test_a_good_kind_is_accepted() -> None:
    assert found_of("good", Good).parts == {"good": Good}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("stems", Good, "the name 'stems' is already taken"),
        ("other", Good, "must declare kind: Literal['other']"),
        ("good", "text", "is not a subclass of engine.config.data_settings.DataSettings"),
        ("nameless", Nameless, "handler must be 'package.module:name', found ''"),
        ("alone", Alone, "declares no recipes that train on it"),
        ("lossless", Lossless, "declares no default_loss"),
    ],
)
def test_a_broken_kind_is_left_out_with_the_reason(name: str, value: object, words: str) -> None:
    found = found_of(name, value)
    assert found.parts == {}
    assert words in found.broken[name]


@pytest.mark.parametrize("settings", get_args(BuiltInData), ids=lambda cls: cls.__name__)
def test_every_built_in_kind_has_its_entry(settings: type[DataSettings]) -> None:
    values = {"train": Path("a"), "valid": Path("b")}
    if "noise" in settings.model_fields:
        values["noise"] = Path("c")
    data = settings(**values)  # type: ignore[arg-type]
    assert callable(load_target(kind_of(data).dataset))
    assert data.recipes
    assert data.default_loss
    assert data.segment_samples > 0


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (
            "package.missing:KIND",
            "package.missing:KIND can't be imported (ModuleNotFoundError: No module",
        ),
        ("engine.data.kinds:audio_kind", "is not an engine.data.kinds.DataKind"),
    ],
)
def test_a_handler_that_fails_is_named(handler: str, words: str) -> None:
    broken = type("Broken", (Good,), {"handler": handler, "__annotations__": {}})
    data = broken(train=Path("a"), valid=Path("b"))
    with pytest.raises(ConfigError, match=r"data.kind: 'good' can't be used") as caught:
        kind_of(data)
    assert words in str(caught.value)


def test_an_installed_kind_is_checked_surveyed_and_trained_on(site: Any, tmp_path: Path) -> None:
    site.install(
        "echo-data",
        {"sepdash.data": {"echo": "echo_data.settings:EchoData", "bad": "echo_data.settings:No"}},
        {
            "echo_data/__init__.py": "", "echo_data/settings.py": SETTINGS,
            "echo_data/kind.py": KIND, "echo_data/dataset.py": DATASET,
        },
    )  # fmt: skip
    code = f"""
import json, sys
from pathlib import Path
import numpy as np, soundfile
from engine.config.errors import ConfigError, DataError
from engine.config.fields import kind_choices, list_settings
from engine.config.loading import load_config
from engine.data.kinds import check_data, data_warnings, survey_data
from engine.data.update_size import mean_update_size

folder = Path({str(tmp_path)!r})
for split in ("train", "valid"):
    (folder / split).mkdir()
    for number in range(2):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, 8000)
        soundfile.write(folder / split / f"{{number}}.wav", noise, 8000)

def config_of(**data):
    data = {{"kind": "echo", "train": str(folder / "train"), "valid": str(folder / "valid"),
        "rate_hz": 8000, "segment_s": 0.25, **data}}
    return load_config({{"data": data, "model": {{"width": 4, "strides": [2, 4]}},
        "batch": {{"items": 2, "micro_batch": 2}}, "schedule": {{"length": "3 updates"}},
        "validation": {{"full_files": False}}, "precision": {{"device": "cpu", "threads": 1}}}})

def problem(**data):
    try:
        check_data(config_of(**data).data)
    except (ConfigError, DataError) as error:
        return str(error)

config = config_of()
answers = {{
    "loss": config.loss.kind, "good": problem(), "delay": problem(delay_s=1.0),
    "folder": problem(valid=str(folder / "none")), "bad": problem(kind="bad"),
    "survey": [item.num_files for item in survey_data(config.data)],
    "warnings": data_warnings(config_of(valid=str(folder / "train")).data),
    "whole": mean_update_size(config_of(short_files="whole")).audio_seconds,
    "keys": [i.key for i in list_settings({{"data": "echo"}}) if i.key.startswith("data.d")],
    "kinds": kind_choices()["data"],
    "torch": "torch" in sys.modules,
}}

from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer

class Control:
    def stop_reason(self):
        return None

end = Trainer(config, open_recipe(config), folder=folder / "run", observers=[], control=Control()).fit()
print(json.dumps({{**answers, "outcome": end.outcome}}))
"""
    answers = json.loads(site.run(code).splitlines()[-1])
    assert answers["loss"] == "l1"
    assert answers["good"] is None
    assert "data.delay_s: expected a number > 0, <= 0.1, found 1.0" in answers["delay"]
    assert f"data.valid: folder {tmp_path / 'none'} does not exist" in answers["folder"]
    assert "has no attribute 'No'" in answers["bad"]
    assert answers["survey"] == [2, 2]
    assert "data.valid shares files with data.train" in answers["warnings"][0]
    assert answers["whole"] == pytest.approx(0.5)
    assert answers["keys"] == ["data.delay_s"]
    assert answers["kinds"][-1] == "echo"
    assert not answers["torch"]
    assert answers["outcome"] == "finished"
