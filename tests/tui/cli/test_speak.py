"""`sepdash speak`: what is refused before anything is loaded, what is asked for, and what a person reads."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from models.voice.generation import Sampling

CODES = {"codes": 20, "log_prob": -1.25}
RESULT = {
    "path": "out.wav", "text": "seven two", "read_as": "seven two", "duration_s": 2.0, "rate_hz": 8000,
    "generation_s": 1.0, "judging_s": None, "real_time_factor": 0.5, "why": "", "candidate": 1, "ending": "stop",
    **CODES, "character_error_rate": None, "heard": None, "candidates": [],
}  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return str(folder)


@pytest.fixture
def asked(monkeypatch) -> dict[str, Any]:
    """Answer at once with `results`; holds the job that was asked for."""
    found: dict[str, Any] = {"results": [RESULT]}

    def answers_of(command, job):
        found.update(command=command, job=job)
        yield {"voice": "training speaker 'an\x1b[31mna'", "device": "cpu", "weights": "0" * 16}
        for result in found["results"]:
            yield {"spoken": {**RESULT, **result}}
        yield {"done": True}

    monkeypatch.setattr("tui.cli.speak.answers_of", answers_of)
    return found


def test_what_cannot_be_spoken_is_one_line_and_starts_nothing(
    sepdash, lab, asked, checkpoint, tmp_path: Path
) -> None:
    lab.run("one")
    (tmp_path / "old.wav").write_text("")
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "texts.txt").write_text("a\n")
    (tmp_path / "spoken").mkdir()
    (tmp_path / "spoken" / "0001.wav").write_text("")
    texts, out = f"{tmp_path}/texts.txt", f"{tmp_path}/new.wav"
    for words, message in [
        ((checkpoint,), "nothing to speak: add a text"),
        ((checkpoint, "a"), "-o is missing: name a file that ends in .wav"),
        ((checkpoint, "a", "--file", texts, "-o", out), "a text and --file are both given"),
        ((checkpoint, " ", "-o", out), "the text is empty"),
        ((checkpoint, "a", "-o", f"{tmp_path}/a.mp3"), "name a file that ends in .wav"),
        ((checkpoint, "a", "-o", f"{tmp_path}/none/a.wav"), "none does not exist"),
        ((checkpoint, "a", "-o", f"{tmp_path}/old.wav"), "old.wav exists; choose another name"),
        ((checkpoint, "--file", texts, "-o", f"{tmp_path}/spoken"), "0001.wav exists; choose another"),
        ((checkpoint, "--file", texts, "-o", f"{tmp_path}/old.wav"), "is a file; with --file, name a folder"),
        ((checkpoint, "--file", f"{tmp_path}/empty.txt", "-o", out), "has no text"),
        ((checkpoint, "--file", f"{tmp_path}/latin.txt", "-o", out), "is not UTF-8"),
        ((checkpoint, "a", "-o", out, "--voice", "anna"), "--voice anna: no such file, nor is it a saved voice"),
        ((checkpoint, "a", "-o", out, "--voice", "x/a.wav"), "--voice x/a.wav: no such file"),
        ((checkpoint, "a", "-o", out, "--voice", str(tmp_path)), "is a folder; name recordings"),
        ((checkpoint, "a", "-o", out, "--voice", texts, "--speaker", "b"), "both name a voice"),
        ((checkpoint, "a", "-o", out, "--save-voice", "../b"), "--save-voice '../b': expected"),
        ((checkpoint, "a", "-o", out, "--voice", ""), "--voice is empty"),
        (("one", "a", "-o", out), "run one has no checkpoint yet (state: queued)"),
        ((checkpoint, "a", "-o", out, "--judge", "none"), "no run 'none'"),
        ((checkpoint, "a", "-o", out, "--temperature", "-1"), "-1.0 is not in the range"),
        ((checkpoint, "a", "-o", out, "--temperature", "nan"), "nan is not in the range 0<=x<=10"),
        ((checkpoint, "a", "-o", out, "--top-p", "NaN"), "NaN is not in the range 0<x<=1"),
    ]:  # fmt: skip
        answer = sepdash("speak", *words)
        assert (answer.code, message in answer.err) == (2, True), (words, answer.err)
        assert "Traceback" not in answer.err
    assert "job" not in asked
    assert not Path(out).exists()


def test_every_option_reaches_the_program(sepdash, lab, asked, checkpoint, tmp_path: Path) -> None:
    run = lab.run("judge")
    place = lab.home.run_folder(run) / "checkpoints" / "last-000001"
    place.mkdir(parents=True)
    (place / "manifest.json").write_text("{}")
    (tmp_path / "texts.txt").write_text("\ufeffone\n\n two \n", encoding="utf-8")
    (tmp_path / "clip.wav").write_text("")
    answer = sepdash(
        "speak", checkpoint, "--file", f"{tmp_path}/texts.txt", "-o", f"{tmp_path}/spoken",
        "--voice", f"{tmp_path}/clip.wav", "--save-voice", "anna", "--temperature", "0.5", "--top-k", "7",
        "--top-p", "0.9", "--repetition-penalty", "2", "--seed", "4", "--candidates", "8", "--judge", "judge",
        "--device", "cpu",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert asked["command"][1:] == ("-P", "-m", "engine.programs.speak")
    saved = lab.home.voices / "anna.safetensors"
    assert asked["job"] == {
        "checkpoint": checkpoint, "judge": str(place), "speaker": None, "device": "cpu", "seed": 4,
        "items": [
            {"place": "line 1", "text": "one", "path": f"{tmp_path}/spoken/0001.wav"},
            {"place": "line 3", "text": " two ", "path": f"{tmp_path}/spoken/0003.wav"},
        ],
        "clips": [f"{tmp_path}/clip.wav"], "saved": None, "save_as": str(saved), "candidates": 8,
        "sampling": {"temperature": 0.5, "top_k": 7, "top_p": 0.9, "repetition_penalty": 2.0},
    }  # fmt: skip
    assert not (tmp_path / "spoken").exists(), "the program makes it when all has been checked"
    assert f"voice saved as {saved}" in answer.out


def test_lines_are_counted_as_an_editor_counts_them(
    sepdash, asked, checkpoint, tmp_path: Path, monkeypatch
) -> None:
    text = "\ufeffone\x0ctwo\x85\u2028three\r\n\rfour\n".encode()
    (tmp_path / "texts.txt").write_bytes(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    for source in (f"{tmp_path}/texts.txt", "-"):
        answer = sepdash("speak", checkpoint, "--file", source, "-o", f"{tmp_path}/spoken")
        assert answer.code == 0, answer.err
        assert [(item["place"], item["text"]) for item in asked["job"]["items"]] == [
            ("line 1", "one\x0ctwo\x85\u2028three"),
            ("line 3", "four"),
        ]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(
    sepdash, asked, checkpoint, tmp_path: Path, monkeypatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (tmp_path / "texts.txt").write_text("a\n")
    # As it is for whoever is not root.
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != locked)
    for words in (
        ("a", "-o", f"{locked}/a.wav"),
        ("--file", f"{tmp_path}/texts.txt", "-o", f"{locked}/x/y"),
    ):
        answer = sepdash("speak", checkpoint, *words)
        assert answer.code == 2
        assert f"folder {locked} is not writable" in answer.err
    assert "job" not in asked


def test_a_checkpoint_that_is_listed_can_be_chosen(sepdash, lab, asked, tmp_path: Path) -> None:
    run = lab.run("one")
    places = [lab.home.run_folder(run) / "checkpoints" / f"last-{n:06}" for n in (20, 40)]
    for place in places:
        place.mkdir(parents=True)
        (place / "manifest.json").write_text("{}")
    for name, chosen in (
        ("last", places[1]),
        ("last-000020", places[0]),
        ("last-000040", places[1]),
    ):
        answer = sepdash("speak", "one", "a", "-o", f"{tmp_path}/a.wav", "--checkpoint", name)
        assert answer.code == 0, answer.err
        assert asked["job"]["checkpoint"] == str(chosen)
    answer = sepdash("speak", "one", "a", "-o", f"{tmp_path}/a.wav", "--checkpoint", "last-000030")
    assert "has no checkpoint 'last-000030'; available: last-000020, last-000040" in answer.err


def test_a_saved_voice_is_found_by_its_name(
    sepdash, lab, asked, checkpoint, tmp_path: Path
) -> None:
    saved = lab.home.voices / "anna.safetensors"
    saved.parent.mkdir(parents=True)
    saved.write_text("")
    out = ("-o", f"{tmp_path}/a.wav")
    assert sepdash("speak", checkpoint, "a", *out, "--voice", "anna").code == 0
    assert (asked["job"]["saved"], asked["job"]["clips"]) == (str(saved), [])
    # As evaluations do: what a run was judged by is what a person hears.
    assert asked["job"]["sampling"] == asdict(Sampling())
    del asked["job"]
    for words, message in [
        (("--voice", "anna", "--voice", "b.wav"), "--voice anna is a saved voice and stands alone"),
        (("--voice", "hans"), "nor is it a saved voice (saved: anna)"),
        (("--save-voice", "anna"), "a voice of that name exists"),
    ]:
        answer = sepdash("speak", checkpoint, "a", *out, *words)
        assert (answer.code, message in answer.err) == (2, True)
    assert "job" not in asked


def test_a_person_reads_what_won_what_was_heard_and_what_did_not_stop(
    sepdash, asked, checkpoint, tmp_path: Path
) -> None:
    asked["results"] = [
        {"text": "Seven\x1b[2J two", "why": "candidate 3 of 8: CER 0.0%", "character_error_rate": 0.0, "heard": "seven two"},
        {"path": "b.wav", "ending": "limit"},
        {"path": "c.wav", "ending": "stuck", "heard": "", "character_error_rate": None, "similarity": 0.8125,
         "similarity_others": None},
        {"path": "d.wav", "similarity": 0.8125, "similarity_others": 0.55},
    ]  # fmt: skip
    answer = sepdash("speak", checkpoint, "a", "-o", f"{tmp_path}/a.wav")
    assert answer.code == 0
    assert "\x1b" not in answer.out + answer.err
    lines = answer.out.splitlines()
    assert lines[0].startswith("training speaker 'an")
    assert lines[0].endswith("; checkpoint, cpu")
    assert lines[1].startswith("out.wav: 2.00 s in 1.00 s (real-time factor 0.50): Seven")
    assert lines[2:5] == [
        "  read as: seven two", "  candidate 3 of 8: CER 0.0%", "  the judge heard (CER 0.0%): seven two",
    ]  # fmt: skip
    assert "  the judge heard (no CER): (nothing)" in lines
    assert [line for line in lines if "similarity" in line] == [
        "  similarity to the voice: 0.81",
        "  similarity to the voice: 0.81 (other training speakers: 0.55 on average)",
    ]
    assert answer.err.splitlines() == [
        "warning: b.wav did not stop by itself: reached the limit of 20 codes; try another --seed, or "
        "--candidates 8",
        "warning: c.wav did not stop by itself: one code was repeated for a second; try another --seed, or "
        "--candidates 8",
    ]


def test_programs_read_json_and_silence_is_an_error(
    sepdash, asked, checkpoint, tmp_path: Path
) -> None:
    out = ("-o", f"{tmp_path}/a.wav")
    answer = sepdash("speak", checkpoint, "a", *out, "--json")
    assert answer.code == 0
    values = json.loads(answer.out)
    assert values["items"] == [RESULT]
    assert (values["checkpoint"], values["seed"], values["device"]) == (checkpoint, 0, "cpu")
    asked["results"] = [{"path": None, "ending": "stop", "real_time_factor": None}]
    answer = sepdash("speak", checkpoint, "a", *out)
    assert answer.code == 2
    assert "the model stopped at once, and nothing was written, for 'seven two'" in answer.err


def test_the_message_of_the_program_is_passed_on(sepdash, checkpoint, tmp_path: Path) -> None:
    (Path(checkpoint) / "manifest.json").write_text("{")
    answer = sepdash("speak", checkpoint, "a", "-o", f"{tmp_path}/a.wav")
    assert answer.code == 2
    assert answer.err.startswith("sepdash: ")
    assert "Traceback" not in answer.err
    assert not (tmp_path / "a.wav").exists()
