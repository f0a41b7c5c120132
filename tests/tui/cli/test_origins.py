"""`sepdash presets NAME --origins` and `sepdash sweep NAME --origins VARIANT`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from presets.catalogue import SHIPPED


@pytest.fixture
def user_preset(tmp_path: Path) -> Path:
    """A user's demo/batch2x over the shipped one, in the home of the test."""
    path = tmp_path / "home" / "presets" / "demo" / "batch2x.toml"
    path.parent.mkdir(parents=True)
    path.write_text('extends = "demo/batch2x"\n[model]\nkind = "conv_tasnet"\nfeatures = 32\n')
    return path


def rows(text: str) -> dict[str, str]:
    header, *lines = text.splitlines()
    at = header.index("SET BY")
    return {line.split()[0]: line[at:] for line in lines}


def test_each_value_is_printed_with_what_set_it(sepdash, user_preset):
    answer = sepdash("presets", "demo/batch2x", "--origins", "--set", "optimizer.lr=1e-3")
    table = rows(answer.out)
    assert table["model.kind"] == "demo/batch2x (user), line 3"
    assert table["model.features"] == "demo/batch2x (user), line 4"
    assert table["model.mask_layers"] == "default"
    assert "model.width" not in table
    assert table["batch.items"] == "demo/batch2x (shipped), line 5"
    assert table["data.kind"] == "demo/baseline (shipped), line 4"
    assert table["optimizer.lr"] == "--set optimizer.lr=1e-3"
    assert answer.err.splitlines() == [
        f"demo/baseline (shipped)  {SHIPPED / 'demo' / 'baseline.toml'}",
        f"demo/batch2x (shipped)   {SHIPPED / 'demo' / 'batch2x.toml'}",
        f"demo/batch2x (user)      {user_preset}",
    ]


def test_show_before_the_name_changes_nothing(sepdash):
    words = ("demo/batch2x", "--origins")
    assert sepdash("presets", "show", *words).out == sepdash("presets", *words).out


def test_json_holds_a_record_for_each_setting(sepdash, user_preset):
    found = json.loads(sepdash("presets", "demo/batch2x", "--origins", "--json").out)
    values = json.loads(sepdash("presets", "demo/batch2x", "--json").out)
    records = {item["key"]: item for item in found}
    assert len(records) == len(found) > 60
    assert records["model.features"] == {
        "key": "model.features", "value": 32, "source": "preset", "name": "demo/batch2x",
        "layer": "user", "path": str(user_preset), "line": 4,
    }  # fmt: skip
    assert records["optimizer.lr"]["value"] == values["optimizer"]["lr"]
    assert records["seed"]["source"] == "default"


def test_the_same_options_change_the_other_views(sepdash):
    full = sepdash("presets", "demo/batch2x", "--full", "--set", "seed=7").out
    assert "seed = 7" in full.splitlines()[:3]
    assert (
        json.loads(sepdash("presets", "demo/batch2x", "--json", "--set", "seed=7").out)["seed"] == 7
    )


def test_mistakes_end_with_a_message(sepdash):
    wrong = sepdash("presets", "demo/batch2x", "--origins", "--set", "optimizer.lrr=1")
    assert wrong.code == 2
    assert "did you mean 'lr'" in wrong.err
    assert "--origins requires a PRESET" in sepdash("presets", "--origins").err
    assert "--set needs" in sepdash("presets", "demo/batch2x", "--set", "seed=7").err
    assert "--origins needs an EXPERIMENT" in sepdash("sweep", "--origins", "a").err
    unknown = sepdash("sweep", "demo-batch", "--origins", "batch4x")
    assert unknown.code == 2
    assert "did you mean 'batch2x'" in unknown.err


def test_a_variant_of_an_experiment_is_traced_and_nothing_is_queued(sepdash):
    answer = sepdash("sweep", "demo-batch", "--origins", "batch2x", "--set", "seed=1")
    table = rows(answer.out)
    assert table["batch.items"] == "demo-batch.toml, variant batch2x, line 9"
    assert table["schedule.per"] == "demo-batch.toml, matched to baseline, line 3"
    assert table["data.kind"] == "demo/baseline (shipped), line 4"
    assert table["optimizer.beta1"] == "default"
    assert json.loads(sepdash("runs", "--json").out) == []
