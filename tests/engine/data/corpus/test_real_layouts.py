"""Real recordings in every layout: the same clips, texts and speakers, and the same part held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.corpus.survey import Drawing, Limits, survey_corpus

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPEAKERS = ("george", "jackson", "nicolas", "theo")


@pytest.fixture
def recordings(shared_data, tmp_path) -> list[tuple[Path, str, str]]:
    """(file, text, speaker) of eight takes of each digit by each speaker, below one folder."""
    source = shared_data("digits")
    found = []
    for speaker in SPEAKERS:
        for digit, word in enumerate(WORDS):
            for take in range(5, 13):
                path = tmp_path / "digits" / speaker / "wavs" / f"{speaker}_{digit}_{take}.flac"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes((source / speaker / f"{digit}_{take:02}.flac").read_bytes())
                found.append((path, f"{word}.", speaker))
    return found


def layouts(recordings) -> dict[str, str]:
    return {
        "train.txt": "".join(
            f"C:\\corpus\\{speaker}\\wavs\\{path.name}|{text}|{speaker}\r\n"
            for path, text, speaker in recordings
        ),
        "names.jsonl": "".join(
            json.dumps({"audio_filepath": str(path), "text": text, "speaker": speaker}) + "\n"
            for path, text, speaker in recordings
        ),
        "metadata.csv": "".join(
            f"{path.stem}|{text.upper()}|{text}\n" for path, text, _ in reversed(recordings)
        ),
    }


def test_every_layout_gives_the_same_corpus(recordings, data, tmp_path) -> None:
    root, found = tmp_path / "digits", []
    for name, text in layouts(recordings).items():
        (root / name).write_text(text)
        corpus = survey_corpus(
            [root / name], data, limits=Limits(0.1, 5, max_chars=50), drawing=Drawing(0.1),
            by_folder=True,
        )  # fmt: skip
        (root / name).unlink()
        assert {kind.kind for kind in corpus.findings} <= {"repeated", "ends", "pace"}
        assert {name: counts[:2] for name, counts in corpus.speakers.items()} == dict.fromkeys(
            SPEAKERS, (72, 8)
        )
        found.append(
            [
                {(clip.info.path, clip.text, clip.speaker) for clip in clips}
                for clips in (corpus.train, corpus.valid)
            ]
        )
    assert found[0] == found[1] == found[2]
    assert found[0][0] | found[0][1] == set(recordings)


def test_an_exchanged_text_of_real_speech_is_found(recordings, data, tmp_path) -> None:
    """One digit with the text of seven: what a wrong row of a table looks like."""
    root = tmp_path / "digits"
    rows = [(path, text) for path, text, speaker in recordings if speaker == "george"]
    lines = [f"{path.stem}|{text}" for path, text in rows]
    lines[7] = f"{rows[7][0].stem}|one two three four five six seven"
    (root / "metadata.csv").write_text("\n".join(lines))
    corpus = survey_corpus(
        [root], data, limits=Limits(0.1, 5, max_chars=50), drawing=Drawing(), speaker="george"
    )
    odd = [finding.message for finding in corpus.findings if finding.kind == "pace"]
    assert [message.split(":")[0] for message in odd] == [f"george/wavs/{rows[7][0].name}"]
