"""The files of `examples/`: a package with a model that trains from the command line, presets, units."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from engine.data.synthetic import write_dataset
from tests.e2e.shell import Shell
from tests.pages import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EXAMPLES = ROOT / "examples"
OWN_MODEL = EXAMPLES / "own_model"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the example package on the path of children, with the metadata an installer writes."""
    project = tomllib.loads((OWN_MODEL / "pyproject.toml").read_text())["project"]
    folder = (
        tmp_path / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    )
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in named.items())
        for group, named in project["entry-points"].items()
    )
    (folder / "entry_points.txt").write_text(points)
    (folder.parent / "gated_conv").symlink_to(OWN_MODEL / "gated_conv")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(folder.parent)]))
    return folder.parent


@pytest.mark.usefixtures("installed")
def test_own_model_trains_from_its_preset(shell: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, tracks=2, duration_s=2.0, rate_hz=16_000)
    settings = {
        "data.train": data / "train", "data.valid": data / "valid", "data.noise": data / "train",
        "schedule.length": "4 updates", "model.width": 4, "precision.threads": 1,
    }  # fmt: skip
    assignments = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    shell.run("enqueue", "gated_conv/denoise", "--name", "own", *assignments)
    shell.run("worker", "--drain", "--device", "cpu")
    run = shell.show("own")
    assert run["run"]["state"] == "finished", run["run"]["message"]
    recording = sorted(data.glob("valid/*/voice.flac"))[0]
    shell.run("separate", "own", str(recording), "-o", str(tmp_path / "out"), "--device", "cpu")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["voice.denoised.wav"]
    assert "gated_conv" in shell.run("doctor")
    keys = {item["key"] for item in json.loads(shell.run("presets", "--settings", "--json"))}
    assert "model.width" in keys


def test_own_model_keeps_the_length_of_any_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OWN_MODEL))
    from gated_conv.settings import GatedConv  # type: ignore[import-not-found]

    network = GatedConv(width=4, layers=3).build(channels=2, sources=3)
    for length in (1, 7, 100):
        assert network(torch.randn(2, 2, length)).shape == (2, 3, 2, length)


@pytest.mark.usefixtures("installed")
def test_settings_of_the_own_model_load_no_torch() -> None:
    code = "import sys, gated_conv.settings; print('torch' in sys.modules)"
    command = [sys.executable, "-P", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_preset_and_the_experiment_can_be_planned(shell: Shell, tmp_path: Path) -> None:
    preset = shell.home / "presets" / "my-speech.toml"
    preset.parent.mkdir(parents=True, mode=0o700)
    preset.write_text((EXAMPLES / "presets" / "my-speech.toml").read_text())
    assert 'length = "1600 updates"' in shell.run("presets", "my-speech", "--full")
    data = tmp_path / "data"
    write_dataset(data, tracks=2, duration_s=2.0, rate_hz=16_000)
    experiment = str(EXAMPLES / "experiments" / "learning-rate.toml")
    where = [f"data.train={data}/train", f"data.valid={data}/valid", f"data.noise={data}/train"]
    assignments = [word for assignment in where for word in ("--set", assignment)]
    plan = json.loads(shell.run("sweep", experiment, "--dry-run", "--json", *assignments))
    names = [run["name"] for run in plan["runs"]]
    assert len(names) == 12
    assert names[0] == "learning-rate-narrow-lr3e-4-s0"


def test_the_service_starts_a_worker() -> None:
    unit = (EXAMPLES / "systemd" / "sepdash-worker.service").read_text()
    (command,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    program, *words = shlex.split(command.partition("=")[2])
    assert program == "%h/.local/bin/sepdash"
    from tui.cli.group import sepdash

    verb = sepdash.get_command(sepdash.make_context("sepdash", words), words[0])
    assert verb is not None
    assert verb.make_context(words[0], words[1:]).params["device"] == "auto"
