"""Presets of installed packages: listed, read, extended, never written; broken folders say why."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from models.entry_points import find_plugins
from presets.packages import GROUP, PresetFolder, accept_folder


def module(path: Path) -> ModuleType:
    it = ModuleType("toy.presets")
    it.__path__ = [str(path)]  # type: ignore[assignment]
    return it


def found_of(name: str, value: object) -> Any:
    class Point(EntryPoint):
        def load(self) -> object:
            return value

    points = [Point(name, "toy.presets", GROUP)]
    return find_plugins(GROUP, accept_folder, taken=["demo"], points=points)


def test_a_folder_of_presets_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text("")
    assert found_of("toy", module(tmp_path)).parts == {"toy": PresetFolder(tmp_path, "toy")}


def test_a_broken_folder_is_left_out_with_the_reason(tmp_path: Path) -> None:
    assert "holds no presets" in found_of("toy", module(tmp_path)).broken["toy"]
    assert "is no package" in found_of("toy", "text").broken["toy"]
    assert "is no package" in found_of("toy", ModuleType("toy")).broken["toy"]
    (tmp_path / "tiny.toml").write_text("")
    assert "already taken" in found_of("demo", module(tmp_path)).broken["demo"]


TINY = """description = "A tiny run."
extends = "denoise/small"
[optimizer]
lr = 0.5
"""


EXPERIMENT = """description = "Of the package."
base = "toy/tiny"
[grid]
optimizer.lr = [0.5, 0.25]
"""


@pytest.fixture
def packages(site: Any) -> Any:
    site.install(
        "toy-task",
        {"sepdash.presets": {"toy": "toy_task.presets", "bad": "toy_task.none", "demo": "toy_task.presets"}},
        {
            "toy_task/__init__.py": "", "toy_task/presets/tiny.toml": TINY,
            "toy_task/presets/deep/other.toml": 'extends = "toy/tiny"\n[optimizer]\nlr = 0.25\n',
            "toy_task/presets/experiments/one.toml": EXPERIMENT,
        },
    )  # fmt: skip
    return site


def test_presets_of_a_package_are_read_only_ones_under_its_name(
    packages: Any, tmp_path: Path
) -> None:
    code = f"""
import json
from pathlib import Path
from presets.catalogue import Catalogue, PresetError
user = Path({str(tmp_path / "user")!r})
catalogue = Catalogue(user)
infos = {{info.name: info for info in catalogue.list()}}
toys = [name for name in infos if name.startswith("toy/")]
answers = [toys, infos["toy/tiny"].origin, infos["toy/tiny"].description,
    catalogue.read("toy/deep/other")["optimizer"]["lr"], catalogue.read("toy/tiny")["data"]["kind"],
    catalogue.bases("toy/deep/other")]
path = catalogue.save("toy/tiny", {{"optimizer": {{"lr": 0.125}}}}, extends="toy/tiny")
again = Catalogue(user)
answers += [str(path.relative_to(user)), again.info("toy/tiny").origin,
    again.read("toy/tiny")["optimizer"]["lr"], again.read("toy/tiny")["data"]["kind"]]
print(json.dumps(answers))
"""
    toys, origin, description, lr, kind, bases, *saved = json.loads(packages.run(code))
    assert toys == ["toy/deep/other", "toy/tiny"]
    assert origin == "toy-task"
    assert description == "A tiny run."
    assert (lr, kind) == (0.25, "denoise")
    assert bases[:2] == ["toy/tiny", "denoise/small"]
    assert saved == ["toy/tiny.toml", "user", 0.125, "denoise"]


def test_the_command_line_lists_them_and_doctor_names_what_is_broken(packages: Any) -> None:
    listing = packages.start("-m", "tui.main", "presets")
    (row,) = [line for line in listing.splitlines() if line.startswith("toy/tiny ")]
    assert row.split()[1] == "toy-task"
    assert "lr = 0.5" in packages.start("-m", "tui.main", "presets", "toy/tiny")
    report = json.loads(
        packages.start("-m", "tui.main", "doctor", "--json", code=1).partition("]\n")[0] + "]"
    )
    checks = [item for item in report if item["area"] == "packages"]
    assert [(item["name"], item["verdict"]) for item in checks] == [
        ("presets", "ok"), ("presets", "problem"), ("presets", "problem"),
    ]  # fmt: skip
    assert checks[0]["text"] == "toy"
    assert "skipped bad: package toy-task: No module named 'toy_task.none'" in checks[1]["text"]
    assert "skipped demo: package toy-task: the name 'demo' is already taken" in checks[2]["text"]
    (found,) = [item for item in report if (item["area"], item["name"]) == ("presets", "found")]
    assert "2 of toy-task" in found["text"]


def test_experiments_of_a_package_are_listed_and_planned(packages: Any, tmp_path: Path) -> None:
    listing = packages.start("-m", "tui.main", "sweep")
    (row,) = [line for line in listing.splitlines() if line.startswith("toy/one ")]
    assert row.endswith("Of the package.")
    plan = packages.start("-m", "tui.main", "sweep", "toy/one", "--dry-run", "--json")
    runs = json.loads(plan)["runs"]
    assert [run["name"] for run in runs] == ["toy-one-lr0.5-s0", "toy-one-lr0.25-s0"]
    code = f"""
from pathlib import Path
from presets.experiment_files import ExperimentFiles
mine = Path({str(tmp_path)!r}) / "experiments" / "toy" / "one.toml"
mine.parent.mkdir(parents=True)
mine.write_text('base = "demo/baseline"')
files = [ExperimentFiles(), ExperimentFiles(Path({str(tmp_path)!r}))]
origins = [info.origin for it in files for info in it.list() if info.name == "toy/one"]
print(origins, files[1].open("toy/one").path == mine)
"""
    assert packages.run(code) == "['toy-task', 'user'] True\n"


PRESETS = ("-m", "tui.main", "presets")
NOISY = {
    "prints": "print('not an answer')",
    "leaves": "import sys; print('not an answer'); sys.exit('no licence')",
    "raises": r"raise OSError('one line\n and \x1b[31mred')",
}


@pytest.mark.parametrize("group", ["sepdash.presets", "sepdash.models", "sepdash.recipes"])
def test_a_package_that_prints_or_leaves_when_it_is_imported_disturbs_no_answer(site, group):
    """The standard output of a command is its answer, which may be JSON."""
    for name, text in NOISY.items():
        site.install(name, {group: {name: f"{name}_module:part"}}, {f"{name}_module.py": text})
    assert "demo/baseline" in [row["name"] for row in json.loads(site.start(*PRESETS, "--json"))]
    settings = json.loads(site.start(*PRESETS, "--settings", "--json"))
    assert "seed" in [row["key"] for row in settings]

    report = site.start("-m", "tui.main", "doctor", code=1)
    assert "skipped leaves: package leaves: no licence\n" in report
    assert "skipped raises: package raises: one line and red\n" in report.replace("[31m", "")
    assert "\x1b" not in report
