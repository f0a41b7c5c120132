"""What runs outside of this machine: `.ci/run`, workflows and issue forms."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pages import ROOT

GITHUB = ROOT / ".github"
FORMS = sorted((GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
# Programs that stand in for the real ones: each notes its call.
PROGRAMS = {"pip": 0, "uv": 0, "sudo": 1, "apt-get": 100}


def read(path: Path) -> dict[Any, Any]:
    values = yaml.safe_load(path.read_text())
    assert isinstance(values, dict)
    return values


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, as on a bare machine on which no package can be installed."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, code in PROGRAMS.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/calls"\nexit {code}\n')
        program.chmod(0o755)
    for name in ("bash", "dirname", "env", "id", "sh", "timeout"):
        (folder / name).symlink_to(shutil.which(name) or "")
    return folder


def run_ci(machine: Path) -> tuple[int, list[str]]:
    """Run `.ci/run` on a machine; return its exit code and the calls of the programs."""
    result = subprocess.run(
        [str(ROOT / ".ci" / "run")],
        env={"PATH": str(machine)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.returncode, (machine.parent / "calls").read_text().splitlines()


def test_the_gate_runs_where_no_package_can_be_installed(machine: Path) -> None:
    code, calls = run_ci(machine)
    assert code == 0
    assert calls[-2:] == ["pip install uv", "uv run pytest"]
    assert calls[:-2], "nothing was tried"
    assert not [call for call in calls if " install -y" in call]


def test_the_gate_runs_where_there_is_no_apt(machine: Path) -> None:
    (machine / "apt-get").unlink()
    code, calls = run_ci(machine)
    assert code == 0
    assert [call.split()[0] for call in calls] == ["pip", "uv", "uv", "uv", "pip", "uv"]
    assert calls[-2:] == ["pip install uv", "uv run pytest"]


def test_metrics_that_need_a_compiler_are_tried_one_by_one(machine: Path) -> None:
    """What they are asked for by is what the extra says; where the first fails the next is tried."""
    (machine / "uv").write_text(
        f'#!/bin/sh\necho "uv $*" >> "{machine.parent}/calls"\ncase "$*" in *pesq*) exit 1;; esac\n'
    )
    code, calls = run_ci(machine)
    assert code == 0
    wanted = " ".join(call for call in calls if call.startswith("uv pip install"))
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    assert {*wanted.replace("uv pip install -q", "").split(), *dev} >= set(extra["speech-metrics"])
    assert not any("pesq" in requirement for requirement in dev)
    assert calls[-1] == "uv run pytest"


def test_missing_packages_are_installed_one_by_one(machine: Path) -> None:
    for name in ("apt-get", "sudo"):
        (machine / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{machine.parent}/calls"\n')
    (machine / "id").unlink()
    (machine / "id").write_text("#!/bin/sh\necho 0\n")
    (machine / "id").chmod(0o755)
    (machine / "tmux").write_text("")
    (machine / "tmux").chmod(0o755)
    code, calls = run_ci(machine)
    assert code == 0
    installed = [call.split()[-1] for call in calls if " install -y" in call]
    assert installed == ["chromium", "espeak-ng"]
    assert calls[-1] == "uv run pytest"


def test_the_gate_fails_with_its_tests(machine: Path) -> None:
    (machine / "uv").write_text(f'#!/bin/sh\necho "uv $*" >> "{machine.parent}/calls"\nexit 3\n')
    code, _ = run_ci(machine)
    assert code == 3


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_has_what_a_form_needs(path: Path) -> None:
    form = read(path)
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 2
    assert all(field["attributes"]["label"] for field in fields)


def test_bug_form_requires_the_output_of_doctor() -> None:
    fields = {field.get("id"): field for field in read(GITHUB / "ISSUE_TEMPLATE/bug.yml")["body"]}
    assert "`sepdash doctor`" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"] is True


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_runs_the_gate_with_few_rights(path: Path) -> None:
    workflow = read(path)
    rights = {"gate": {"contents": "read"}, "release": {"contents": "write"}}
    assert workflow["permissions"] == rights[path.stem]
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]


def test_release_takes_its_notes_from_the_changelog(tmp_path: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    steps = read(GITHUB / "workflows" / "release.yml")["jobs"]["release"]["steps"]
    (check,) = [
        step["run"] for step in steps if "notes.md" in step.get("run", "") and "awk" in step["run"]
    ]
    for name in ("pyproject.toml", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())

    def released(tag: str) -> bool:
        environment = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
        command = ["bash", "-e", "-c", check]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 0

    assert released(f"v{version}")
    notes = (tmp_path / "notes.md").read_text()
    assert "First light" in notes or "###" in notes
    assert "\n## " not in notes
    assert not released("v99.0.0")


def test_changelog_names_versions_and_dates() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    versions = [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", h) for h in headings[1:]]
    assert headings[0] == "Unreleased" or re.match(r"\d", headings[0])
    assert versions
    assert all(versions)
    dates = [match[2] for match in versions if match]
    assert dates == sorted(dates, reverse=True)
