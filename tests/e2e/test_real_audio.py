"""The main job on real recordings: preset, queue, worker, score above the input, separated files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.e2e.shell import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

FindData = Callable[[str], Path]


def train(shell: Shell, preset: str, updates: int, *settings: str) -> dict[str, Any]:
    """Train a part of the preset's length, to fit the gate, on one thread, since cores are shared."""
    settings = (
        *settings, f"schedule.length={updates} updates", "precision.threads=1", "validation.training_items=2",
    )  # fmt: skip
    assignments = [part for setting in settings for part in ("--set", setting)]
    shell.run("enqueue", preset, "--name", "night", *assignments)
    shell.run("worker", "--drain", "--device", "cpu", timeout_s=500)
    run: dict[str, Any] = shell.show("night")["run"]
    assert run["state"] == "finished", run["message"]
    assert run["updates"] == run["total_updates"]
    return run


def separate(shell: Shell, inputs: list[Path], out: Path) -> list[Path]:
    shell.run("separate", "night", *map(str, inputs), "-o", str(out), "--device", "cpu")
    return sorted(out.iterdir())


def assert_same_shape(written: Path, source: Path) -> None:
    before, after = soundfile.info(source), soundfile.info(written)
    assert (after.frames, after.samplerate) == (before.frames, before.samplerate)
    samples, _ = soundfile.read(written, always_2d=True)
    assert np.isfinite(samples).all()
    assert np.abs(samples).max() > 1e-3


@pytest.mark.long
def test_bandwidth_extension_of_speech(shell: Shell, shared_data: FindData, tmp_path: Path) -> None:
    vctk = shared_data("vctk")
    run = train(
        shell, "bandwidth/small", 200, f"data.train={vctk}/train", f"data.valid={vctk}/test"
    )  # fmt: skip
    assert max(run["best"], run["best_ema"]) > run["input_score"] + 0.1
    inputs = sorted((vctk / "test").glob("*.flac"))
    written = separate(shell, inputs, tmp_path / "out")
    assert len(written) == len(inputs)
    for path, source in zip(written, inputs, strict=True):
        assert_same_shape(path, source)


@pytest.mark.long
def test_denoising_of_speech(shell: Shell, shared_data: FindData, tmp_path: Path) -> None:
    vctk, noise = shared_data("vctk"), shared_data("noise")
    run = train(
        shell, "denoise/small", 120,
        f"data.train={vctk}/train", f"data.valid={vctk}/test", f"data.noise={noise}",
    )  # fmt: skip
    assert max(run["best"], run["best_ema"]) > run["input_score"] + 1
    source = sorted((vctk / "test").glob("*.flac"))[0]
    (written,) = separate(shell, [source], tmp_path / "out")
    assert_same_shape(written, source)


@pytest.mark.long
def test_vocals_from_music(shell: Shell, shared_data: FindData, tmp_path: Path) -> None:
    stems = shared_data("stems")
    run = train(
        shell, "stems/vocals-small", 40, f"data.train={stems}/train", f"data.valid={stems}/test"
    )  # fmt: skip
    assert run["best_ema"] > run["input_score"] + 2
    (source,) = (stems / "test").glob("*/mixture.flac")
    (written,) = separate(shell, [source], tmp_path / "out")
    assert_same_shape(written, source)


def test_two_speakers_at_once(shell: Shell, shared_data: FindData, tmp_path: Path) -> None:
    """A mixture of two people becomes a file of each; judged on whole files, too."""
    digits = shared_data("digits")
    run = train(
        shell, "speakers/small", 60, f"data.train={digits}", f"data.valid={digits}",
        "validation.max_items=20", "validation.full_files=true",
    )  # fmt: skip
    latest = shell.show("night")["latest"]
    assert latest["si_sdr_full"] == pytest.approx(latest["si_sdr"], abs=1.0)
    assert max(run["best"], run["best_ema"]) > -15
    people = sorted(digits.iterdir())[:2]
    voices = [
        np.concatenate([soundfile.read(file)[0] for file in sorted(person.glob("*_00.*"))])
        for person in people
    ]
    length = min(map(len, voices))
    mixture = tmp_path / "both.flac"
    soundfile.write(mixture, sum(voice[:length] for voice in voices) / 2, 8_000)
    written = separate(shell, [mixture], tmp_path / "out")
    assert [path.name for path in written] == ["both.speaker1.wav", "both.speaker2.wav"]
    for path in written:
        assert_same_shape(path, mixture)
