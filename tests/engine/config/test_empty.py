"""The word `none`: which settings it empties, in files and options alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.overrides import config_with

BASE: dict[str, Any] = {"data": {"kind": "bandwidth", "train": "a", "valid": "b"}}


def loaded(**sections: Any) -> Any:
    return load_config({**BASE, **sections})


def test_none_in_a_file_is_an_absent_value_or_an_empty_list() -> None:
    written = loaded(
        schedule={"warmup": "none", "milestones": "none"}, checkpoint={"best": "none"},
        ema={"restart_at": "none"}, init_from="none",
    )  # fmt: skip
    assert written.schedule == loaded(schedule={"warmup": None, "milestones": []}).schedule
    assert (written.checkpoint.best, written.ema.restart_at, written.init_from) == ((), None, None)
    assert config_with(BASE, ["checkpoint.best=none"]).checkpoint.best == ()


def test_text_that_may_not_be_empty_keeps_the_word() -> None:
    assert loaded(data={**BASE["data"], "train": "none"}).data.train.name == "none"
    assert loaded(model={"norm": "none"}).model.norm == "none"
    assert loaded(logging={"wandb_project": "none"}).logging.wandb_project == "none"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimizer": {"clip_norm": "none"}}, "optimizer.clip_norm: expected a number >= 0, found 'none'"),
        ({"loss": {"windows": "none"}}, "loss.windows: expected at least 1 value, found []"),
        ({"ema": "none"}, "ema: expected a section of settings, like ema.name = value, found 'none'"),
        ({"schedule": {"warmup": "nil"}}, "schedule.warmup: expected an amount and a clock"),
    ],
)  # fmt: skip
def test_what_can_not_be_empty_is_refused_with_what_it_expects(values, message) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(**values)
    assert str(caught.value).startswith(message)


PLUGIN = """
from typing import Literal
from models.plugins import PluginModel
from models.settings import Section, setting

class Gate(Section):
    channels: int = setting(4, "Channels of the gate.")
    taps: tuple[int, ...] = setting((1, 2), "Taps of the gate.")

class Config(PluginModel):
    kind: Literal["gated"] = setting("gated", "A gated network.")
    gate: Gate | None = setting(Gate(), "The gate.")

    def build(self, *, channels, sources):
        raise NotImplementedError
"""


def test_a_section_that_is_optional_may_be_empty_and_so_may_lists_in_it(site: Any) -> None:
    site.install("gated", {"sepdash.models": {"gated": "gated:Config"}}, {"gated.py": PLUGIN})
    code = f"""
import json
from jsonschema import Draft202012Validator
from engine.config.json_schema import preset_schema
from engine.config.loading import load_config
from engine.config.overrides import config_with
base = {BASE!r}
check = Draft202012Validator(preset_schema())
answers = []
for gate in ("none", {{"taps": "none"}}, {{"channels": 2}}):
    values = {{**base, "model": {{"kind": "gated", "gate": gate}}}}
    answers.append([load_config(values).to_dict()["model"]["gate"], check.is_valid(values)])
gated = ["model.kind=gated", "model.gate=none"]
answers.append(config_with(base, gated).model.gate)
answers.append(config_with(base, [*gated, "model.gate.channels=3"]).model.gate.channels)
print(json.dumps(answers))
"""
    assert json.loads(site.run(code)) == [
        [None, True], [{"channels": 4, "taps": []}, True], [{"channels": 2, "taps": [1, 2]}, True],
        None, 3,
    ]  # fmt: skip
