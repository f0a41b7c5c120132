"""Claims about `sepdash probe` and `features`: what is refused, the table, CSV and JSON, kept results."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest

from jobs.probing import probe as probing
from jobs.sweeps.probe_requests import request_probe
from jobs.sweeps.probe_settings import ProbeSettings

FAKE = Path(__file__).parents[2] / "jobs" / "fakes" / "probe.py"


@pytest.fixture(autouse=True)
def fake_program(monkeypatch):
    monkeypatch.setattr(probing, "PROGRAM", (sys.executable, "-P", str(FAKE)))


@pytest.fixture
def trained(lab):
    """A run with a checkpoint."""
    run = lab.run("one")
    folder = lab.home.run_folder(run) / "checkpoints" / "best-wer"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"metrics": {"wer": 0.5}}))
    return run


def test_the_table_has_both_baselines_and_a_verdict(sepdash, trained, tmp_path):
    answer = sepdash("probe", "one", "--data", str(tmp_path / "x.jsonl"))
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].endswith(
        "2 speakers, 2 words, 9 recordings to train probes, 20 to test them (by take)"
    )
    rows = [line.split() for line in lines if line.startswith(("one ", "random, one", "MFCC"))]
    assert [row[-1] for row in rows] == ["0.819", "0.319", "0.519"]
    assert "  one against MFCC: +30.0 points (+30.0 to +30.0), models differ" in answer.out
    assert "one seed: this says nothing about other seeds" in answer.out
    assert "one: features" in answer.err


def test_checkpoints_of_one_name_are_told_apart_and_a_single_layer_has_its_number(
    sepdash, trained, lab
):
    first = lab.home.run_folder(trained) / "checkpoints" / "best-wer"
    second = lab.home.root / "copy" / "best-wer"
    shutil.copytree(first, second)
    answer = sepdash("probe", str(first), str(second), "--data", "x")
    rows = [
        line.split()[:2]
        for line in answer.out.splitlines()
        if " words, " not in line and line.startswith(("/", "MFCC "))
    ]
    assert rows == [[str(first), "1"], [str(second), "1"], ["MFCC", "–"]]
    alone = sepdash("probe", str(first), "--data", "x").out
    assert "\nbest-wer " in alone


def test_csv_and_json_have_all_values(sepdash, trained, tmp_path):
    table = tmp_path / "probe.csv"
    answer = sepdash("probe", "one", "--data", "x", "--csv", str(table), "--json", "--no-baselines")
    assert answer.code == 0
    values = json.loads(answer.out)
    (encoder,) = values["encoders"]
    assert (encoder["variant"], encoder["chosen"]) == ("one", 1)
    (row,) = csv.DictReader(table.open())
    assert (row["measure"], row["layer"], row["chosen"]) == ("left_out_segments", "1", "True")
    assert float(row["value"]) == encoder["layers"][0]["scores"]["left_out_segments"]["value"]


def test_a_csv_file_that_can_not_be_written_costs_no_result(sepdash, trained, tmp_path):
    missing = sepdash("probe", "one", "--data", "x", "--csv", str(tmp_path / "none" / "x.csv"))
    assert (missing.code, missing.out) == (2, "")
    assert "its folder does not exist" in missing.err
    assert "one: features" not in missing.err, "refused before anything is measured"
    (tmp_path / "link").symlink_to("/dev/full")
    full = sepdash("probe", "one", "--data", "x", "--csv", str(tmp_path / "link"))
    assert (full.code, "can't be written" in full.err) == (2, True)
    assert "0.819" in full.out
    shown = sepdash("probe", "one", "--data", "x", "--csv", "-", "--no-baselines")
    (row,) = csv.DictReader(shown.out.splitlines())
    assert row["measure"] == "left_out_segments"


def test_user_errors_are_one_message(sepdash, lab, trained, tmp_path):
    for words, message in [
        (["one"], "--data is missing: name labelled recordings"),
        (["one", "--data", "bad.jsonl"], "nothing can be probed with it"),
        (["nobody", "--data", "x"], "no run 'nobody'"),
        (["one", "--data", "x", "--clusters", "1"], "1 is not in the range"),
    ]:
        answer = sepdash("probe", *words)
        assert (answer.code, message in answer.err) == (2, True), answer.err
        assert "Traceback" not in answer.err
    lab.run("two")
    assert "run two has no checkpoint yet" in sepdash("probe", "two", "--data", "x").err


def test_a_probe_that_waits_says_for_what(sepdash, lab, trained):
    request_probe(lab.home, "exp", runs=[trained], settings=ProbeSettings(data=Path("x")))
    answer = sepdash("probe", "exp")
    assert (answer.code, "made by `sepdash worker` once all" in answer.err) == (2, True)


def test_outside_text_reaches_no_terminal_as_it_is(sepdash, trained, tmp_path):
    odd = tmp_path / "a\x1b[31mb.jsonl"
    answer = sepdash("probe", "one", "--data", str(odd))
    assert answer.code == 0
    assert "\x1b" not in answer.out


def test_features_need_a_checkpoint_and_files(sepdash, lab, tmp_path):
    lab.run("one")
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"no sound")
    out = str(tmp_path / "out")
    assert "has no checkpoint yet" in sepdash("features", "one", str(sound), "-o", out).err
    assert "does not exist" in sepdash("features", "one", "missing.wav", "-o", out).err
    assert not Path(out).exists()
