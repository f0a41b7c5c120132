"""`sepdash sweep`: the plan, what it queues, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter

EXPERIMENT = """
description = "two batches"
base = "denoise/small"
match = "items"
seeds = [0, 1]
[set]
schedule.length = "40 updates"
[variants.baseline]
[variants.batch2x]
batch.items = 16
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "night.toml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture
def folders(tmp_path: Path, write_tone) -> list[str]:
    settings = []
    for key in ("train", "valid", "noise"):
        write_tone(tmp_path / key / "tone.wav")
        settings += ["--set", f"data.{key}={tmp_path / key}"]
    return settings


def test_without_a_name_the_experiments_are_listed(sepdash) -> None:
    lines = sepdash("sweep").out.splitlines()
    assert lines[0].split() == ["EXPERIMENT", "DESCRIPTION"]
    assert any(line.startswith("audio-unet-10k") for line in lines)


def test_dry_run_shows_the_plan_and_writes_nothing(sepdash, home, file) -> None:
    answer = sepdash("sweep", str(file), "--dry-run")
    lines = answer.out.splitlines()
    assert answer.code == 0
    assert lines[0] == "night: 4 runs of denoise/small, matched in items, schedules scaled"
    assert lines[2].split()[:5] == ["night-baseline-s0", "0", "8", "40", "320"]
    assert lines[3].split()[:5] == ["night-batch2x-s0", "0", "16", "20", "320"]
    assert lines[-1].startswith("total: 120 updates, 0.2 h of audio, duration unknown for 4 runs")
    assert not home.root.exists()


def test_sweep_queues_all_runs_with_their_experiment(sepdash, home, file, folders) -> None:
    answer = sepdash("sweep", str(file), *folders)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines()[-1] == "4 runs queued: 1 to 4"
    with StoreReader(home.store) as reader:
        runs = reader.runs()
        assert [(r.experiment, r.variant, r.seed, r.total_updates) for r in runs] == [
            ("night", "baseline", 0, 40),
            ("night", "batch2x", 0, 20),
            ("night", "baseline", 1, 40),
            ("night", "batch2x", 1, 20),
        ]
        assert {run.preset for run in runs} == {"denoise/small"}
        assert reader.config(2)["schedule"]["length"] == "320 items"


@pytest.mark.parametrize(("answer", "queued"), [("n", 0), ("y", 4)])
def test_on_a_terminal_the_plan_is_asked_about(
    sepdash, home, file, folders, monkeypatch, answer: str, queued: int
) -> None:
    def confirm(text: str, **_: object) -> bool:
        assert text == "queue 4 runs?"
        if answer == "n":
            raise click.Abort
        return True

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", confirm)
    assert sepdash("sweep", str(file), *folders).code == (0 if queued else 130)
    with StoreReader(home.store) as reader:
        assert len(reader.runs()) == queued


def test_a_taken_name_queues_nothing(sepdash, home, file, folders) -> None:
    sepdash("enqueue", "denoise/small", *folders, "--name", "night-batch2x-s1")
    answer = sepdash("sweep", str(file), *folders)
    assert answer.code == 2
    assert "'night-batch2x-s1' already exists" in answer.err
    with StoreReader(home.store) as reader:
        assert len(reader.runs()) == 1


def test_time_and_disk_are_estimated_from_earlier_runs(sepdash, home, file, folders) -> None:
    sepdash("sweep", str(file), *folders)
    with StoreWriter(home.store) as store:
        for run, seconds in ((1, 10.0), (2, 16.0)):
            store.move(run, "finished", ("queued",), updates=20, train_seconds=seconds)
            with store.transaction() as connection:
                connection.execute(
                    "INSERT INTO checkpoints (run, kind, path, updates, size_bytes, created_at)"
                    " VALUES (?, 'last', 'p', 20, 1048576, 0)",
                    (run,),
                )
    runs = json.loads(sepdash("sweep", str(file), *folders, "--dry-run", "--json").out)["runs"]
    assert [run["seconds"] for run in runs] == [20.0, 16.0, 20.0, 16.0]
    assert [run["size_bytes"] for run in runs] == [1048576] * 4
    last = sepdash("sweep", str(file), *folders, "--dry-run").out.splitlines()[-1]
    assert "about 1m12s (estimated from earlier runs)" in last
    assert "4.0 MiB of" in last


def test_missing_audio_is_named_and_nothing_is_queued(sepdash, home, file) -> None:
    answer = sepdash("sweep", str(file))
    assert answer.code == 2
    assert "data.train" in answer.err
    assert not home.store.exists()


def test_an_unknown_experiment_is_answered_with_the_nearest_name(sepdash) -> None:
    answer = sepdash("sweep", "audio-unet-10")
    assert (answer.code, answer.err) == (
        2,
        "sepdash: unknown experiment 'audio-unet-10', did you mean 'audio-unet-10k'?\n",
    )


def test_a_broken_file_is_one_message(sepdash, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("base = \n")
    answer = sepdash("sweep", str(tmp_path / "bad.toml"))
    assert answer.code == 2
    assert "bad.toml is not valid TOML" in answer.err


def test_experiments_of_the_user_are_found_by_name_and_are_no_presets(sepdash, home) -> None:
    folder = home.presets / "experiments"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(EXPERIMENT)
    assert "two batches" in sepdash("sweep").out
    assert "mine-batch2x-s1" in sepdash("sweep", "mine", "--dry-run").out
    assert "experiments" not in sepdash("presets").out
