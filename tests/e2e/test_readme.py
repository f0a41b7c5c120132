"""Every command of the README runs as written, in the order it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from engine.data.synthetic import write_dataset
from tests.e2e.shell import Shell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

QUICK = """
extends = "denoise/small"
[schedule]
length = "4 updates"
"""


def console_commands(readme: str) -> list[list[str]]:
    blocks = re.findall(r"```console\n(.*?)```", readme, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:]) for line in lines]


def place_user_audio(home: Path) -> None:
    """Put speech, noise and a recording where the README says they are."""
    write_dataset(home / "made", seed=0, tracks=2, duration_s=2.0, rate_hz=16_000)
    for split, name in (("train", "train"), ("valid", "test")):
        for index, voice in enumerate(sorted((home / "made" / split).glob("*/voice.flac"))):
            target = home / "speech" / name / f"{index}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(voice.read_bytes())
    noise = sorted((home / "made").glob("*/*/noise.flac"))[0]
    (home / "noise").mkdir()
    (home / "noise" / "noise.flac").write_bytes(noise.read_bytes())
    (home / "noisy.wav").write_bytes(b"")
    import soundfile

    samples, rate_hz = soundfile.read(noise)
    soundfile.write(home / "noisy.wav", samples, rate_hz)
    (home / "digits" / "theo").mkdir(parents=True)
    for digit in range(10):
        for take in (0, 7):
            part = samples[digit * 400 : digit * 400 + 3_200]
            soundfile.write(home / "digits" / "theo" / f"{digit}_{take:02}.wav", part, 8_000)


def test_console_examples_run_in_order(
    shell: Shell, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_user_audio(tmp_path)
    shell.home.mkdir(mode=0o700)
    preset = shell.home / "presets" / "denoise" / "small.toml"
    preset.parent.mkdir(parents=True)
    preset.write_text(QUICK)
    commands = console_commands((repository / "README.md").read_text())
    assert len(commands) > 10
    for program, *arguments in commands:
        assert program == "sepdash"
        shell.run(*[part.replace("~", str(tmp_path)) for part in arguments])
    assert (tmp_path / "clean").is_dir()
    assert shell.show("first")["run"]["state"] == "finished"


def test_ci_runs_the_test_command_of_the_readme(repository: Path) -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", (repository / "README.md").read_text())
    ran = (repository / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert ran in commands
    assert any("sepdash demo" in command for command in commands)
