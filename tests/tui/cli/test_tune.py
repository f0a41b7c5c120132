"""`sepdash tune`: what a person types and reads."""

from __future__ import annotations

import json
import os
import signal
import time

import psutil
import pytest

from jobs.home import Home
from jobs.tuning import tunable_config
from presets.catalogue import Catalogue
from tests.tui.dialogs.test_tune_screen import RESULT, finds
from tests.waiting import until


@pytest.fixture
def found(monkeypatch):
    """Let every search find the same."""
    calls = []

    def search(home, config, options, *, emit, fresh):
        calls.append((config, options, fresh))
        return finds(home, config, options, emit=emit, cancel=None)

    monkeypatch.setattr("jobs.tuning.tune", search)
    return calls


def test_a_table_and_what_to_set(sepdash, found) -> None:
    answer = sepdash("tune", "demo/baseline")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].split() == ["TRIAL", "B", "x", "N", "MEMORY", "ITEMS/S", "AUDIO/S", "RATIO", "VERDICT"]  # fmt: skip
    assert lines[2].startswith("batch.micro_batch = 8")
    assert "1.18 [1.15, 1.21]" in lines[2]
    assert lines[5].endswith("rejected: failed, SIGSEGV")
    assert "226.1 audio s/s, 1.17 [1.13, 1.21] x the speed of the preset" in answer.out
    assert "training may use 18.0 GiB of 20.0 GiB" in answer.out
    assert lines[-1] == "--set batch.micro_batch=8 --set precision.tf32=true"
    assert answer.err.splitlines()[0].startswith(
        "batch.micro_batch = 4: 4 x 4, 3072 MiB, 310 items/s"
    )


def test_json_holds_all_of_it(sepdash, found) -> None:
    answer = sepdash(
        "tune", "demo/baseline", "--json", "--seconds", "60", "--free", "0.2", "--fresh"
    )
    told = json.loads(answer.out)
    assert told["settings"] == RESULT.settings
    assert told["set"] == ["batch.micro_batch=8", "precision.tf32=true"]
    assert len(told["rows"]) == 5
    _config, options, fresh = found[0]
    assert (options.seconds, options.free, fresh) == (60, 0.2, True)


def test_a_preset_is_written(sepdash, found) -> None:
    home = Home.locate(None)
    answer = sepdash("tune", "demo/baseline", "--set", "model.width=12", "--save", "demo/tuned")
    assert answer.code == 0
    values = Catalogue(home.presets).read("demo/tuned")
    assert (values["batch"]["micro_batch"], values["precision"]["tf32"]) == (8, True)
    assert values["model"]["width"] == 12
    source = Catalogue(home.presets).source("demo/tuned")
    assert 'extends = "demo/baseline"' in source
    assert "items" not in source
    again = sepdash("tune", "demo/baseline", "--save", "demo/tuned")
    assert (again.code, len(found)) == (2, 1)
    assert (
        "you already have a preset 'demo/tuned'; choose another name, such as 'demo/tuned-tuned'"
        in again.err
    )


def test_a_shipped_preset_is_not_hidden(sepdash, found) -> None:
    """Saved under its name, every later run of it would be another one without a word."""
    refused = sepdash("tune", "demo/baseline", "--save", "demo/baseline")
    assert (refused.code, len(found)) == (2, 0), "refused before anything is measured"
    assert refused.err.strip() == (
        "sepdash: 'demo/baseline' is a shipped preset, which yours would hide; choose another name, such as "
        "'demo/baseline-tuned'"
    )
    assert sepdash("tune", "demo/baseline", "--save", "demo/baseline-tuned").code == 0
    assert (
        "'demo/baseline-tuned2'" in sepdash("tune", "demo/baseline", "--save", "demo/baseline").err
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing/there"], "unknown preset 'nothing/there'"),
        (["demo/baseline", "--items", "0"], "0 is not in the range"),
        (
            ["demo/baseline", "--items", "4", "--seconds", "2"],
            "--items and --seconds are alternatives",
        ),
        (["demo/baseline", "--keep", "precision.dtyp"], "did you mean 'precision.dtype'?"),
        (["demo/baseline", "--set", "model.widht=2"], "model.widht: unknown setting"),
        (["demo/baseline", "--save", "../x"], "is not a valid preset name"),
        (["transducer/digits", "--set", "data.num_mels=1"], "data.num_mels: expected"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(sepdash, found, words, message) -> None:
    answer = sepdash("tune", *words)
    assert (answer.code, found) == (2, [])
    assert message in answer.err


def test_a_device_that_is_not_there_is_told(sepdash) -> None:
    answer = sepdash("tune", "demo/baseline", "--device", "cuda:9")
    assert answer.code == 2
    assert "no such GPU" in answer.err


def test_audio_that_is_not_there_yet_is_not_asked_for() -> None:
    config = tunable_config(Catalogue().read("denoise/small"), ["batch.items=4"])
    assert config.batch.items == 4
    given = tunable_config(Catalogue().read("denoise/small"), ["data.train=there"])
    assert str(given.data.train) == "there"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_real_search_is_kept(sepdash) -> None:
    words = ["tune", "demo/baseline", "--set", "model.width=4", "--set", "data.segment_s=0.25",
             "--device", "cpu", "--budget-s", "60", "--keep", "precision.dtype", "--json"]  # fmt: skip
    first = sepdash(*words)
    assert first.code == 0, first.err
    told = json.loads(first.out)
    assert told["kept"] is False
    assert told["seconds"] < 60
    assert abs(told["law_error"]) < 0.05
    assert {row["count"] for row in told["rows"]} == {1, 2, 4}
    assert all(row["items_per_s"] > 0 for row in told["rows"] if row["verdict"] != "measured")
    started = time.monotonic()
    again = json.loads(sepdash(*words).out)
    assert again == {**told, "kept": True}
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_ctrl_c_leaves_no_child(spawn) -> None:
    process = spawn("tune", "demo/baseline", "--device", "cpu", start_new_session=True)
    family: list[psutil.Process] = []

    def has_child() -> bool:
        family.extend(psutil.Process(process.pid).children())
        return bool(family)

    until(has_child, "a trial runs in a process of its own")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert psutil.wait_procs(family, timeout=10)[1] == []
