"""What installed packages add is in the form and the list of settings like anything built in."""

from __future__ import annotations

import json
from typing import Any

import pytest

SETTINGS = '''
from typing import ClassVar, Literal
from engine.config.data_settings import DataSettings
from engine.config.losses import PluginLoss
from engine.metrics.registry import Metric
from engine.recipes.specs import RecipeSpec
from models.plugins import PluginModel
from models.settings import setting

class ToyData(DataSettings):
    """Items of a toy."""

    recipes: ClassVar[frozenset[str]] = frozenset({"toy"})
    default_loss: ClassVar[str] = "toy"
    handler: ClassVar[str] = "toy_task.kind:TOY"
    kind: Literal["toy"] = setting("toy", "Items of a toy.")
    count: int = setting(8, "Items of a toy's epoch.", unit="items", ge=1)

class ToyModel(PluginModel):
    """A network of a toy."""

    recipes: ClassVar[frozenset[str]] = frozenset({"toy"})
    kind: Literal["toy"] = setting("toy", "A network of a toy.")
    width: int = setting(4, "Channels of a toy.", ge=1)

    def build(self, **sizes):
        raise NotImplementedError

class ToyLoss(PluginLoss):
    """A loss of a toy."""

    recipe: ClassVar[str] = "toy"
    kind: Literal["toy"] = setting("toy", "A loss of a toy.")
    margin: float = setting(0.5, "Margin of a toy.", ge=0)

TOY = RecipeSpec(
    name="toy", title="a toy", opens="toy_task.recipe:open_toy",
    metrics=(Metric("toys", "toys", "%", 100.0),), headline="toys",
)
'''
PRESET = """description = "A toy."
[data]
kind = "toy"
train = "a"
valid = "b"
[model]
kind = "toy"
"""


@pytest.fixture
def toy(site: Any) -> Any:
    groups = {"data": "ToyData", "models": "ToyModel", "losses": "ToyLoss", "recipes": "TOY"}
    points = {
        f"sepdash.{group}": {"toy": f"toy_task.parts:{name}"} for group, name in groups.items()
    }
    site.install(
        "toy-task",
        {**points, "sepdash.presets": {"toy": "toy_task.presets"}},
        {
            "toy_task/__init__.py": "", "toy_task/parts.py": SETTINGS,
            "toy_task/presets/tiny.toml": PRESET,
        },
    )  # fmt: skip
    return site


def test_the_form_shows_the_settings_of_a_package(toy: Any) -> None:
    code = """
import json, sys
from presets.catalogue import Catalogue
from tui.live.draft import Draft

def shown(draft):
    return {f.info.key: f.text for f in draft.fields() if f.info.key.partition(".")[0] in
        ("data", "model", "loss")}

draft = Draft("toy/tiny", Catalogue().read("toy/tiny"))
before = shown(draft)
infos = {state.info.key: state.info for state in draft.fields()}
draft.edit(infos["loss.margin"], "-1")
wrong = dict(draft.check().problems)
draft.edit(infos["loss.margin"], "0.25")
config = draft.check().config
draft.edit(infos["loss.kind"], "l1")
misfit = draft.check().general
draft.reset(infos["loss.kind"])
print(json.dumps([before, wrong, config.recipe, config.loss.margin, misfit, draft.changes,
    "torch" in sys.modules]))
"""
    before, wrong, recipe, margin, misfit, changes, torch_loaded = json.loads(toy.run(code))
    assert before == {
        "data.kind": "toy", "data.train": "a", "data.valid": "b", "data.rate_hz": "16000",
        "data.count": "8", "model.kind": "toy", "model.width": "4", "loss.kind": "toy",
        "loss.margin": "0.5",
    }  # fmt: skip
    assert wrong == {"loss.margin": "expected a number >= 0, found -1"}
    assert (recipe, margin) == ("toy", 0.25)
    assert len(misfit) == 1
    assert "loss.kind = 'l1' trains separation, but data.kind = 'toy' is for toy" in misfit[0]
    assert "set loss.kind to toy, or leave it out for toy" in misfit[0]
    assert changes == []
    assert not torch_loaded


def test_the_command_line_lists_the_settings_of_a_package(toy: Any) -> None:
    listed = json.loads(toy.start("-m", "tui.main", "presets", "--settings", "--json"))
    by_key = {item["key"]: item for item in listed}
    assert by_key["data.count"]["help"] == "Items of a toy's epoch."
    assert by_key["loss.margin"]["default"] == 0.5
    for section in ("data", "model", "loss"):
        assert by_key[f"{section}.kind"]["choices"][-1] == "toy"
    full = toy.start("-m", "tui.main", "presets", "toy/tiny", "--full")
    assert "margin = 0.5" in full


@pytest.mark.parametrize(
    "first",
    ["toy_task.parts", "engine.recipes.specs", "engine.data.kinds", "engine.metrics.registry"],
)
def test_parts_are_whole_whichever_module_is_imported_first(toy: Any, first: str) -> None:
    code = f"""
import {first}
from engine.config.fields import kind_choices
from engine.config.kinds import installed_kinds
from engine.recipes.specs import installed_recipes
from engine.metrics.registry import metric_of
assert metric_of("toys_ema").text(0.125) == "12.5%"
print([kinds[-1] for kinds in kind_choices().values()], list(installed_recipes().parts),
    [dict(plugins.broken) for plugins in (*installed_kinds(), installed_recipes())])
"""
    kinds, recipes, broken = "['toy', 'toy', 'toy']", "['toy']", "[{}, {}, {}, {}, {}]"
    assert toy.run(code).strip() == f"{kinds} {recipes} {broken}"
