"""`sepdash data voice` and `sepdash data cut`: what they print and write, and every mistake in one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def anna(tmp_path: Path) -> Path:
    """Twelve clips in the layout of LJSpeech, with a fault of the table and one of the audio."""
    folder = tmp_path / "anna"
    (folder / "wavs").mkdir(parents=True)
    draw = np.random.default_rng(0)
    lines = []
    for number in range(12):
        text = f"“Number” {number % 3} — {'word ' * (1 + number % 4)}"
        samples = 0.1 * draw.standard_normal(round(8_000 * (0.3 + 0.07 * len(text))))
        soundfile.write(folder / "wavs" / f"{number:02}.wav", samples, 8_000)
        lines.append(f"{number:02}|{text}|{text}")
    lines += ["12|no audio", "13 no bar\x1b[31m"]
    (folder / "metadata.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    return folder


def test_a_voice_becomes_manifests_with_a_report(sepdash, anna, tmp_path) -> None:
    out = tmp_path / "out"
    answer = sepdash("data", "voice", str(anna), "-o", str(out), "--set", "data.case=keep")

    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == f"{anna}: LJSpeech metadata (metadata.csv), 14 rows"
    assert "  validation: 1 clip, " in answer.out
    assert "  anna        11      1" in answer.out
    assert (
        "texts: 12 of 12 change (case keep, punctuation plain, numbers keep, tokens char)" in lines
    )
    assert '      -> "Number" 0 - word' in lines
    assert "  replaced by plain signs: “ 12  ” 12  — 12" in lines
    assert "  12 texts with digits, which are kept; data.numbers = words spells them out" in lines
    assert "  missing: 1 (rows whose audio is not there)" in lines
    assert "    metadata.csv:13: '12': no such audio file" in lines
    assert "\x1b" not in answer.out
    assert lines[-2] == f"wrote {out / 'train.jsonl'} and {out / 'valid.jsonl'}"
    assert lines[-1].startswith("to train on them: sepdash enqueue voice/base --set ")
    assert f"--set data.train={out / 'train.jsonl'}" in lines[-1]
    assert lines[-1].endswith("--set data.case=keep")
    assert sorted(path.name for path in out.iterdir()) == [
        "report.json",
        "train.jsonl",
        "valid.jsonl",
    ]
    words = ["data", "check", str(out / "train.jsonl")]
    assert sepdash(*words).code == 0


def test_json_and_a_dry_run(sepdash, anna, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = sepdash(
        "data", "voice", str(anna), "--dry-run", "--json", "--valid", "0.25", "--seed", "3"
    )
    assert answer.code == 0
    found = json.loads(answer.out)
    assert (found["out"], found["train"]["clips"], found["valid"]["clips"]) == (None, 9, 3)
    assert found["drawn"] == {"valid": 0.25, "seed": 3}
    assert [item["kind"] for item in found["findings"]] == ["rows", "missing"]
    assert [path.name for path in tmp_path.iterdir() if "manifests" in path.name] == []
    assert sepdash("data", "voice", str(anna)).code == 0
    assert (tmp_path / "anna-manifests" / "train.jsonl").is_file()
    again = sepdash("data", "voice", str(anna))
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "add --replace" in again.err
    assert sepdash("data", "voice", str(anna), "--replace").code == 0


def test_a_preset_says_how_long_clips_and_texts_may_be(sepdash, anna, tmp_path) -> None:
    words = ["data", "voice", str(anna), "--dry-run", "--json", "--preset", "voice/small"]
    rows = (anna / "metadata.csv").read_text(encoding="utf-8-sig").splitlines()
    rows[0] = f"00|{'word ' * 13}"
    (anna / "metadata.csv").write_text("\n".join(rows))
    messages = [item["message"] for item in json.loads(sepdash(*words).out)["findings"]]
    assert "wavs/00.wav: 64 characters, more than 62" in messages
    more = json.loads(sepdash(*words, "--max-chars", "64").out)["findings"]
    assert not [item for item in more if item["kind"] == "text"]
    short = json.loads(sepdash(*words, "--set", "data.max_s=2").out)["findings"]
    assert any(item["message"].endswith("longer than 2 s") for item in short)


def test_the_command_that_comes_next_can_be_pasted(sepdash, anna, tmp_path) -> None:
    out = tmp_path / "my $voice"
    answer = sepdash("data", "voice", str(anna), "-o", str(out), "--set", "data.case=keep")
    words = shlex.split(answer.out.splitlines()[-1].partition(": ")[2])
    assert words == [
        "sepdash", "enqueue", "voice/base", "--set", f"data.train={out}/train.jsonl",
        "--set", f"data.valid={out}/valid.jsonl", "--set", "data.case=keep",
    ]  # fmt: skip


def test_a_dry_run_finds_out_that_nothing_is_left(sepdash, anna) -> None:
    (anna / "metadata.csv").write_text("00;one\n")
    answer = sepdash("data", "voice", str(anna), "--dry-run")
    assert answer.code == 2
    assert "no clips to train on, nothing was written" in answer.err


def test_mistakes_are_one_line(sepdash, anna, tmp_path) -> None:
    for words, message in (
        ([str(tmp_path / "none")], "does not exist; name a folder or a table of texts"),
        ([str(anna), "--set", "optimizer.lr=1"], "only settings of data apply here"),
        (
            [str(anna), "--set", "data.cas=keep"],
            "data.cas: unknown setting, did you mean 'case'?",
        ),
        ([str(anna), "--set", "data.case=loud"], "data.case"),
        ([str(anna), "--preset", "denoise/small"], "its data have no texts"),
        ([str(anna), "--preset", "voice/smal"], "--preset: "),
        ([str(anna), "--min", "5", "--max", "2"], "--min 5 must be below --max 2"),
        ([str(anna), "--min", "3", "--max", "3.1"], "no clips to train on, nothing was written"),
    ):
        answer = sepdash("data", "voice", *words, "-o", str(tmp_path / "out"))
        assert answer.code == 2, words
        assert message in answer.err
        assert answer.err.count("\n") == 1, answer.err
        assert not (tmp_path / "out").exists()


def test_cut_says_what_comes_next(sepdash, tmp_path) -> None:
    draw = np.random.default_rng(0)
    parts = [np.zeros(4_000)]
    for seconds in (2, 3, 2, 9):
        parts += [0.1 * draw.standard_normal(seconds * 8_000), np.zeros(4_000)]
    soundfile.write(tmp_path / "talk.wav", np.concatenate(parts), 8_000)
    out = tmp_path / "pieces"
    answer = sepdash("data", "cut", str(tmp_path / "talk.wav"), "-o", str(out), "--max", "4")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        f"wrote 3 pieces, 8s of 18s in 1 recording, to {out / 'wavs'}",
        "left out: 1 stretches of sound, 9.0 s, too short to be a piece or too long without a pause",
        f"  {tmp_path / 'talk.wav'}: 9.00 to 18.00 s",
        f"next: fill in the texts of {out / 'metadata.csv'}, then: sepdash data voice {out}",
        f"or: sepdash transcribe RUN {out / 'wavs'} -o {out / 'texts.jsonl'}, then: sepdash data voice "
        f"{out / 'texts.jsonl'}",
    ]
    again = sepdash("data", "cut", str(tmp_path / "talk.wav"), "-o", str(out))
    assert (again.code, "exists and is not empty" in again.err) == (2, True)
    for words, message in (
        ([str(tmp_path / "none.wav"), "-o", "x"], "does not exist"),
        (
            [str(tmp_path / "talk.wav"), "-o", "x", "--min", "5", "--max", "5"],
            "must be below --max",
        ),
    ):
        answer = sepdash("data", "cut", *words)
        assert (answer.code, message in answer.err) == (2, True), answer.err


def test_a_manifest_of_transcriptions_is_never_overwritten(sepdash, tmp_path) -> None:
    sound = tmp_path / "a.wav"
    sound.touch()
    (tmp_path / "texts.jsonl").touch()
    for name, message in (
        ("texts.jsonl", "exists; choose another name"), ("texts.csv", "a manifest ends in .jsonl"),
        ("none/texts.jsonl", "does not exist"),
    ):  # fmt: skip
        answer = sepdash("transcribe", "one", str(sound), "-o", str(tmp_path / name))
        assert (answer.code, message in answer.err) == (2, True)
    both = sepdash("transcribe", "one", str(sound), "--stream", "-o", str(tmp_path / "new.jsonl"))
    assert "remove --json, --out and --beam" in both.err
