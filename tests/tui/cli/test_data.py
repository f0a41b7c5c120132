"""`sepdash data`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 40_000)
    for number in range(3):
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
    return folder


def test_a_good_folder(sepdash, speech):
    answer = sepdash("data", "check", str(speech))

    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        str(speech),
        "  audio files, including subfolders: 3 files, 7.5 s, 16000 Hz, mono",
        "  no problems",
        "",
        "no problems; 3 readable files, 7.5 s in total",
    ]


def test_problems_are_listed_by_kind_and_end_with_exit_code_2(sepdash, speech):
    for number in range(25):
        soundfile.write(speech / f"short-{number:02}.wav", np.full(1000, 0.1), 16_000)
    soundfile.write(speech / "silent.wav", np.zeros(40_000), 16_000)
    answer = sepdash("data", "check", str(speech))

    assert answer.code == 2
    lines = answer.out.splitlines()
    assert lines[2] == "  short: 25 (files shorter than one segment, which training pads)"
    assert lines[3] == "    short-00.wav: 0.06 s, shorter than one segment of 2 s"
    assert lines[23] == "    ... and 5 more (use --all to list them)"
    assert "    silent.wav: silent, its peak is 0.0e+00" in lines
    assert lines[-1] == "26 problems; 29 readable files, 11.6 s in total"
    assert sepdash("data", "check", str(speech), "--all").out.count("short-") == 25
    assert sepdash("data", "check", str(speech), "--headers", "--segment", "0.01").code == 0
    allowed = sepdash("data", "check", str(speech), "--allow", "short", "--allow", "silent")
    assert allowed.code == 0
    assert "short: 25, allowed" in allowed.out


def test_json(sepdash, speech):
    (speech / "broken.wav").write_text("no audio")
    answer = sepdash("data", "check", str(speech), "--json")

    assert answer.code == 2
    found = json.loads(answer.out)
    assert found["num_problems"] == 1
    assert found["folders"][0]["duration_s"] == 7.5
    assert found["folders"][0]["findings"][0]["kind"] == "unreadable"


def test_a_preset_is_checked_with_its_settings(sepdash, speech):
    words = ["data", "check", "denoise/small", "--set", f"data.train={speech}"]
    words += ["--set", f"data.valid={speech}", "--set", f"data.noise={speech}"]

    assert sepdash(*words).code == 0
    answer = sepdash(*words, "--set", "data.noise=/nowhere")
    assert answer.code == 2
    assert "data.noise /nowhere" in answer.out
    assert "folder /nowhere does not exist" in answer.out


def test_mistakes_are_one_line(sepdash, speech):
    for words, message in (
        (["check", "denoise/smal"], "denoise/smal is not a file, folder or preset"),
        (["check", str(speech), "--set", "seed=1"], "--set applies to presets"),
        (["check", str(speech), "--allow", "noisy"], "unknown kind; expected empty, unreadable"),
    ):
        answer = sepdash("data", *words)
        assert answer.code == 2
        assert message in answer.err
        assert answer.err.count("\n") == 1


def test_an_index_notices_what_has_changed(sepdash, speech):
    answer = sepdash("data", "index", str(speech))
    path = speech / "sepdash-index.jsonl"
    assert answer.out == f"wrote {path}: 3 files, 7.5 s\n"
    assert sepdash("data", "index", str(speech), "--verify").code == 0

    (speech / "0.wav").unlink()
    soundfile.write(speech / "1.wav", np.zeros(100), 16_000)
    soundfile.write(speech / "new.wav", np.zeros(100), 16_000)
    answer = sepdash("data", "index", str(speech), "--verify")
    assert answer.code == 2
    assert answer.out.splitlines() == [
        "removed  0.wav",
        "changed  1.wav",
        "added    new.wav",
        f"3 changes; {path} lists 3 files",
    ]


def test_hashes_tell_a_touched_file_from_a_changed_one(sepdash, speech):
    for words, changes in ((["--hash"], 0), ([], 1)):
        assert sepdash("data", "index", str(speech), *words).code == 0
        state = (speech / "0.wav").stat()
        os.utime(speech / "0.wav", ns=(state.st_mtime_ns + 1, state.st_mtime_ns + 1))
        answer = sepdash("data", "index", str(speech), "--verify")
        assert answer.out.count("changed ") == changes


def test_a_manifest_that_is_none(sepdash, speech):
    path = speech / "sepdash-index.jsonl"
    for text, reason in (
        (None, "No such file"), ("", "not enough values"), ("{}", "'format'"),
        ('{"format": "sepdash data index", "version": 1, "num_files": 2}\n', "0 of 2 entries"),
        ('{"format": "sepdash data index", "version": 9, "num_files": 0}\n', "version 9"),
    ):  # fmt: skip
        if text is not None:
            path.write_text(text)
        answer = sepdash("data", "index", str(speech), "--verify")
        assert answer.code == 2
        assert "not a valid index" in answer.err
        assert reason in answer.err


def write_digits(folder: Path) -> Path:
    for digit in range(10):
        for take in range(10):
            path = folder / "theo" / f"{digit}_{take:02}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            time = np.arange(2_400 + 80 * take) / 8_000
            soundfile.write(path, 0.5 * np.sin(2 * np.pi * (300 + 100 * digit) * time), 8_000)
    return folder


def test_digits_become_utterances_that_pass_the_check(sepdash, tmp_path):
    folder, out = write_digits(tmp_path / "digits"), tmp_path / "strings"
    words = ["data", "digits", str(folder), "-o", str(out), "--utterances", "40", "--valid", "10"]
    answer = sepdash(*words)

    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        f"wrote 40 training and 10 validation utterances to {out}",
        f"to train on them: sepdash enqueue transducer/digits --set data.train={out}/train.jsonl "
        f"--set data.valid={out}/valid.jsonl",
    ]
    answer = sepdash("data", "check", str(out / "train.jsonl"))
    assert answer.code == 0, answer.out
    lines = answer.out.splitlines()
    assert lines[0] == str(out / "train.jsonl")
    assert lines[1].startswith("  40 utterances: 40 files, ")
    assert lines[2].startswith("  utterances of 1.")
    assert lines[3].endswith(" words (10 distinct), 15 distinct characters: efghinorstuvwxz")
    assert lines[4] == "  no problems"

    answer = sepdash(*words)
    assert answer.code == 2
    assert "exists and is not empty" in answer.err


def test_bad_rows_of_a_manifest_are_listed_in_their_order(sepdash, tmp_path):
    rows = [{"path": "a.wav", "text": "on" if n != 7 else "?"} for n in range(1, 13)]
    rows[10]["start"] = 9
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    soundfile.write(tmp_path / "a.wav", np.full(8_000, 0.1), 8_000)
    answer = sepdash("data", "check", str(tmp_path / "m.jsonl"))

    assert answer.code == 2
    lines = answer.out.splitlines()
    assert lines[4:7] == [
        "  rows: 2 (invalid utterances in a manifest or transcript)",
        f"    {tmp_path}/m.jsonl:7: text '?' is empty after normalisation",
        f"    {tmp_path}/m.jsonl:11: start = 9 s, but the file ends at 1.000 s",
    ]
