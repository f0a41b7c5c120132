"""Each value of a preset is traced to the file and the line that set it."""

from __future__ import annotations

from pathlib import Path

import pytest

from presets import catalogue as shipped_presets
from presets.catalogue import Catalogue, PresetError
from presets.merging import leaves
from presets.origins import lines_of, trace_preset


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """Two shipped presets and two of a user: top -> base (user) -> base (shipped) -> root."""
    files = {
        "shipped/root.toml": '[data]\nkind = "stems"\nremix = 0.5\n[model]\nkind = "hybrid"\nbins = "all"\n'
        "width = 8\n[batch]\nitems = 4\nedges = 10\nbins = 7\n",
        "shipped/base.toml": 'extends = "root"\n\nbatch.items = 8\nbatch.edges = 20\n',
        "user/base.toml": '# mine\nextends = "base"\nbatch = { items = 16 }\n',
        "user/top.toml": 'extends = "base"\nseed = 3\n[model]\nkind = "audio_unet"\nstrides = [\n  2,\n  4,\n]\n'
        "[batch]\nitems = 32\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(shipped_presets, "SHIPPED", tmp_path / "shipped")
    return Catalogue(tmp_path / "user")


def places(catalogue: Catalogue, name: str) -> dict[str, tuple[str, str, int | None]]:
    traced = trace_preset(catalogue, name)
    assert all(origin.source == "preset" for origin in traced.origins.values())
    return {key: (origin.name, origin.layer, origin.line) for key, origin in traced.origins.items()}


def test_a_chain_of_four_files_with_a_user_preset_over_the_shipped_one_of_its_name(mine, tmp_path):
    assert places(mine, "top") == {
        "data.kind": ("root", "shipped", 2),
        "data.remix": ("root", "shipped", 3),
        # The kind changed, so nothing of [model] in `root` is left.
        "model.kind": ("top", "user", 4),
        "model.strides": ("top", "user", 5),
        "batch.items": ("top", "user", 10),
        "batch.edges": ("base", "shipped", 4),
        "batch.bins": ("root", "shipped", 11),
        "seed": ("top", "user", 2),
    }
    assert places(mine, "base")["batch.items"] == ("base", "user", 3)
    path = trace_preset(mine, "top").origins["batch.edges"].path
    assert path == tmp_path / "shipped" / "base.toml"


def test_the_values_are_those_of_the_catalogue(mine):
    for name in ("top", "base", "root"):
        assert trace_preset(mine, name).values == mine.read(name)


def test_every_value_of_every_shipped_preset_has_a_line_that_names_it():
    catalogue = Catalogue()
    for info in catalogue.list():
        traced = trace_preset(catalogue, info.name)
        assert set(traced.origins) == dict(leaves(catalogue.read(info.name))).keys()
        for key, origin in traced.origins.items():
            assert origin.path is not None
            assert origin.line is not None
            line = origin.path.read_text().splitlines()[origin.line - 1]
            assert line.startswith(f"{key.rpartition('.')[2]} = "), f"{info.name}: {key}: {line}"


def test_an_unknown_preset_is_refused(mine):
    with pytest.raises(PresetError, match="unknown preset 'tp'"):
        trace_preset(mine, "tp")


def test_lines_of_toml_in_every_notation():
    text = '''# a comment with x = 1
name = "a"   # [not.a.header]

a.b . c = 1
table = { x = 1, y.z = 2 }
list = [
  # y = 1
  [1],
  2,
]
text = """
[section]
key = 1
"""

[set]
"quoted.key" = 1
  [set.deep.er]   # indented
  key = [1]
[variants."2x"]
batch.items = 8
[empty]
'''
    assert lines_of(text) == {
        "name": 2, "a.b.c": 4, "table.x": 5, "table.y.z": 5, "list": 6, "text": 11,
        "set.quoted.key": 17, "set.deep.er.key": 19, "variants.2x.batch.items": 21,
    }  # fmt: skip
