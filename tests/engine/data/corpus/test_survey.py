"""Claims about `sepdash data voice` on folders with one fault each, made by hand: named, counted, and what follows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.speech import SpeechData
from engine.config.voice import VoiceData
from engine.data.checks.speech_before_queue import check_speech
from engine.data.corpus.manifests import check_out, write_corpus
from engine.data.corpus.survey import Corpus, Drawing, Limits, survey_corpus
from engine.data.kinds import check_data, data_warnings
from engine.data.speech.transcripts import read_transcripts

LIMITS = Limits(0.5, 5.0, max_chars=60)
TEXT = "one two three four"


def survey(target: Path, data, **options) -> Corpus:
    options = {"limits": LIMITS, "drawing": Drawing(0.1), **options}
    return survey_corpus([target] if isinstance(target, Path) else target, data, **options)


def kinds(corpus: Corpus) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in corpus.findings:
        found.setdefault(finding.kind, []).append(finding.message.replace(f"{corpus.folder}/", ""))
    return found


@pytest.fixture
def good(folder: Path, write_clip) -> list[str]:
    """Lines of twenty clips without a fault, whose audio is written."""
    lines = []
    for number in range(20):
        text = " ".join(["one", "two", "three", "four", "five", "six", "seven"][: 1 + number % 7])
        write_clip(f"wavs/{number:02}.wav", sound_s=0.6 + 0.06 * len(text))
        lines.append(
            f"{number:02}|{text}, take {'abcdefghijklmnopqrst'[number]}{'abcdefghijklmnopqrst'[-number]}"
        )
    return lines


def write(folder: Path, lines: list[str]) -> Path:
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_good_folder_has_no_findings(folder, good, data) -> None:
    corpus = survey(write(folder, good), data)
    assert kinds(corpus) == {}
    assert (len(corpus.train), len(corpus.valid), corpus.num_rows) == (18, 2, 20)
    assert corpus.notes == (
        "2 validation clips only, so scores will be coarse; --valid 0.2 holds out more",
    )
    assert {clip.speaker for clip in corpus.train} == {"anna"}
    assert corpus.speakers["anna"][:2] == (18, 2)


FAULTS = {
    "missing": (lambda write_clip: None, f"x|{TEXT}", "metadata.csv:21: 'x': no such audio file"),
    "empty": (lambda write_clip: write_clip("wavs/x.wav"), "x| ", "metadata.csv:21: wavs/x.wav has no text"),
    "short": (
        lambda write_clip: write_clip("wavs/x.wav", sound_s=0.1), f"x|{TEXT}",
        "wavs/x.wav: 0.30 s, shorter than 0.5 s",
    ),
    "long": (
        lambda write_clip: write_clip("wavs/x.wav", sound_s=7), f"x|{TEXT}", "wavs/x.wav: 7.2 s, longer than 5 s",
    ),
    "text": (
        lambda write_clip: write_clip("wavs/x.wav", sound_s=4.4), f"x|{'one two ' * 8}",
        "wavs/x.wav: 63 characters, more than 60",
    ),
    "silent": (
        lambda write_clip: write_clip("wavs/x.wav", level=0), f"x|{TEXT}",
        "wavs/x.wav: silent, its peak is 0.0e+00",
    ),
    "rows": (lambda write_clip: write_clip("wavs/x.wav"), f"x {TEXT}", "has no `|`; expected id|text"),
    "clipped": (lambda write_clip: write_clip("wavs/x.wav", sound_s=1.6, level=0.9), f"x|{TEXT}", "% of its samples are at full scale"),
    "ends": (
        lambda write_clip: write_clip("wavs/x.wav", sound_s=1.6, lead_s=0.3, tail_s=0.9), f"x|{TEXT}",
        "wavs/x.wav: silent for 0.90 s at the end, of 2.80 s",
    ),
    "pace": (
        lambda write_clip: write_clip("wavs/x.wav", sound_s=4.5), "x|one",
        "wavs/x.wav: 4.5 s of speech for 3 characters (1.500 s each), about",
    ),
    "rate": (
        lambda write_clip: write_clip("wavs/x.wav", sound_s=1.6, rate_hz=16_000), f"x|{TEXT}",
        "1 clip of 16000 Hz, for example wavs/x.wav; most have 8000 Hz",
    ),
    "channels": (lambda write_clip: write_clip("wavs/x.wav", sound_s=1.6, channels=2), f"x|{TEXT}", "1 clip, for example wavs/x.wav"),
    "unreadable": (lambda write_clip: write_clip("wavs/x.wav").write_bytes(b"RIFF no"), f"x|{TEXT}", "wavs/x.wav: can't be read as audio"),
}  # fmt: skip
USED = {"clipped", "ends", "pace", "rate", "channels"}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_named_and_nothing_else(folder, good, data, write_clip, kind: str) -> None:
    make, line, message = FAULTS[kind]
    make(write_clip)
    corpus = survey(write(folder, [*good, line]), data)
    assert list(kinds(corpus)) == [kind]
    (found,) = kinds(corpus)[kind]
    assert message in found
    assert len(corpus.train) + len(corpus.valid) == 20 + (kind in USED)


def test_a_file_that_is_cut_off_is_found_by_listening(folder, good, data, write_clip) -> None:
    path = write_clip("wavs/x.wav").with_suffix(".flac")
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(12_000), 8_000)
    (folder / "wavs/x.wav").unlink()
    path.write_bytes(path.read_bytes()[:9_000])
    assert list(kinds(survey(write(folder, [*good, f"x|{TEXT}"]), data))) == ["unreadable"]


def test_duplicates_of_ids_audio_and_texts(folder, good, data, write_clip) -> None:
    write_clip("wavs/x.wav", sound_s=1.6, seed=7)
    same = write_clip("wavs/y.wav", sound_s=1.6, seed=7)
    samples, rate_hz = soundfile.read(same)
    soundfile.write(same.with_name("z.flac"), samples, rate_hz)
    write_clip("wavs/w.wav", sound_s=1.6)
    lines = [
        f"x|{TEXT}",
        f"x|{TEXT}",
        "x|another text of it",
        f"y|{TEXT}",
        "z|four five six seven",
        f"w|{TEXT}",
    ]
    corpus = survey(write(folder, [*good, *lines]), data)
    assert kinds(corpus) == {
        "duplicate": [
            "metadata.csv:22: wavs/x.wav again, with the same text as in metadata.csv:21",
            "metadata.csv:23: wavs/x.wav again, with another text than in metadata.csv:21",
            "wavs/y.wav: same audio as wavs/x.wav",
            "wavs/z.flac: same audio as wavs/x.wav, with another text",
        ],
        "repeated": ["wavs/x.wav: 'one two three four', 2 times by anna"],
    }
    assert len(corpus.train) + len(corpus.valid) == 22


def test_silence_at_both_ends_and_its_limit(folder, good, data, write_clip) -> None:
    write_clip("wavs/x.wav", sound_s=1.6, lead_s=0.6, tail_s=0.7)
    target = write(folder, [*good, f"x|{TEXT}"])
    assert kinds(survey(target, data))["ends"] == [
        "wavs/x.wav: silent for 0.60 s at the start and 0.70 s at the end, of 2.90 s"
    ]
    assert kinds(survey(target, data, limits=Limits(0.5, 5, max_chars=60, silence_s=0.8))) == {}


def test_characters_of_one_text_stay_in_training_and_are_named(folder, data, write_clip) -> None:
    lines = []
    for number in range(60):
        write_clip(f"wavs/{number}.wav", sound_s=1.6)
        lines.append(f"{number}|one two three {'äöü'[number] if number < 3 else 'four'} {number}")
    for seed in range(8):
        corpus = survey(write(folder, lines), data, drawing=Drawing(0.3, seed=seed))
        trained = set("".join(clip.text for clip in corpus.train))
        assert set("".join(clip.text for clip in corpus.valid)) <= trained
        rare = [
            line for line in kinds(corpus)["characters"] if line.startswith(("'ä'", "'ö'", "'ü'"))
        ]
        assert rare == [f"{char!r} in 1 training text of {len(corpus.train)}" for char in "äöü"]


def test_speakers_of_columns_options_and_folders(folder, data, write_clip) -> None:
    lines = []
    for speaker, number in (("theo", 12), ("max", 3)):
        for take in range(number):
            write_clip(f"{speaker}/wavs/{take}.wav", sound_s=1.6)
            lines.append(f"{speaker}/wavs/{take}.wav|one two {take}")
    (folder / "train.txt").write_text("\n".join([*lines[:-1], f"{lines[-1]}|somebody"]))
    corpus = survey(folder, data)
    assert {name: clips[:2] for name, clips in corpus.speakers.items()} == {
        "anna": (13, 1),
        "somebody": (1, 0),
    }
    assert "no validation clips of 1 speaker with fewer than 5 clips (somebody)" in corpus.notes
    corpus = survey(folder, data, by_folder=True)
    assert {name: clips[:2] for name, clips in corpus.speakers.items()} == {
        "theo": (11, 1), "max": (2, 0), "somebody": (1, 0),
    }  # fmt: skip
    assert set(survey(folder, data, speaker="tom").speakers) == {"tom", "somebody"}


def test_several_folders_are_one_corpus_of_several_voices(folder, data, write_clip) -> None:
    for speaker in ("theo", "max"):
        for take in range(10):
            write_clip(f"{speaker}/wavs/{take}.wav", sound_s=1.6)
        rows = [f"{take}|one two {speaker} {take % 5}" for take in range(10)]
        write(folder / speaker, [*rows, "11|nothing"])
    corpus = survey([folder / "theo", folder / "max" / "metadata.csv"], data)
    assert {name: counts[:2] for name, counts in corpus.speakers.items()} == {
        "max": (9, 1), "theo": (9, 1),
    }  # fmt: skip
    assert (corpus.folder, corpus.num_rows) == (folder, 22)
    assert kinds(corpus)["missing"] == [
        "theo/metadata.csv:11: '11': no such audio file", "max/metadata.csv:11: '11': no such audio file",
    ]  # fmt: skip


def test_the_own_validation_part_is_drawn_anew_or_kept(folder, good, data) -> None:
    names = [line.partition("|")[::2] for line in good]
    rows = [
        json.dumps({"audio_filepath": f"wavs/{name}.wav", "text": text}) for name, text in names
    ]
    (folder / "train.jsonl").write_text("\n".join(rows[:15]))
    (folder / "valid.jsonl").write_text("\n".join(rows[15:]))
    corpus = survey(folder, data)
    assert (len(corpus.train), len(corpus.valid)) == (18, 2)
    assert "drawn anew, by speaker; --keep-split keeps theirs" in corpus.notes[0]
    corpus = survey(folder, data, drawing=Drawing(keep=True))
    assert [clip.name for clip in corpus.valid] == [
        f"wavs/{number}.wav" for number in range(15, 20)
    ]


def test_what_no_row_names_is_counted(folder, good, data, write_clip) -> None:
    write_clip("wavs/spare.wav")
    (folder / "wavs/old.m4a").touch()
    corpus = survey(write(folder, good), data)
    assert corpus.notes[1] == "1 audio file that no row names, for example anna/wavs/spare.wav"
    assert "1 audio file is not used, in a format that can't be read (1 .m4a)" in corpus.notes[2]


def speech(out: Path, **settings) -> SpeechData:
    values = {
        "train": out / "train.jsonl",
        "valid": out / "valid.jsonl",
        "rate_hz": 8_000,
        **settings,
    }
    return SpeechData(**values)


def test_what_is_written_is_what_training_reads(folder, good, data, tmp_path, write_clip) -> None:
    write_clip("wavs/x.wav", sound_s=0.1)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    target, out = write(folder, [*good, f"x|{TEXT}"]), tmp_path / "out"
    before[folder / "metadata.csv"] = (folder / "metadata.csv").stat().st_mtime_ns
    corpus = survey(target, data)
    write_corpus(corpus, out, data=data, about={"seed": 0})
    check_speech(speech(out))
    train = read_transcripts(out / "train.jsonl", speech(out, punctuation="plain"))
    assert [item.text for item in train.utterances] == [clip.text for clip in corpus.train]
    assert {row["speaker"] for row in train.extras} == {"anna"}
    report = json.loads((out / "report.json").read_text())
    assert (report["train"]["clips"], report["valid"]["clips"], report["rows"]) == (18, 2, 21)
    assert report["findings"][0]["kind"] == "short"
    assert report["settings"]["punctuation"] == "plain"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_is_written_is_what_voices_are_trained_on(folder, good, data, tmp_path) -> None:
    out = tmp_path / "out"
    write_corpus(survey(write(folder, good), data), out, data=data, about={})
    of_run = VoiceData(train=out / "train.jsonl", valid=out / "valid.jsonl", rate_hz=8_000)
    check_data(of_run)
    assert data_warnings(of_run) == []
    rows = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    rows[0]["text"] = "take 4"
    (out / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert data_warnings(of_run) == [
        "data.train: 1 text with digits, which a voice learns as signs of their own; data.numbers = words spells "
        "them out"
    ]
    (item,) = [
        item for item in read_transcripts(of_run.train, of_run).utterances if "4" in item.text
    ]
    assert (item.written, item.speaker) == ("take 4", "anna")


def test_nothing_is_overwritten_unasked(folder, good, data, tmp_path) -> None:
    out = tmp_path / "out"
    corpus = survey(write(folder, good), data)
    check_out(out, replace=False)
    write_corpus(corpus, out, data=data, about={})
    with pytest.raises(
        DataError, match="written before; choose another folder with -o, or add --replace"
    ):
        check_out(out, replace=False)
    check_out(out, replace=True)
    other = survey(folder, data, drawing=Drawing(0.1, seed=5))
    write_corpus(other, out, data=data, about={})
    rows = [json.loads(line)["path"] for line in (out / "valid.jsonl").read_text().splitlines()]
    assert rows == [str(clip.info.path) for clip in other.valid]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    (out / "mine.txt").touch()
    with pytest.raises(DataError, match=r"holds other files \(mine.txt\)"):
        check_out(out, replace=True)
    with pytest.raises(DataError, match="is not a folder"):
        check_out(out / "mine.txt", replace=True)


def test_a_write_that_fails_leaves_what_was_there(
    folder, good, data, tmp_path, monkeypatch
) -> None:
    out = tmp_path / "out"
    corpus = survey(write(folder, good), data)
    write_corpus(corpus, out, data=data, about={})
    before = (out / "train.jsonl").read_bytes()

    def fail(*args, **options):
        raise OSError("disk full")

    monkeypatch.setattr("engine.data.corpus.manifests.write_manifest", fail)
    with pytest.raises(OSError, match="disk full"):
        write_corpus(corpus, out, data=data, about={})
    assert (out / "train.jsonl").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nothing_to_train_on_or_to_hold_out_writes_nothing(
    folder, data, write_clip, tmp_path
) -> None:
    write_clip("wavs/a.wav")
    corpus = survey(write(folder, ["a|one"]), data)
    with pytest.raises(DataError, match="no clips to hold out for validation, nothing was written"):
        write_corpus(corpus, tmp_path / "out", data=data, about={})
    assert not (tmp_path / "out").exists()


def test_phonemes_are_made_once_and_kept(folder, good, data, tmp_path, monkeypatch) -> None:
    made: list[str] = []

    def phonemes(text: str, language: str) -> str:
        made.append(text)
        return f"ˈ{text[::-1]}"

    monkeypatch.setattr("engine.text.normalise.phonemes_of", phonemes)
    settings = data.model_copy(update={"tokens": "phonemes", "language": "de"})
    corpus = survey(write(folder, good), settings)
    out = tmp_path / "out"
    write_corpus(corpus, out, data=settings, about={})
    made.clear()
    of_run = speech(out, tokens="phonemes", language="de", punctuation="plain")
    check_speech(of_run)
    found = read_transcripts(of_run.train, of_run)
    assert [item.text for item in found.utterances] == [
        f"ˈ{clip.text[::-1]}" for clip in corpus.train
    ]
    assert made == []
    assert json.loads(out.joinpath("valid.jsonl").read_text().splitlines()[0])[
        "phonemes"
    ].keys() == {"de"}
    read_transcripts(
        of_run.train, speech(out, tokens="phonemes")
    )  # another language has to be made
    assert len(made) == len(corpus.train)


def test_a_folder_whose_name_is_no_utf8_is_written_and_read(data, tmp_path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(8):
        with (folder / f"{number}.wav").open("wb") as file:
            soundfile.write(file, 0.1 * draw.standard_normal(12_000), 8_000, format="WAV")
    write(folder, [f"{number}|one two {'abcd'[number % 4]}" for number in range(8)])
    corpus = survey(folder, data)
    write_corpus(corpus, tmp_path / "out", data=data, about={})
    check_speech(speech(tmp_path / "out"))


def test_ctrl_c_does_not_wait_for_files_that_are_left(folder, good, data, monkeypatch) -> None:
    heard = []

    def hear(part):
        heard.append(part)
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.data.corpus.hearing._hear", hear)
    with pytest.raises(KeyboardInterrupt):
        survey(write(folder, good), data)
    assert len(heard) < 20
