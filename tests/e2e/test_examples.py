"""The files of `examples/`: packages with a model and a recipe, installed and trained; presets, units."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from engine.config.counters import Counters
from engine.data.synthetic import write_dataset
from engine.recipes.base import Opening, UpdateMade
from tests.e2e.shell import Shell
from tests.pages import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EXAMPLES = ROOT / "examples"
OWN_MODEL = EXAMPLES / "own_model"
OWN_RECIPE = EXAMPLES / "own_recipe"


def words_of(settings: dict[str, object]) -> list[str]:
    """Return the `--set` words of settings."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def test_own_model_trains_from_its_preset(install: Callable[[Path], Shell], tmp_path: Path) -> None:
    shell = install(OWN_MODEL)
    data = tmp_path / "data"
    write_dataset(data, tracks=2, duration_s=2.0, rate_hz=16_000)
    settings = {
        "data.train": data / "train", "data.valid": data / "valid", "data.noise": data / "train",
        "schedule.length": "4 updates", "model.width": 4, "precision.threads": 1,
    }  # fmt: skip
    shell.run("enqueue", "gated_conv/denoise", "--name", "own", *words_of(settings))
    shell.run("worker", "--drain", "--device", "cpu")
    run = shell.show("own")
    assert run["run"]["state"] == "finished", run["run"]["message"]
    recording = sorted(data.glob("valid/*/voice.flac"))[0]
    shell.run("separate", "own", str(recording), "-o", str(tmp_path / "out"), "--device", "cpu")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["voice.denoised.wav"]
    assert "gated_conv" in shell.run("doctor")
    keys = {item["key"] for item in json.loads(shell.run("presets", "--settings", "--json"))}
    assert "model.width" in keys
    code = "import sys, gated_conv.settings; print('torch' in sys.modules)"
    assert python(code) == "False"


def test_own_recipe_trains_from_its_preset(
    install: Callable[[Path], Shell], tmp_path: Path
) -> None:
    shell = install(OWN_RECIPE)
    data = tmp_path / "data"
    write_dataset(data, tracks=2, duration_s=3.0, rate_hz=16_000)
    settings = {
        "data.train": data / "train", "data.valid": data / "valid", "data.segment_s": 0.5,
        "schedule.length": "6 updates", "validation.every": "3 updates", "logging.every": "1 updates",
        "batch.items": 4, "batch.micro_batch": 2, "model.width": 8, "precision.threads": 1,
    }  # fmt: skip
    assert "hidden_share" in shell.run(
        "presets", "masked_frames/small", "--full", *words_of(settings)
    )
    for name, more in (("whole", {}), ("continued", {"init_from": "whole"})):
        words = words_of({**settings, **more})
        shell.run("enqueue", "masked_frames/small", "--name", name, *words)
    shell.run("worker", "--drain", "--device", "cpu")
    for name in ("whole", "continued"):
        run = shell.show(name)
        assert run["run"]["state"] == "finished", run["run"]["message"]
        assert 0 < run["run"]["best"] < 100
    parts = sorted((shell.home / "runs").glob("*/checkpoints/last-*/recipe.safetensors"))
    assert len(parts) == 2
    state = load_file(parts[0])
    # Where both begin, and powers of the audio lie below 1.
    assert state["state.mean"].max() < 0
    assert not torch.equal(state["state.variance"], torch.ones(257))
    assert "visible_error" in shell.run("logs", "whole")
    compared = json.loads(
        shell.run("compare", "whole", "continued", "--metric", "val_loss", "--json")
    )
    continued = compared["tables"]["val_loss"][1]
    # Both were evaluated on the same items, which are paired.
    assert (continued["variant"], continued["difference"]["num_items"]) == ("continued", 6)
    assert "masked_frames" in shell.run("doctor")
    settings_modules = ("spec", "loss_settings", "data_settings", "data_kind", "model_settings")
    code = f"import sys, {', '.join(f'masked_frames.{name}' for name in settings_modules)}"
    assert python(f"{code}; print('torch' in sys.modules)") == "False"


def python(code: str) -> str:
    """Return what code prints in a fresh interpreter that sees the installed packages."""
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_own_model_keeps_the_length_of_any_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OWN_MODEL))
    from gated_conv.settings import GatedConv  # type: ignore[import-not-found]

    network = GatedConv(width=4, layers=3).build(channels=2, sources=3)
    for length in (1, 7, 100):
        assert network(torch.randn(2, 2, length)).shape == (2, 3, 2, length)


def test_own_recipe_moves_mean_and_variance_unless_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(OWN_RECIPE))
    from masked_frames.recipe import F, MaskedFrames  # type: ignore[import-not-found]

    recipe = MaskedFrames(SimpleNamespace(loss=SimpleNamespace(norm_rate=0.5)), opening=Opening())
    recipe.start_state(torch.nn.Identity(), torch.device("cpu"))
    # Four frames of 1, 1, 3, 3: mean 2, mean square 5, variance 1.
    sums = {
        "frames": torch.tensor(4.0), "sum": torch.full((F,), 8.0),
        "sum_of_squares": torch.full((F,), 20.0),
    }  # fmt: skip
    nothing = {name: tensor * torch.nan for name, tensor in sums.items()}
    for skipped, statistics, mean in ((0.0, sums, 1.0), (1.0, nothing, 1.0), (0.0, sums, 1.5)):
        made = UpdateMade(Counters(), 1, torch.tensor(skipped), statistics)
        recipe.after_step(torch.nn.Identity(), made)
        state = recipe.state_dict().tensors
        assert torch.equal(state["mean"], torch.full((F,), mean))
        assert torch.equal(state["variance"], torch.ones(F))


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
    assert len(names) == 18
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
