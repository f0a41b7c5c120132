"""Each verb on a store: what it prints, what it changes, what it refuses."""

from __future__ import annotations

import json
import os
import sqlite3
import tomllib
from pathlib import Path

import pytest

from jobs.machine.processes import process_token
from jobs.store.reader import StoreReader
from tests.tui.objectives import add_voice


@pytest.fixture
def folders(tmp_path: Path, write_tone) -> list[str]:
    """Settings that point a denoising preset at folders with a file each."""
    settings = []
    for key in ("train", "valid", "noise"):
        write_tone(tmp_path / key / "tone.wav")
        settings += ["--set", f"data.{key}={tmp_path / key}"]
    return settings


def state_of(lab, run: int) -> str:
    with StoreReader(lab.home.store) as reader:
        return reader.run(run).state


# presets


def test_presets_lists_names_and_descriptions(sepdash) -> None:
    lines = sepdash("presets").out.splitlines()
    assert lines[0].split() == ["PRESET", "ORIGIN", "DESCRIPTION"]
    assert any(line.startswith("demo/baseline") and "shipped" in line for line in lines)


def test_presets_json_is_a_list_of_records(sepdash) -> None:
    found = json.loads(sepdash("presets", "--json").out)
    assert {"name", "path", "origin", "description", "extends", "problem"} == set(found[0])


def test_one_preset_is_printed_as_written_or_in_full(sepdash) -> None:
    written = tomllib.loads(sepdash("presets", "demo/batch2x").out)
    full = tomllib.loads(sepdash("presets", "demo/batch2x", "--full").out)
    assert written["extends"] == "demo/baseline"
    assert "data" not in written
    assert full["batch"]["items"] == written["batch"]["items"]
    assert full["data"]["kind"] == "stems"
    assert json.loads(sepdash("presets", "demo/batch2x", "--json").out)["data"]["kind"] == "stems"


def test_settings_lists_every_key(sepdash) -> None:
    from engine.config.fields import list_settings

    keys = [line.split()[0] for line in sepdash("presets", "--settings").out.splitlines()[1:]]
    assert keys == [item.key for item in list_settings()]


def test_plot_draws_the_learning_rate_and_warns(sepdash, home) -> None:
    answer = sepdash("presets", "denoise/small", "--plot")
    rows = answer.out.splitlines()
    assert (answer.code, len(rows), answer.err) == (0, 16, "")
    assert rows[0].startswith("learning rate")
    assert "cosine" in rows[0]
    assert rows[-1].rstrip().endswith("updates")
    assert any("\u2800" < char <= "\u28ff" for char in answer.out)

    home.presets.mkdir(parents=True)
    text = 'extends = "denoise/small"\n[schedule]\nkind = "cosine_restarts"\n'
    (home.presets / "again.toml").write_text(text)
    assert "increases after warm-up" in sepdash("presets", "again", "--plot").err
    assert sepdash("presets", "--plot").code == 2


def test_presets_show_is_another_way_to_say_it(sepdash) -> None:
    for options in ([], ["--plot"], ["--full"]):
        shown, plain = (
            sepdash("presets", *words, "demo/batch2x", *options) for words in (["show"], [])
        )
        assert (shown.code, shown.out) == (0, plain.out)
        assert plain.out
    assert "show requires a PRESET" in sepdash("presets", "show").err
    assert "expected one PRESET, found a b" in sepdash("presets", "a", "b").err


# enqueue


def test_enqueue_makes_a_queued_run(sepdash, home, folders) -> None:
    answer = sepdash(
        "enqueue", "denoise/small", *folders, "--set", "optimizer.lr=1e-4", "--name", "n"
    )
    first, *others = answer.out.splitlines()
    assert (answer.code, first) == (0, "run 1 n is queued")
    assert others == [
        "length: 400 updates, 3,200 items, 26.7 min of audio, 3,200 epochs",
        "time: unknown: no comparable earlier run (`sepdash tune` measures an update)",
    ]
    assert "no worker is running; start one with `sepdash worker`" in answer.err
    with StoreReader(home.store) as reader:
        assert reader.run("n").preset == "denoise/small"
        assert reader.config(1)["optimizer"]["lr"] == 1e-4


def test_a_setting_may_be_set_by_its_old_name(sepdash, home, folders) -> None:
    answer = sepdash("enqueue", "denoise/small", *folders, "--set", "validation.samples=2")

    assert answer.code == 0, answer.err
    note = "note: validation.samples is now called validation.clips; the old name still works"
    assert answer.err.splitlines().count(note) == 1
    with StoreReader(home.store) as reader:
        assert reader.config(1)["validation"]["clips"] == 2
        assert "samples" not in reader.config(1)["validation"]
    assert "note: " not in sepdash("plan", "demo/baseline", "--set", "validation.clips=2").err


def test_enqueue_warns_of_an_odd_schedule_and_queues_all_the_same(sepdash, folders) -> None:
    answer = sepdash("enqueue", "denoise/small", *folders, "--set", "schedule.kind=cosine_restarts")
    assert answer.code == 0
    assert (
        "warning: schedule.kind = cosine_restarts: the learning rate increases after warm-up"
        in answer.err
    )


def test_enqueue_reports_all_problems_at_once(sepdash, home, folders) -> None:
    answer = sepdash(
        "enqueue", "denoise/small", *folders, "--set", "optimizer.lrr=1", "--set", "batch.items=0"
    )
    assert answer.code == 2
    assert answer.err.splitlines() == [
        "sepdash: 2 problems:",
        "  batch.items: expected a whole number >= 1, <= 65536, found 0",
        "  optimizer.lrr: unknown setting, did you mean 'lr'?",
    ]
    assert not home.store.exists()


def test_enqueue_names_the_missing_folder(sepdash, home, folders) -> None:
    answer = sepdash("enqueue", "denoise/small", *folders, "--set", "data.train=/nowhere/at/all")
    assert answer.code == 2
    assert "data.train: folder /nowhere/at/all does not exist" in answer.err
    assert not home.store.exists()


def test_home_may_stand_before_or_after_the_verb(sepdash, tmp_path: Path, folders) -> None:
    other = str(tmp_path / "other")
    assert sepdash("--home", other, "enqueue", "denoise/small", *folders).code == 0
    assert sepdash("runs", "--home", other).out.count("denoise/small") == 1
    assert "no runs; `sepdash presets` lists presets to enqueue" in sepdash("runs").err


# runs, show, logs


def test_runs_shows_the_queue_first_and_the_best_levels(sepdash, lab) -> None:
    lab.night()
    lines = sepdash("runs").out.splitlines()
    assert lines[0].split() == [
        "ID",
        "NAME",
        "STATE",
        "DONE",
        "LEFT",
        "SI-SDR",
        "EMA",
        "GAIN",
        "PRESET",
    ]
    assert lines[1].split() == [
        "5", "denoise-weight-norm-1", "running", "45%", "14m30s", "12.93", "13.33", "+7.31",
        "denoise/small",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[2:5]] == ["6", "7", "8"]


def test_runs_filters_by_state_and_prints_json(sepdash, lab) -> None:
    lab.night()
    found = json.loads(sepdash("runs", "--state", "failed", "--state", "stopped", "--json").out)
    assert {run["name"] for run in found} == {"denoise-lr-1e-1", "bandwidth-audio-unet-1"}


def test_names_can_not_steer_the_terminal(sepdash, lab) -> None:
    lab.run("evil\x1b[2Jname")
    assert "\x1b" not in sepdash("runs").out


def test_show_tells_the_whole_run(sepdash, lab) -> None:
    ids = lab.night()
    lab.writer.add_event(ids[0], "warning", kind="skipped", message="3 updates were skipped")
    out = sepdash("show", "denoise-small-1").out
    assert "20000 of 20000 updates (100%)" in out
    assert "13.21 dB, EMA 13.61 dB; input 6.02 dB, gain +7.59 dB" in out
    assert "3 updates were skipped" in out
    assert "audio_s_per_s" in out


def test_show_says_which_stage_before_training_a_run_is_in(sepdash, lab) -> None:
    lab.run("one", "running", message="stage clusters 40 %")
    assert "running: stage clusters 40 %" in sepdash("show", "one").out


def test_show_says_how_the_losses_of_a_voice_are_read(sepdash, lab) -> None:
    run = add_voice(lab, "voice", text_loss_weight=1.0)
    title = "latest values (a language: text matters; a voice: mel)"
    assert title in sepdash("show", "voice").out.splitlines()
    lab.writer.update_run(run, config="{")
    assert "latest values" in sepdash("show", "voice").out.splitlines()


def test_show_json_holds_config_and_checkpoints(sepdash, lab) -> None:
    lab.run("one")
    found = json.loads(sepdash("show", "one", "--json").out)
    assert set(found) == {"run", "needs", "latest", "checkpoints", "events", "config"}


def test_config_of_a_run_is_a_preset(sepdash, folders) -> None:
    from engine.config.loading import load_config

    sepdash("enqueue", "denoise/small", *folders, "--name", "n")
    config = load_config(tomllib.loads(sepdash("show", "n", "--config").out))
    assert config.fingerprint == json.loads(sepdash("runs", "--json").out)[0]["fingerprint"]


def test_logs_prints_all_or_the_last_lines(sepdash, lab) -> None:
    lab.run("one", "finished", updates=1500)
    whole = sepdash("logs", "one").out
    assert len(whole.splitlines()) == 3
    assert sepdash("logs", "one", "-n", "1").out == whole.splitlines(keepends=True)[-1]
    lab.run("two")
    assert "no log yet (state: queued)" in sepdash("logs", "two").err


# stop, resume, move, rm


def test_a_run_that_is_stopped_says_what_is_true_in_a_stage_too(sepdash, lab):
    lab.run("one", "running")
    assert sepdash("stop", "one").out == "run 1 one saves its state and stops\n"


def test_stop_and_resume_move_a_queued_run(sepdash, lab) -> None:
    run = lab.run("one")
    assert sepdash("stop", "one").out == "run 1 one is stopped\n"
    assert state_of(lab, run) == "stopped"
    refused = sepdash("stop", "one")
    assert (refused.code, refused.err) == (2, "sepdash: run 1 can't be stopped: it is stopped\n")
    assert "queued again and continues from update 0" in sepdash("resume", "1").out
    assert state_of(lab, run) == "queued"


def test_a_typo_among_several_runs_changes_none(sepdash, lab) -> None:
    run = lab.run("one")
    answer = sepdash("stop", "one", "onne")
    assert answer.code == 2
    assert "no run 'onne', did you mean 'one'?" in answer.err
    assert state_of(lab, run) == "queued"


@pytest.mark.parametrize(
    ("place", "order"),
    [("top", "cab"), ("up", "acb"), ("1", "cab"), ("2", "acb"), ("bottom", "abc"), ("99", "abc")],
)
def test_move_reorders_the_queue(sepdash, lab, place: str, order: str) -> None:
    for name in "abc":
        lab.run(name)
    assert sepdash("move", "c", place).code == 0
    assert [run["name"] for run in json.loads(sepdash("runs", "--json").out)] == list(order)


@pytest.mark.parametrize("place", ["0", "-1", "sideways", "1.5"])
def test_move_refuses_what_is_no_place(sepdash, lab, place: str) -> None:
    lab.run("a")
    answer = sepdash("move", "--", "a", place)
    assert answer.code == 2
    assert f"found '{place}'" in answer.err


def test_rm_removes_row_and_files(sepdash, lab) -> None:
    run = lab.run("one", "finished", updates=500)
    folder = lab.home.run_folder(run)
    assert folder.is_dir()
    assert sepdash("rm", "one").out == "run 1 one is removed\n"
    assert not folder.exists()
    assert json.loads(sepdash("runs", "--json").out) == []


def test_rm_can_keep_the_files_and_refuses_a_running_run(sepdash, lab) -> None:
    kept = lab.run("kept", "finished", updates=500)
    assert sepdash("rm", "kept", "--keep-files").code == 0
    assert (lab.home.run_folder(kept) / "log.txt").is_file()
    token = process_token(os.getpid())
    lab.run("busy", "running", updates=500, pid=os.getpid(), pid_token=token)
    answer = sepdash("rm", "busy")
    assert answer.code == 2
    assert "running" in answer.err


# doctor


@pytest.fixture
def without_torch(monkeypatch) -> None:
    """Importing torch in a child takes seconds; one test does it, the others don't."""
    from tui.cli import health

    monkeypatch.setattr(
        health, "_TORCH_PROBE", 'print(\'{"cuda": null, "devices": 0, "threads": 1}\')'
    )


def test_doctor_finds_nothing_wrong_with_a_fresh_machine(sepdash) -> None:
    answer = sepdash("doctor")
    assert answer.code == 0, answer.out
    assert "does not exist yet: no run has been queued" in answer.out
    assert answer.out.endswith("\nno problems\n")


def test_doctor_counts_runs_and_misses_the_worker(sepdash, lab, without_torch: None) -> None:
    lab.night()
    found = {(c["area"], c["name"]): c for c in json.loads(sepdash("doctor", "--json").out)}
    assert "2 finished" in found["store", "runs"]["text"]
    assert "none is running, runs waiting: 4" in found["store", "worker"]["text"]
    assert found["store", "file"]["verdict"] == "ok"


def test_doctor_fails_on_a_damaged_store(sepdash, home, without_torch: None) -> None:
    home.create()
    home.store.write_bytes(b"no database at all, but long enough to be read as one" * 20)
    answer = sepdash("doctor")
    assert answer.code == 1
    assert "FAIL" in answer.out
    assert str(home.store) in answer.out


def test_doctor_fails_on_a_broken_preset_and_an_open_home(
    sepdash, home, without_torch: None
) -> None:
    home.create()
    (home.presets / "broken.toml").write_text("[data]\nkind = 'stemz'\n")
    home.root.chmod(0o755)
    found = {(c["area"], c["name"]): c for c in json.loads(sepdash("doctor", "--json").out)}
    assert "did you mean 'stems'" in found["presets", "broken"]["text"]
    assert "chmod 700" in found["paths", "home"]["text"]


def test_a_store_of_a_newer_version_is_refused(sepdash, lab) -> None:
    lab.run("one")
    connection = sqlite3.connect(lab.home.store)
    connection.execute("PRAGMA user_version = 999")
    connection.commit()
    connection.close()
    answer = sepdash("runs")
    assert answer.code == 2
    assert "newer" in answer.err
    assert answer.err.count("\n") == 1
