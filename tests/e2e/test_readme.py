"""Every command of the README and of the docs runs as written, in the order of its page."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.data.synthetic import write_dataset
from tests.e2e.shell import Shell
from tests.pages import ROOT, Example, blocks, examples, pages

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

README = ROOT / "README.md"
STORE = ROOT / "docs" / "store.md"
# What pages make for a person to train on, and how much of it is enough here.
ENOUGH = {"--utterances": 200}
# The presets that pages train; here each ends after a few updates.
TRAINED = [
    "demo/baseline", "denoise/small", "bandwidth/small", "stems/vocals-small", "speakers/small",
    "transducer/digits",
]  # fmt: skip
QUICK = """
extends = "{name}"
[schedule]
length = "4 updates"
[validation]
every = "2 updates"
max_items = 4
training_items = 2
[precision]
device = "cpu"
threads = 1
"""


def executed(page: Path) -> list[Example]:
    return [example for example in examples(page) if not example.parsed_only]


OTHER_PAGES = [page for page in pages() if executed(page) and page not in (README, STORE)]


@pytest.fixture
def user(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a person with short presets, and with audio where the pages say it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in TRAINED:
        preset = shell.home / "presets" / f"{name}.toml"
        preset.parent.mkdir(parents=True, exist_ok=True)
        preset.write_text(QUICK.format(name=name))
    shell.home.chmod(0o700)
    made = tmp_path / ".local/share/sepdash/demo/data/seed-0"
    write_dataset(made, seed=0, tracks=2, duration_s=2.0, rate_hz=16_000)
    place_speech_and_noise(tmp_path, made)
    place_music(tmp_path, made)
    place_digits(tmp_path, made)
    place_audio(tmp_path, made)
    place_voices(tmp_path, made)
    for name in ("learning-rate.toml", "search-rate.toml"):
        text = (ROOT / "examples" / "experiments" / name).read_text()
        (tmp_path / name).write_text(text.replace("~", str(tmp_path)))
    return tmp_path


def place_speech_and_noise(user: Path, made: Path) -> None:
    for split, name in (("train", "train"), ("valid", "test")):
        for index, voice in enumerate(sorted((made / split).glob("*/voice.flac"))):
            copy(voice, user / "speech" / name / f"{index}.flac")
    noise = sorted(made.glob("*/*/noise.flac"))[0]
    copy(noise, user / "noise" / "noise.flac")
    samples, rate_hz = soundfile.read(noise)
    for name in ("noisy.wav", "song.wav"):
        soundfile.write(user / name, samples, rate_hz)


def place_music(user: Path, made: Path) -> None:
    for split, name in (("train", "train"), ("valid", "test")):
        for track in sorted((made / split).iterdir()):
            copy(track / "voice.flac", user / "music" / name / track.name / "vocals.flac")
            copy(track / "noise.flac", user / "music" / name / track.name / "accompaniment.flac")


def place_digits(user: Path, made: Path) -> None:
    samples, _ = soundfile.read(sorted(made.glob("*/*/voice.flac"))[0])
    for speaker, gain in (("ann", 0.5), ("theo", 0.9)):
        for digit in range(10):
            for take in (0, 7):
                path = user / "digits" / speaker / f"{digit}_{take:02}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                part = samples[digit * 400 : digit * 400 + 4_800]
                soundfile.write(path, gain * np.asarray(part), 8_000)


def place_audio(user: Path, made: Path) -> None:
    """Put recordings without labels, long enough for self-supervised presets."""
    for split, number in (("train", 8), ("valid", 3)):
        samples, rate_hz = soundfile.read(sorted((made / split).glob("*/voice.flac"))[0])
        (user / "audio" / split).mkdir(parents=True)
        for index in range(number):
            whole = np.tile(np.roll(samples, index * 999), 4)
            soundfile.write(user / "audio" / split / f"{index}.flac", whole, rate_hz)


def place_voices(user: Path, made: Path) -> None:
    """Put two voices as LJSpeech has them: clips of two seconds, and a table of their texts."""
    samples, rate_hz = soundfile.read(sorted((made / "train").glob("*/voice.flac"))[0])
    for speaker in ("LJSpeech-1.1", "anna"):
        wavs = user / speaker / "wavs"
        wavs.mkdir(parents=True)
        rows = [f"clip-{index}|take number {'ab'[index % 2] * (index + 1)}" for index in range(12)]
        (user / speaker / "metadata.csv").write_text("\n".join(rows))
        for index in range(12):
            clip = np.roll(np.tile(samples, 2), 777 * index)[: 2 * rate_hz]
            soundfile.write(wavs / f"clip-{index}.wav", clip, rate_hz)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def follow(page: Path, shell: Shell, user: Path) -> None:
    """Run what a page shows, in the folder it changes to."""
    folder = user
    for example in executed(page):
        # Of `--set data.train=~/speech`, a shell makes nothing: sepdash does.
        words = [str(user) + word[1:] if word.startswith("~") else word for word in example.words]
        program, *arguments = words
        if program == "cd":
            folder = folder / arguments[0]
            continue
        assert program == "sepdash", example
        for option in ENOUGH.keys() & set(arguments):
            at = arguments.index(option) + 1
            arguments[at] = str(min(int(arguments[at]), ENOUGH[option]))
        Shell(shell.home, cwd=folder).run(*arguments)


def test_readme_then_the_queries_of_the_store(shell: Shell, user: Path) -> None:
    assert len(executed(README)) > 10
    follow(README, shell, user)
    assert (user / "clean").is_dir()
    assert shell.show("first")["run"]["state"] == "finished"
    follow(STORE, shell, user)
    rows = {query: select(shell.home / "runs.db", query) for query in blocks(STORE, "sql")}
    assert len(rows) > 6
    # Nothing went wrong in these runs, and they are too short for a summary of the loss.
    empty = [query for query, result in rows.items() if not result]
    assert [query for query in empty if "events" not in query and "rollups" not in query] == []
    best = next(result for query, result in rows.items() if "best_ema" in query)
    assert {row[0] for row in best} == {"first", "slower"}
    curve = next(result for query, result in rows.items() if "FROM points" in query)
    assert [step for step, _ in curve] == [1, 2, 4]


def select(store: Path, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("page", OTHER_PAGES, ids=lambda page: page.stem)
def test_page_runs_as_written(page: Path, shell: Shell, user: Path) -> None:
    follow(page, shell, user)
    for example in executed(page):
        words = example.words
        if "worker" in words:
            states = [run["state"] for run in shell.runs()]
            assert set(states) == {"finished"}
        if "-o" in words:
            written = user / words[words.index("-o") + 1].replace("~", str(user))
            assert any(written.iterdir())


def test_sepdash_is_on_the_path_before_its_first_use() -> None:
    for page in (README, ROOT / "docs" / "getting-started.md"):
        text = page.read_text()
        first = re.search(r"^(\$ )?sepdash ", text, re.MULTILINE)
        assert first is not None
        before = text[: first.start()]
        assert "uv tool install ." in before
        assert 'export PATH="$(uv tool dir --bin):$PATH"' in before


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = blocks(README, "sh")
    ran = (ROOT / ".ci" / "run").read_text().strip().splitlines()[-1]
    assert f"{ran}\n" in commands
    assert "uv run pytest" in ran
    assert any("sepdash demo" in command for command in commands)
