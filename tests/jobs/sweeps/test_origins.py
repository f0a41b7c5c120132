"""Every setting of a run is traced: file, experiment, variant, grid, matching, option or default."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.errors import ConfigError
from engine.config.loading import load_config
from jobs.sweeps.origins import SettingOrigin, preset_origins, variant_origins
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFiles
from presets.merging import leaves

TOP = """extends = "demo/batch2x"
[optimizer]
lr = 1e-3
"""
EXPERIMENT = """base = "mine"
match = "updates"
seeds = [5, 6]

[set]
optimizer.beta1 = 0.8
validation.every = "40 updates"

[variants.plain]

[variants.wide]
batch.items = 16

[grid]
ema.decay = [0.9, 0.99]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Catalogue:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "mine.toml").write_text(TOP)
    (tmp_path / "experiments" / "sweep.toml").write_text(EXPERIMENT)
    return Catalogue(tmp_path)


def by_key(settings: list[SettingOrigin]) -> dict[str, SettingOrigin]:
    return {item.key: item for item in settings}


def told(item: SettingOrigin) -> tuple[str, str, int | None]:
    return item.origin.source, item.origin.name, item.origin.line


def test_a_preset_with_options_names_file_option_or_default(mine):
    found = by_key(
        preset_origins(mine, "mine", assignments=["optimizer.eps=1e-6", "batch.items=2"])
    )
    assert told(found["optimizer.lr"]) == ("preset", "mine", 3)
    assert told(found["data.kind"]) == ("preset", "demo/baseline", 4)
    assert told(found["batch.items"]) == ("option", "batch.items=2", None)
    assert found["batch.items"].value == 2
    assert told(found["optimizer.eps"]) == ("option", "optimizer.eps=1e-6", None)
    assert told(found["optimizer.beta1"]) == ("default", "", None)


def test_every_setting_is_there_once_with_the_value_that_is_enqueued(mine):
    settings = preset_origins(mine, "mine")
    config = load_config(mine.read("mine"))
    assert {item.key: item.value for item in settings} == dict(leaves(config.to_dict()))


def test_of_two_options_for_a_setting_the_last_one_set_it(mine):
    found = by_key(
        preset_origins(mine, "mine", assignments=["batch.items=2", " batch . items = 6"])
    )
    assert found["batch.items"].value == 6
    assert found["batch.items"].origin.name == " batch . items = 6"


def test_an_option_with_a_whole_section_set_what_is_inside(mine):
    found = by_key(
        preset_origins(mine, "mine", assignments=['ema={decay = 0.5, per = "2 updates"}'])
    )
    assert told(found["ema.decay"]) == ("option", 'ema={decay = 0.5, per = "2 updates"}', None)
    assert told(found["ema.restart_at"]) == ("default", "", None)


def test_another_kind_by_option_leaves_the_shared_settings_with_their_file(mine):
    found = by_key(preset_origins(mine, "mine", assignments=["model.kind=spec_unet"]))
    assert told(found["model.kind"]) == ("option", "model.kind=spec_unet", None)
    assert told(found["model.width"]) == ("preset", "demo/baseline", 14)
    assert told(found["model.n_fft"]) == ("default", "", None)


@pytest.mark.parametrize("option", ["batch.items=0", "batch.item=2", "batch.items"])
def test_options_are_checked_as_enqueue_checks_them(mine, option):
    with pytest.raises(ConfigError, match="batch"):
        preset_origins(mine, "mine", assignments=[option])


def test_a_value_under_an_old_name_is_traced_to_its_line(mine, tmp_path):
    (tmp_path / "low.toml").write_text('extends = "mine"\n[validation]\nclips = 1\n')
    (tmp_path / "old.toml").write_text('extends = "low"\n[validation]\nsamples = 2\n')
    found = by_key(preset_origins(mine, "old"))
    assert found["validation.clips"].value == 2
    assert told(found["validation.clips"]) == ("preset", "old", 3)
    assert told(by_key(preset_origins(mine, "low"))["validation.clips"]) == ("preset", "low", 3)
    option = by_key(preset_origins(mine, "old", assignments=["validation.samples=3"]))[
        "validation.clips"
    ]
    assert (option.value, told(option)) == (3, ("option", "validation.samples=3", None))


def test_a_variant_under_old_names_is_traced_to_its_line(mine, tmp_path):
    text = EXPERIMENT.replace("optimizer.beta1 = 0.8", "validation.samples = 3")
    text = text.replace("batch.items = 16", "validation.segment_s = 1.0")
    (tmp_path / "experiments" / "sweep.toml").write_text(text)
    file = ExperimentFiles(tmp_path).open("sweep")
    found = by_key(variant_origins(file, mine, variant="wide-decay0.9"))
    assert (found["validation.clips"].value, told(found["validation.clips"])) == (
        3, ("experiment", "sweep", 6),
    )  # fmt: skip
    assert told(found["validation.segment_s"]) == ("variant", "wide", 12)


def test_a_variant_names_set_table_grid_matching_and_seeds(mine, tmp_path):
    file = ExperimentFiles(tmp_path).open("sweep")
    options = ["optimizer.eps=1e-6", "batch.micro_batch=4"]
    found = by_key(variant_origins(file, mine, variant="wide-decay0.99", assignments=options))
    assert told(found["optimizer.lr"]) == ("preset", "mine", 3)
    assert told(found["optimizer.beta1"]) == ("experiment", "sweep", 6)
    assert told(found["optimizer.eps"]) == ("option", "optimizer.eps=1e-6", None)
    assert told(found["batch.items"]) == ("variant", "wide", 12)
    assert told(found["ema.decay"]) == ("grid", "sweep", 15)
    # 1280 items in batches of 8 are 160 updates of the first variant.
    assert found["schedule.length"].value == "160 updates"
    assert told(found["schedule.length"]) == ("match", "plain-decay0.9", 2)
    assert told(found["validation.every"]) == ("experiment", "sweep", 7)
    assert told(found["seed"]) == ("seeds", "sweep", 3)
    assert found["seed"].value == 5
    assert told(found["optimizer.beta2"]) == ("default", "", None)
    assert found["batch.items"].origin.path == tmp_path / "experiments" / "sweep.toml"


def test_the_values_of_a_variant_are_those_of_its_plan(mine, tmp_path):
    file = ExperimentFiles(tmp_path).open("sweep")
    run = plan_sweep("sweep", file.values, mine).runs[2]
    settings = variant_origins(file, mine, variant=run.variant)
    assert {item.key: item.value for item in settings} == dict(leaves(run.config.to_dict()))


def test_an_unknown_variant_is_answered_with_the_nearest(mine, tmp_path):
    file = ExperimentFiles(tmp_path).open("sweep")
    with pytest.raises(
        ConfigError, match=r"no variant 'wide-decay0\.98', did you mean 'wide-decay0\.9"
    ):
        variant_origins(file, mine, variant="wide-decay0.98")
