"""Recipes and losses of installed packages: accepted, refused with the reason, trained."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from engine.config.errors import ConfigError
from engine.config.hubert import HubertLoss
from engine.config.losses import PluginLoss, accept_loss
from engine.metrics.registry import Metric
from engine.recipes.self_supervised.masked_prediction import frame_sums
from engine.recipes.specs import BUILT_IN, RecipeSpec, accept_recipe, spec_of
from models.base.settings import setting
from models.entry_points import Plugins, find_plugins, load_target

POWER = '''
from typing import Literal
from engine.config.losses import PluginLoss
from models.settings import setting

class PowerLoss(PluginLoss):
    """Mean difference to a power."""

    kind: Literal["power"] = setting("power", "Mean of a power of the difference.")
    exponent: float = setting(2.0, "The power.", ge=1, le=4)

    def build(self):
        from power_loss.tensors import power
        return power(self.exponent)
'''
TENSORS = """
import torch

def power(exponent):
    return lambda est, ref: (est - ref).abs().pow(exponent).flatten(1).mean(dim=1)
"""
TOY = """
from typing import ClassVar, Literal
from engine.config.losses import PluginLoss
from engine.recipes.specs import RecipeSpec
from models.plugins import PluginModel
from models.settings import setting

TOY = RecipeSpec(name="toy", title="a toy", opens="toy_task.recipe:open_toy", headline="val_loss")
"""
TOY_LOSS = '''
from typing import ClassVar, Literal
from engine.config.losses import PluginLoss
from models.settings import setting

class ToyLoss(PluginLoss):
    """A toy."""

    recipe: ClassVar[str] = "toy"
    kind: Literal["toy"] = setting("toy", "A toy's loss.")
'''


def accepted_losses(*points: EntryPoint) -> Plugins[type[PluginLoss]]:
    return find_plugins("sepdash.losses", accept_loss, taken=["l1"], points=points)


def accepted_recipes(*points: EntryPoint) -> Plugins[RecipeSpec]:
    return find_plugins(
        "sepdash.recipes", accept_recipe, taken=["separation", "transducer"], points=points
    )


def point(name: str, value: object) -> EntryPoint:
    class Point(EntryPoint):
        def load(self) -> object:
            return value

    return Point(name, f"package:{name}", "group")


class Good(PluginLoss):
    """Of another recipe, so it has nothing to build for separation."""

    recipe: ClassVar[str] = "toy"
    kind: Literal["good"] = setting("good", "A loss.")


class Bare(PluginLoss):
    """Of separation, without `build`."""

    kind: Literal["bare"] = setting("bare", "A loss.")


class OfCtc(Bare):
    """Of a recipe that would never ask for it."""

    recipe: ClassVar[str] = "ctc"
    kind: Literal["of_ctc"] = setting("of_ctc", "A loss.")  # type: ignore[assignment]


class OfHubert(OfCtc):
    """Of HuBERT, without its settings."""

    recipe: ClassVar[str] = "hubert"
    kind: Literal["of_hubert"] = setting("of_hubert", "A loss.")  # type: ignore[assignment]


class Focal(PluginLoss, HubertLoss):
    """Of HuBERT, complete."""

    kind: Literal["focal"] = setting("focal", "A loss.")  # type: ignore[assignment]

    def build(self) -> Any:
        return lambda logits_NK, label_N: logits_NK.sum()


SPEC = RecipeSpec(name="toy", title="a toy", opens="toy.recipe:open_toy")


def test_good_parts_are_accepted() -> None:
    assert accepted_losses(point("good", Good)).parts == {"good": Good}
    assert accepted_losses(point("focal", Focal)).parts == {"focal": Focal}
    assert accepted_recipes(point("toy", SPEC)).parts == {"toy": SPEC}
    measured = replace(SPEC, metrics=(Metric("accuracy", "accuracy"),), headline="accuracy")
    assert accepted_recipes(point("toy", measured)).parts == {"toy": measured}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("l1", Good, "the name 'l1' is already taken"),
        ("other", Good, "must declare kind: Literal['other']"),
        ("good", 7, "is not a subclass of engine.config.losses.PluginLoss"),
        ("bare", Bare, "has no method `build`, which recipe separation requires"),
        (
            "of_ctc",
            OfCtc,
            "recipe ctc computes its own loss; only the losses of separation, hubert",
        ),
        ("of_hubert", OfHubert, "must be a subclass of engine.config.hubert.HubertLoss, too"),
    ],
)
def test_a_broken_loss_is_left_out_with_the_reason(name: str, value: object, words: str) -> None:
    found = accepted_losses(point(name, value))
    assert found.parts == {}
    assert words in found.broken[name]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("separation", SPEC, "the name 'separation' is already taken"),
        ("other", SPEC, "is named 'toy', but its entry point is named 'other'"),
        ("toy", Good, "is not an engine.recipes.specs.RecipeSpec"),
        ("toy", replace(SPEC, opens="toy.recipe"), "opens must be 'package.module:name'"),
        ("toy", replace(SPEC, metrics=("accuracy",)), "must be engine.metrics.metric.Metric"),
        (
            "toy",
            replace(SPEC, metrics=(Metric("wer", "W"),)),
            "the metric 'wer' is built in; leave it out of metrics if yours means the same, else give",
        ),
        (
            "toy",
            replace(SPEC, headline="accuracy"),
            "headline 'accuracy' is not one of its metrics",
        ),
    ],
)
def test_a_broken_recipe_is_left_out_with_the_reason(name: str, value: object, words: str) -> None:
    found = accepted_recipes(point(name, value))
    assert found.parts == {}
    assert words in found.broken[name]


def test_a_loss_of_hubert_without_a_value_for_each_frame_is_named() -> None:
    mask_BL, local_BLC = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, 2)
    with pytest.raises(
        ValueError, match=r"loss.kind = 'focal': .* shape \(\) for 3 frames, expected one"
    ):
        frame_sums(
            torch.zeros(3, 4), torch.zeros(1, 3, dtype=torch.int64), mask_BL=mask_BL,
            local_BLC=local_BLC, loss=Focal(),
        )  # fmt: skip


@pytest.mark.parametrize("spec", BUILT_IN, ids=lambda spec: spec.name)
def test_built_in_recipes_are_where_their_specs_say(spec: RecipeSpec) -> None:
    assert callable(load_target(spec.opens))
    assert spec_of(spec.name) is spec


@pytest.mark.parametrize("target", ["engine.events", "engine.events:", ":name", "engine.events:no"])
def test_a_target_that_names_nothing_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"must be 'package.module:name'|has no 'no'"):
        load_target(target)


def test_a_target_that_fails_is_named_with_the_reason() -> None:
    spec = replace(SPEC, opens="toy.recipe:open_toy")
    with pytest.raises(
        ValueError, match=r"toy\.recipe:open_toy can't be imported \(ModuleNotFound"
    ):
        spec.open(None, opening=None)


def test_an_unknown_recipe_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"trains toy, but no recipe has that name; expected one"):
        spec_of("toy")


def test_an_installed_loss_is_a_kind_like_any_other_and_trains(site: Any, tmp_path: Path) -> None:
    site.install(
        "power-loss",
        {"sepdash.losses": {"power": "power_loss.settings:PowerLoss", "bad": "power_loss.no:No"}},
        {
            "power_loss/__init__.py": "",
            "power_loss/settings.py": POWER,
            "power_loss/tensors.py": TENSORS,
        },
    )
    code = f"""
import json, sys
from pathlib import Path
from engine.config.errors import ConfigError
from engine.config.fields import kind_choices, list_settings
from engine.config.loading import load_config

folder = Path({str(tmp_path)!r})
data = {{"kind": "stems", "train": str(folder / "data/train"), "valid": str(folder / "data/valid"),
        "rate_hz": 8000, "segment_s": 0.25, "targets": ["voice"], "others": ["noise"]}}
def config_of(**loss):
    return load_config({{"data": data, "loss": loss, "model": {{"width": 4, "strides": [2, 4]}},
        "batch": {{"items": 2, "micro_batch": 2}}, "schedule": {{"length": "3 updates"}},
        "precision": {{"device": "cpu", "threads": 1}}}})
def problem(**loss):
    try:
        return config_of(**loss).loss.kind
    except ConfigError as error:
        return str(error)

answers = [problem(kind="power", exponent=3.0), problem(kind="power", exponent=9.0),
    problem(kind="power", windows=[64]), problem(kind="bad")]
keys = [i.key for i in list_settings({{"loss": "power"}}) if i.key.startswith("loss.")]
torch_loaded = "torch" in sys.modules

from engine.data.synthetic import write_dataset
from engine.events import Evaluated
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer
write_dataset(folder / "data", tracks=2, duration_s=1.0, rate_hz=8000)

class Control:
    def stop_reason(self):
        return None

class Losses:
    def __init__(self):
        self.values = []
    def on_event(self, event):
        if isinstance(event, Evaluated):
            self.values.append(event.metrics["val_loss"])

def first_loss(exponent):
    losses = Losses()
    config = config_of(kind="power", exponent=exponent)
    end = Trainer(config, open_recipe(config), folder=folder / f"run{{exponent}}", observers=[losses],
        control=Control()).fit()
    return end.outcome, losses.values[0]
print(json.dumps([answers, keys, kind_choices()["loss"], torch_loaded, first_loss(1.0), first_loss(2.0)]))
"""
    answers, keys, kinds, torch_loaded, by_one, by_two = json.loads(site.run(code))
    assert answers[0] == "power"
    assert "<= 4, found 9" in answers[1]
    assert "windows belongs to loss.kind = 'spectral'" in answers[2]
    assert "unknown kind 'bad'" in answers[3]
    assert (
        "skipped an installed package: package power-loss: No module named 'power_loss.no'"
        in answers[3]
    )
    assert keys == ["loss.kind", "loss.exponent"]
    assert kinds[:4] == ["spectral", "si_sdr", "l1", "rnnt"]
    assert kinds[-1] == "power"
    assert not torch_loaded
    assert by_one[0] == by_two[0] == "finished"
    assert 0 < by_two[1] < by_one[1] < 1


def test_a_loss_whose_recipe_is_missing_is_refused_before_the_queue(site: Any) -> None:
    site.install(
        "toy-task",
        {
            "sepdash.losses": {"toy": "toy_task.settings:ToyLoss"},
            "sepdash.recipes": {"toy": "toy_task.spec:MISSING"},
        },
        {
            "toy_task/__init__.py": "",
            "toy_task/spec.py": TOY,
            "toy_task/settings.py": TOY_LOSS,
        },
    )
    code = """
import sys
from engine.config.errors import ConfigError
from engine.recipes.specs import spec_of
try:
    spec_of("toy")
except ConfigError as error:
    print(error, "torch" in sys.modules)
"""
    text = site.run(code)
    assert (
        "loss.kind: trains toy, but no recipe has that name (skipped an installed package" in text
    )
    assert "package toy-task: " in text
    assert text.strip().endswith("False")
