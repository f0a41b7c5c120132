"""`sepdash presets --schema`: what it prints, and for which file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

PLUGIN = '''
from typing import Literal
from models.plugins import PluginModel
from models.settings import setting

class Toy(PluginModel):
    """One gain for each source."""

    kind: Literal["toy"] = setting("toy", "A gain for each source.")
    start: float = setting(0.5, "Gain at the start.", unit="dB", ge=0, le=1)

    def build(self, *, channels, sources):
        raise NotImplementedError
'''


def test_the_schema_of_presets_is_printed_and_that_of_experiments_on_request(sepdash):
    plain, preset, experiment = (
        json.loads(sepdash("presets", "--schema", *words).out)
        for words in ([], ["preset"], ["experiment"])
    )
    assert plain == preset
    assert preset["properties"]["extends"]["type"] == "string"
    assert preset["properties"]["batch"]["$ref"] == "#/$defs/BatchConfig"
    assert experiment["required"] == ["base"]
    assert set(experiment["properties"]) >= {"set", "variants", "grid", "seeds", "match"}


@pytest.mark.parametrize("word", ["run", "denoise/small"])
def test_another_word_is_refused(sepdash, word):
    answer = sepdash("presets", "--schema", word)
    assert answer.code == 2
    assert "'preset', 'experiment'" in answer.err


@pytest.mark.parametrize("option", ["--schema", "--settings"])
def test_what_covers_all_presets_takes_none(sepdash, option):
    answer = sepdash("presets", "demo/baseline", option)
    assert answer.code == 2
    assert f"{option} covers all presets; leave out 'demo/baseline'" in answer.err


def test_keywords_of_our_own_are_marked_as_such(sepdash):
    properties = json.loads(sepdash("presets", "--schema").out)["properties"]
    assert properties["init_from"]["x-refers-to"] == "run"
    own = properties["init_from"].keys() - {"anyOf", "type", "description", "minLength"}
    assert own == {"x-refers-to", "x-only-at-start"}


def test_an_installed_model_is_in_it(repository: Path, tmp_path: Path):
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (tmp_path / "toy_model.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sepdash.models]\ntoy = toy_model:Toy\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(tmp_path)])}
    result = subprocess.run(
        [sys.executable, "-P", "-m", "tui.main", "presets", "--schema"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    check = Draft202012Validator(json.loads(result.stdout))
    assert check.is_valid({"model": {"kind": "toy", "start": 0.25}})
    assert not check.is_valid({"model": {"kind": "toy", "start": 2.0}})
    assert not check.is_valid({"model": {"kind": "toy", "width": 8}})
