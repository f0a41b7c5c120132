"""Manifests as other tools write them: read as they are meant, or refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.speech import SpeechData
from engine.config.unlabelled import UnlabelledData
from engine.data.checks.survey import survey_folder
from engine.data.files.manifest_keys import means_place, own_keys
from engine.data.kinds import check_data, data_warnings, survey_data
from engine.data.speech.transcripts import Transcripts, checked_transcripts
from engine.data.unlabelled.rows import read_rows

RATE = 8000
# (start, end, text) in rec.wav, which is 4 s long.
PARTS = ((0.5, 1.25, "one two"), (1.25, 2.0, "three"), (2.5, 4.0, "four"))


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "audio" / "rec.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE), RATE)
    return path


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def speech(path: Path, **settings: Any) -> SpeechData:
    values = {"kind": "speech", "train": str(path), "valid": str(path), "rate_hz": RATE, **settings}
    return SpeechData.model_validate_json(json.dumps(values))


def transcripts(path: Path) -> Transcripts:
    return checked_transcripts(path, speech(path), setting="")


def problems(path: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        check_data(speech(path))
    return [problem.message for problem in caught.value.problems]


def lhotse(source: Any, start: float, end: float, text: str) -> dict[str, Any]:
    """Return a cut as `CutSet.to_file` writes it (lhotse 1.x)."""
    duration = end - start
    return {
        "id": f"cut-{start}", "start": start, "duration": duration, "channel": 0,
        "supervisions": [
            {"id": "s", "recording_id": "rec", "start": 0.0, "duration": duration, "channel": 0, "text": text,
             "speaker": "anna"}
        ],
        "recording": {
            "id": "rec", "sources": [{"type": "file", "channels": [0], "source": str(source)}],
            "sampling_rate": RATE, "num_samples": 4 * RATE, "duration": 4.0, "channel_ids": [0],
        },
        "type": "MonoCut",
    }  # fmt: skip


def layouts(top: Path) -> dict[str, Path]:
    """Write the three utterances in each layout; return what a setting names for it."""
    nemo = [
        {"audio_filepath": "audio/rec.wav", "offset": a, "duration": b - a, "text": t}
        for a, b, t in PARTS
    ]
    ends = [{"path": "audio/rec.wav", "start": a, "end": b, "text": t} for a, b, t in PARTS]
    kaldi = top / "kaldi" / "train"
    write(kaldi / "wav.scp", "rec data/audio/rec.wav")
    write(kaldi / "segments", *(f"u{k} rec {a} {b}" for k, (a, b, _) in enumerate(PARTS)))
    write(kaldi / "text", *(f"u{k} {t}" for k, (_, _, t) in enumerate(PARTS)))
    write(kaldi / "utt2spk", *(f"u{k} anna" for k in range(3)))
    samples = [(round(a * RATE), round(b * RATE), t) for a, b, t in PARTS]
    rows = [f"u,{(b - a) / RATE},audio/rec.wav,{a},{b},anna,{t}" for a, b, t in samples]
    names = "ID,duration,wav,start,stop,spk_id,wrd"
    return {
        "nemo": write(top / "data" / "nemo.json", *nemo),
        "ends": write(top / "data" / "ends.jsonl", *ends),
        "kaldi": kaldi,
        "kaldi text": kaldi / "text",
        "lhotse": write(top / "data" / "cuts.jsonl", *(lhotse("data/audio/rec.wav", *p) for p in PARTS)),
        "speechbrain": write(top / "data" / "brain.csv", names, *rows),
        "tabs": write(
            top / "data" / "tabs.tsv", "path\tstart\tend\tsentence",
            *(f"audio/rec.wav\t{a}\t{b}\t{t}" for a, b, t in PARTS),
        ),
    }  # fmt: skip


LAYOUTS = ("nemo", "ends", "kaldi", "kaldi text", "lhotse", "speechbrain", "tabs")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_same_utterances(layout: str, audio: Path, tmp_path: Path) -> None:
    path = layouts(tmp_path)[layout]
    found = transcripts(path).utterances
    assert [(item.text, item.start_s, item.duration_s) for item in found] == [
        (text, pytest.approx(start), pytest.approx(end - start)) for start, end, text in PARTS
    ]
    assert {item.path.resolve() for item in found} == {audio.resolve()}
    if layout in ("kaldi", "lhotse", "speechbrain"):
        assert {item.speaker for item in found} == {"anna"}
    # What data check says of it, with and without settings, and audio without texts.
    (survey,) = survey_data(speech(path), content=False)
    assert not survey.findings
    alone = survey_folder(path, segment_s=0.1, content=False)
    assert alone.layout == "3 utterances"
    rows = read_rows(path, setting="")
    assert rows.start_s.tolist() == pytest.approx([start for start, _, _ in PARTS])
    assert rows.duration_s.tolist() == pytest.approx([end - start for start, end, _ in PARTS])
    check_data(UnlabelledData(train=path, valid=path, rate_hz=RATE, min_s=0.5))


def test_kaldi_without_segments_or_texts(audio: Path, tmp_path: Path) -> None:
    folder = tmp_path / "k"
    write(folder / "wav.scp", f"rec {audio}")
    rows = read_rows(folder, setting="")
    assert list(rows.paths) == [str(audio)]
    assert survey_folder(folder, segment_s=0.1, content=False).layout == "1 utterance"
    assert "'text' is missing" in problems(folder)[0]
    write(folder / "text", "rec one", "other two")
    assert problems(folder) == [f"{folder}/text:2: other is not in {folder}/wav.scp"]


def test_commands_of_kaldi_are_not_run(audio: Path, tmp_path: Path) -> None:
    folder = tmp_path / "k"
    write(
        folder / "wav.scp", f"rec touch {tmp_path}/ran; sox {audio} -t wav - |", "b data/x.ark:12"
    )
    write(folder / "text", "rec one", "b two")
    messages = " ".join(problems(folder))
    assert "is a command, which is not run" in messages
    assert "is a part of an archive" in messages
    assert not (tmp_path / "ran").exists()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"onset": 0.5}, "'onset' may say where the utterance is"),
    ({"begin": 0.5, "duration": 1}, "'begin' may say"),
    ({"start_time": 0.5, "end_time": 1}, "'start_time', 'end_time' may say"),
    ({"startTime": 0.5}, "'startTime' may say"),
    ({"start_ms": 500}, "'start_ms' may say"),
    ({"length": 0.5}, "'length' may say"),
    ({"num_samples": 4000}, "'num_samples' may say"),
    ({"channel": 1}, "'channel' may say"),
    ({"segment": [0.5, 1.0]}, "'segment' may say"),
    ({"tmin": 0.5, "tmax": 1}, "'tmin', 'tmax' may say"),
    ({"start": 0.5, "offset": 0.7}, "offset = 0.7 and start = 0.5; give one of them"),
    ({"start": 0.5, "end": 0.5}, "end = 0.5 s must be after start = 0.5 s"),
    ({"start": 0.5, "end": 1.0, "duration": 0.7}, "give one of 'end' and 'duration'"),
    ({"end": "1"}, "end must be a number of seconds, found '1'"),
    ({"offset": "0.5"}, "start must be a number of seconds, found '0.5'"),
    ({"text": "half \ud83d"}, "text has half of a character (\\ud83d at character 6)"),
    ({"path": "a\0b.wav"}, "path has a NUL character"),
    ({"path": "\ud83d.wav"}, "path has half of a character"),
]


@pytest.mark.parametrize(("more", "words"), REFUSED)
def test_what_may_mean_a_place_is_refused(
    more: dict[str, Any], words: str, audio: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.jsonl", {"path": str(audio), "text": "one", **more})
    (message,) = problems(path)
    assert message.startswith(f"{path}:1: ")
    assert words in message
    if "text" not in more:
        with pytest.raises(DataError, match=r"m\.jsonl:1: "):
            read_rows(path, setting="")


@pytest.mark.parametrize(
    "key", ["speaker", "words", "take", "split", "lang", "id", "gender", "frames", "rate_hz", "channels", "noise",
            "snr", "size_bytes", "changed_ns", "note", "sha256", "phonemes", "dataset", "text_norm", "age", "tokens"]
)  # fmt: skip
def test_keys_that_say_no_place_are_free(key: str) -> None:
    assert not means_place(key)


def test_keys_that_say_nothing_are_no_problem(audio: Path, tmp_path: Path) -> None:
    row = {
        "path": str(audio),
        "text": "one",
        "offset": None,
        "channel": 0,
        "begin": None,
        "duration": None,
    }
    (item,) = transcripts(write(tmp_path / "m.jsonl", row)).utterances
    assert (item.start_s, item.duration_s) == (0.0, 4.0)


LHOTSE = [
    ({"type": "MixedCut", "tracks": []}, "cuts.save_audios"),
    ({"supervisions": [{"start": 0, "duration": 0.2}, {"start": 0.2, "duration": 0.2}]}, "trim-to-supervisions"),
    ({"supervisions": [{"start": 0.3, "duration": 0.2, "text": "x"}]}, "trim-to-supervisions"),
    ({"recording": None}, "without a recording"),
    ({"recording": {"sources": [{"type": "command", "source": "touch x"}]}}, "which is not run or fetched"),
    ({"recording": {"sources": [{"type": "url", "source": "http://x"}]}}, "which is not run or fetched"),
    ({"recording": {"sources": []}}, "several files for a recording"),
    ({"recording": {"sources": [{"type": "file", "source": "a"}], "transforms": [{"name": "Speed"}]}}, "transforms"),
    ({"duration": None}, "without start and duration"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), LHOTSE)
def test_cuts_of_lhotse_that_cant_be_read_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        own_keys({**lhotse("a.wav", 0.5, 1.0, "one"), **change})


def test_supervisions_of_lhotse_need_their_recordings() -> None:
    with pytest.raises(ValueError, match="lhotse cut simple"):
        own_keys({"id": "s", "recording_id": "r", "start": 0.0, "duration": 1.0, "text": "one"})


def test_tables_that_cant_be_read_are_refused(audio: Path, tmp_path: Path) -> None:
    names = "ID,duration,wav,wrd"
    path = write(
        tmp_path / "b.csv", names, "a,1,$data_root/a.wav,one", "b,x,a.wav,two", "c,1,a.wav"
    )
    (tmp_path / "a.wav").touch()
    placeholder, number, fields = problems(path)
    assert "stands for a folder that the recipe fills in" in placeholder
    assert "duration must be a number, found 'x'" in number
    assert "3 fields, but the first row names 4" in fields
    for name, text in (("metadata.csv", "LJ001|one two|one two"), ("train.txt", "a.wav|one")):
        listed = write(tmp_path / name, text)
        (message,) = problems(listed)
        assert f"make one of it with `sepdash data voice {listed}`" in message


def test_rows_that_no_json_reader_takes_are_named(audio: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", "[" * 100_000, '{"path": ' + "1" * 5000 + "}", "\x00")
    assert [message.partition(" (")[0] for message in problems(path)] == [
        f"{path}:{number}: invalid JSON" for number in (1, 2, 3)
    ]


def test_compressed_manifests_say_how_to_unpack_them(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}"))
    (message,) = problems(path)
    assert f"unpack it with `gunzip -k {path}`" in message


def test_repeated_parts_are_told(audio: Path, tmp_path: Path) -> None:
    one = {"path": str(audio), "start": 0.5, "duration": 1.0, "text": "one"}
    path = write(tmp_path / "m.jsonl", one, one, {**one, "text": "two"}, {**one, "start": 2.0})
    data = speech(path)
    (survey,) = survey_data(data, content=False)
    assert [(item.kind, item.message) for item in survey.findings] == [
        ("repeated", f"{path}:3: is the same part of rec.wav as {path}:1, with another text")
    ]
    clause = f"1 row repeats an utterance with its text, for example {path}:2"
    assert clause in survey.notes[0]
    warnings = data_warnings(data)
    assert f"data.train: {clause}" in warnings
    assert any("with another text for a part" in text for text in warnings)
    alone = survey_folder(path, segment_s=0.1, content=False)
    assert [item.kind for item in alone.findings] == ["repeated"]
    unlabelled = UnlabelledData(train=path, valid=path, rate_hz=RATE, min_s=0.5)
    assert (
        f"data.train: 2 rows repeat a part that is there already, for example {path}:2"
        in data_warnings(unlabelled)
    )


def test_twelve_texts_for_one_file_are_told(audio: Path, tmp_path: Path) -> None:
    rows = [{"path": str(audio), "text": f"text {'abcdefghijkl'[k]}"} for k in range(12)]
    (survey,) = survey_data(speech(write(tmp_path / "m.jsonl", *rows)), content=False)
    assert [item.kind for item in survey.findings] == ["repeated"] * 11
