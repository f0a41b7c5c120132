"""The words of a plan's report, and the child process that counts it."""

from __future__ import annotations

import json

import numpy as np
import soundfile

from engine.batching.report import LeftOut, PlanReport
from tui.reports.batch_plan import report_lines

REPORT = PlanReport(
    mode="1D-bucketing", hash="0" * 16, world=8, num_items=281_241, audio_s=3_459_264.0,
    updates_per_epoch=280.5, updates_seen=280, micro_batches=8_960, empty=2, over_cap=0,
    largest=319.98, shapes=99, padding_share=0.0125, joint_padding_share=0.26, idle_share=0.001,
    mean_items=1_004.4, mean_s=12_354.5, mean_tokens=51_000.0,
    histogram=((20, 39, 8_000), (40, 59, 0), (60, 60, 960)),
    left_out=(LeftOut("no bucket is large enough", 3, (5, 7, 11)),), notes=("look here",),
)  # fmt: skip


def test_a_report_says_what_a_person_decides_by() -> None:
    lines = report_lines(REPORT)
    facts = {line[:13].strip(): line[14:] for line in lines[: lines.index("")]}
    assert facts == {
        "mode": "1D-bucketing, 8 devices",
        "data": "281,241 items, 960.91 h",
        "global batch": "1,004.4 items, 3.43 h, 51,000 tokens",
        "epoch": "280.5 updates",
        "update": "4.0 micro-batches per device",
        "padding": "1.25% (26.0% of seconds x tokens), 99 shapes",
        "maximum": "320.0 padded seconds per micro-batch",
        "idle": "0.10% of the device time, 2 empty micro-batches",
        "skipped": "3 items: no bucket is large enough (item 5, 7, 11)",
        "note": "look here",
        "based on": "280 updates, 8,960 micro-batches",
    }
    bars = [line.split() for line in lines[-3:]]
    assert [bar[0] for bar in bars] == ["20-39", "40-59", "60"]
    assert [bar[1].count("█") for bar in (bars[0], bars[2])] == [24, 3]


def test_the_verb_plans_in_a_child_and_prints_text_or_json(sepdash, tmp_path, write_tone) -> None:
    for key in ("train", "valid", "noise"):
        write_tone(tmp_path / key / "tone.wav")
    data = [w for k in ("train", "valid", "noise") for w in ("--set", f"data.{k}={tmp_path / k}")]
    answer = sepdash(
        "plan", "denoise/small", *data, "--set", "batch.items=6", "--world", "2", "--json"
    )
    assert answer.code == 0
    found = json.loads(answer.out)
    assert (found["mode"], found["mean_items"], found["world"]) == ("exact", 6.0, 2)
    assert found["notes"] == []


def test_references_that_cannot_be_queued_are_warned_about(sepdash, tmp_path, write_tone) -> None:
    for key in ("train", "valid", "noise"):
        write_tone(tmp_path / key / "tone.wav")
    data = [w for k in ("train", "valid", "noise") for w in ("--set", f"data.{k}={tmp_path / k}")]
    answer = sepdash("plan", "denoise/small", *data, "--set", "init_from=nowhere")
    assert answer.code == 0, answer.err
    assert "warning       it can't be queued like this: init_from: no run 'nowhere'" in answer.out


def test_utterances_out_of_range_are_told(sepdash, tmp_path) -> None:
    rows = []
    for name, seconds in (("short", 1), ("long", 3)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8_000 * seconds), 8_000)
        rows.append(json.dumps({"path": f"{name}.wav", "duration": seconds, "text": "One."}))
    (tmp_path / "train.jsonl").write_text("\n".join(rows))
    data = ["--set", f"data.train={tmp_path / 'train.jsonl'}"]
    data += ["--set", f"data.valid={tmp_path / 'train.jsonl'}", "--set", "data.max_s=2"]
    answer = sepdash("plan", "transducer/digits", *data, "--set", "batch.items=1")
    assert answer.code == 0, answer.err
    assert "1 items" in answer.out
    assert "recommended   more than 1,024 items or 5 h per update, as published" in answer.out
    assert "a smaller update is right" in answer.out
    assert "1 of 2 utterances (3.0 s) skipped" in answer.out
    assert "with data.train" in answer.out
    assert (
        "note          texts: 2 of 2 change (case lower, punctuation drop, numbers keep"
        in answer.out
    )
    assert "such as 'One.' to 'one'; dropped . 2" in answer.out


def test_what_is_wrong_with_the_data_is_said_in_one_line(sepdash, tmp_path) -> None:
    answer = sepdash("plan", "demo/baseline", "--set", f"data.train={tmp_path / 'nowhere'}")
    assert answer.code == 2
    assert "nowhere does not exist" in answer.err
    assert len(answer.err.splitlines()) == 1
