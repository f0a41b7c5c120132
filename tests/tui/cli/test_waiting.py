"""Runs that wait for other runs, in every verb that speaks of runs."""

from __future__ import annotations

import json

import pytest

from jobs.store.needs import insert_needs
from jobs.store.records import NeedRecord
from jobs.store.writer import StoreWriter


@pytest.fixture
def waiting(lab) -> int:
    """A run that waits for one that is at 40%."""
    base = lab.run("pretrain-1", "running", updates=8000)
    run = lab.run("tuned-1")
    need = NeedRecord(
        run,
        "init_from",
        reference="pretrain-1@last",
        needed=base,
        needed_name="pretrain-1",
        which="last",
        only_at_start=True,
    )
    with lab.writer.transaction() as connection:
        insert_needs(connection, [need])
    return run


def test_every_verb_says_what_a_run_waits_for(sepdash, waiting) -> None:
    reason = "waiting for pretrain-1 (running, 40%)"
    table = sepdash("runs").out.splitlines()
    assert table[0].endswith("WAITING FOR")
    line = next(line for line in table if "tuned-1" in line)
    assert line.split()[2] == "waiting"
    assert line.endswith("pretrain-1 (running, 40%)")
    (only,) = sepdash("runs", "--state", "waiting").out.splitlines()[1:]
    assert only.split() == line.split()
    records = {run["name"]: run["waiting"] for run in json.loads(sepdash("runs", "--json").out)}
    assert records == {"pretrain-1": "", "tuned-1": reason}

    shown = sepdash("show", "tuned-1").out
    assert f"queued, {reason}" in shown
    assert f"init_from    pretrain-1@last (run {waiting - 1})" in shown
    (need,) = json.loads(sepdash("show", "tuned-1", "--json").out)["needs"]
    assert (need["needed"], need["which"], need["checkpoint"]) == (waiting - 1, "last", "")
    assert (
        sepdash("logs", "tuned-1").err == f"run tuned-1 has no log yet (state: queued, {reason})\n"
    )
    assert "1 running, 1 waiting" in sepdash("doctor").out


def test_without_waiting_runs_the_table_has_no_column_for_them(sepdash, lab) -> None:
    lab.run("plain")
    assert "WAITING" not in sepdash("runs").out


def test_a_run_that_others_need_is_removed_with_them_or_by_force(sepdash, lab, waiting) -> None:
    base = waiting - 1
    with StoreWriter(lab.home.store) as store:
        store.move(base, "finished", ("running",))
    assert "WAITING" not in sepdash("runs").out
    refused = sepdash("rm", "pretrain-1", "--yes")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.count("\n") == 1
    assert "tuned-1 needs it; remove that run first, or use `sepdash rm --force`" in refused.err
    assert sepdash("rm", "pretrain-1", "--yes", "--force").code == 0
    assert "pretrain-1, which was removed: remove this run and enqueue it" in sepdash("runs").out


def test_runs_that_need_each_other_go_together(sepdash, lab, waiting) -> None:
    with StoreWriter(lab.home.store) as store:
        store.move(waiting - 1, "failed", ("running",))
    assert "pretrain-1, which failed: resume it, or remove this run" in sepdash("runs").out
    assert sepdash("rm", "pretrain-1", "tuned-1", "--yes").code == 0


def test_enqueue_says_what_the_new_run_waits_for_or_why_it_can_not(
    sepdash, lab, tmp_path, write_tone
) -> None:
    words = ["enqueue", "denoise/small"]
    for key in ("train", "valid", "noise"):
        write_tone(tmp_path / key / "tone.wav")
        words += ["--set", f"data.{key}={tmp_path / key}"]
    assert sepdash(*words, "--name", "base").code == 0
    tuned = sepdash(*words, "--name", "tuned", "--set", "init_from=base")
    assert tuned.out.splitlines()[0].endswith("tuned is queued, waiting for base (queued)")
    sepdash("stop", "tuned")
    resumed = sepdash("resume", "tuned").out
    assert "is queued again and continues from update 0, waiting for base (queued)" in resumed

    wrong = sepdash(*words, "--set", "init_from=bsae")
    assert wrong.code == 2
    assert "init_from: no run 'bsae', did you mean 'base'?" in wrong.err
    assert "Traceback" not in wrong.err


def test_settings_say_what_a_reference_may_hold(sepdash) -> None:
    lines = sepdash("presets", "--settings").out.splitlines()
    line = next(line for line in lines if line.startswith("init_from "))
    assert "a run's name or id, or a checkpoint folder" in line
