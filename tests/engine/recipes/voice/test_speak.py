"""`engine.programs.speak`: audio that can be had again, what is refused before anything is spoken, saved voices."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import MODEL, CheckpointError, read_manifest, write_checkpoint
from engine.checkpoints.find import config_of
from engine.programs.speak import speak
from engine.recipes.voice.conditioning import of_clips, of_speaker, read_voice, write_voice
from engine.recipes.voice.speaking import TrainedVoice, load_voice
from engine.recipes.voice.texts_to_speak import read_texts
from tests.engine.recipes.voice.conftest import RATE

CPU = torch.device("cpu")
Answers = list[dict[str, Any]]


@pytest.fixture
def job(trained: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that builds a job for texts, whose files are numbered."""

    def build(*texts: str, **changes: Any) -> dict[str, Any]:
        items = [
            {"place": f"line {n}", "text": text, "path": str(tmp_path / f"{n}.wav")}
            for n, text in enumerate(texts, start=1)
        ]
        return {
            "checkpoint": str(trained), "items": items, "clips": [], "saved": None, "save_as": None,
            "judge": None, "speaker": None, "device": "cpu", "seed": 0, "candidates": 1,
            "sampling": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0},
            **changes,
        }  # fmt: skip

    return build


@pytest.fixture
def voice(trained: Path) -> TrainedVoice:
    manifest = read_manifest(trained)
    return load_voice(config_of(manifest), manifest, device=CPU)


def answers_to(job: dict[str, Any]) -> Answers:
    answers = io.StringIO()
    speak(job, answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def spoken_by(job: dict[str, Any]) -> list[tuple[dict[str, Any], bytes]]:
    """Return what is said of each text, and its file, which is removed."""
    found = []
    for answer in answers_to(job):
        if "spoken" in answer:
            path = Path(answer["spoken"]["path"])
            found.append((answer["spoken"], path.read_bytes()))
            path.unlink()
    return found


def test_the_same_seed_is_the_same_audio_alone_and_among_others(job: Any) -> None:
    one, two = spoken_by(job("abcd", "dcba", candidates=3))
    ((again, audio),) = spoken_by(job("dcba", candidates=3))
    # A difference of times in headers would not be seen within a second.
    assert not any(b"PEAK" in file[:200] for file in (audio, one[1]))
    assert audio == two[1] != one[1]
    assert again["candidates"] == two[0]["candidates"]
    ((_, other),) = spoken_by(job("dcba", candidates=3, seed=1))
    assert other != audio
    ((_, louder),) = spoken_by(job("dcba", candidates=3, speaker="quiet"))
    assert louder != audio


def test_what_is_said_of_a_text_is_what_is_in_its_file(job: Any, tmp_path: Path) -> None:
    head, spoken, end = answers_to(job("abc", candidates=5))
    assert (end["done"], head["device"]) == (True, "cpu")
    assert head["voice"].startswith(
        "training speaker 'loud', the first of 3 (--speaker: 'loud', 'once', 'quiet')"
    )
    about = spoken["spoken"]
    audio_T, rate_hz = soundfile.read(tmp_path / "1.wav")
    assert (rate_hz, len(audio_T) / rate_hz) == (RATE, about["duration_s"])
    assert np.isfinite(audio_T).all()
    assert about["real_time_factor"] == pytest.approx(about["generation_s"] / about["duration_s"])
    assert about["candidates"][0] == {key: about[key] for key in about["candidates"][0]}
    assert sorted(one["candidate"] for one in about["candidates"]) == [1, 2, 3, 4, 5]
    ends = [one["ending"] == "stop" for one in about["candidates"]]
    assert ends == sorted(ends, reverse=True)
    assert about["why"].startswith(f"candidate {about['candidate']} of 5: log-probability ")
    assert [path.name for path in tmp_path.iterdir()] == ["1.wav"]


def test_a_folder_is_made_once_all_has_been_checked(job: Any, tmp_path: Path) -> None:
    asked = job("b")
    asked["items"][0]["path"] = str(tmp_path / "new" / "folder" / "0001.wav")
    with pytest.raises(ValueError, match="no training speaker"):
        answers_to({**asked, "speaker": "nobody"})
    assert not (tmp_path / "new").exists()
    answers_to(asked)
    assert (tmp_path / "new" / "folder" / "0001.wav").is_file()


def test_nothing_is_spoken_before_all_texts_can_be(job: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        answers_to(job("abcd", "abé", "a%b", "dd"))
    assert str(caught.value) == (
        "this model has no tokens for some characters: line 2: 'é'; line 3: '%' (it has: abcd); write the text "
        "without them"
    )
    with pytest.raises(ValueError, match=r"too many tokens .* room for 14 .* line 2: 15; split"):
        answers_to(job("a", "a" * 15))
    with pytest.raises(ValueError) as caught:
        answers_to(job("a", "é", "a" * 15))
    assert [line[:20] for line in str(caught.value).split("\n")] == [
        "this model has no to", "too many tokens for ",
    ], "all that is wrong is said at once"  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_text_of_which_normalisation_leaves_nothing_is_named(voice: TrainedVoice) -> None:
    strict = replace(voice, data=voice.data.model_copy(update={"punctuation": "drop"}))
    with pytest.raises(
        ValueError, match=r"nothing to speak in line 2: .*drop.* '\?!'; write words"
    ):
        read_texts(strict, {"line 1": "ab?", "line 2": "?!"})
    assert read_texts(strict, {"line 1": " ab? "})[0].read_as == "ab"


def test_a_saved_voice_is_that_of_its_clips(job: Any, speech: Path, tmp_path: Path) -> None:
    clips = [str(speech / f"valid-{n:02}.wav") for n in (1, 3)]
    saved = tmp_path / "voices" / "anna.safetensors"
    ((first, audio),) = spoken_by(job("abcd", clips=clips, save_as=str(saved)))
    assert saved.stat().st_mode & 0o777 == 0o600
    assert saved.parent.stat().st_mode & 0o777 == 0o700
    head, again, _ = answers_to(job("abcd", saved=str(saved)))
    assert head["voice"] == "the voice of valid-01.wav, valid-03.wav, saved as anna"
    assert Path(again["spoken"]["path"]).read_bytes() == audio
    assert again["spoken"]["log_prob"] == first["log_prob"]
    ((_, loud),) = spoken_by(job("abcd", speaker="loud"))
    assert loud != audio


def test_a_voice_can_be_saved_without_speaking(
    job: Any, voice: TrainedVoice, tmp_path: Path
) -> None:
    saved = tmp_path / "quiet.safetensors"
    answers_to(job(speaker="quiet", save_as=str(saved)))
    kept = read_voice(saved, voice=voice)
    assert torch.equal(kept.vectors_1CD, of_speaker(voice, "quiet").vectors_1CD)


def test_a_saved_voice_is_refused_with_other_weights_and_when_damaged(
    voice: TrainedVoice, tmp_path: Path
) -> None:
    saved = tmp_path / "anna.safetensors"
    write_voice(saved, of_speaker(voice, None), voice=voice)
    with pytest.raises(ValueError, match=r"was saved with other weights .*--save-voice NAME"):
        read_voice(saved, voice=replace(voice, hash="0" * 16))
    saved.write_bytes(saved.read_bytes()[:-3])
    with pytest.raises(ValueError, match="is not a saved voice"):
        read_voice(saved, voice=voice)
    saved.write_bytes(b"")
    with pytest.raises(ValueError, match="is not a saved voice"):
        read_voice(saved, voice=voice)


def test_recordings_of_any_rate_become_a_voice_or_are_refused_by_name(
    voice: TrainedVoice, speech: Path, tmp_path: Path
) -> None:
    wave_T, _ = soundfile.read(speech / "valid-01.wav")
    stereo = tmp_path / "stereo.flac"
    high = np.repeat(wave_T, 2)
    soundfile.write(stereo, np.stack([high, high], axis=1), 2 * RATE)
    assert of_clips(voice, [stereo]).vectors_1CD.shape == (1, 1, 32)
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(RATE), RATE)
    brief = tmp_path / "brief.wav"
    soundfile.write(brief, np.ones(8), RATE)
    for path, message in (
        (tmp_path / "none.wav", "none.wav: .*(missing|does not exist|No such|no such)"),
        (silent, "silent.wav: its middle is silent"),
        (
            brief,
            r"brief.wav: lasts 0.001 s, less than any .* \(0.2 s, data.min_s\); name a longer one",
        ),
        (Path(__file__), "test_speak.py: "),
    ):
        with pytest.raises(ValueError, match=message):
            of_clips(voice, [path])


def test_a_model_with_a_vector_for_each_clip_takes_as_many_as_in_training(
    voice: TrainedVoice, speech: Path
) -> None:
    each = replace(voice, vectors_per_item=2)
    each.network._averages = False
    clips = [speech / f"valid-{n:02}.wav" for n in range(3)]
    vectors_1CD = of_clips(each, clips[:1]).vectors_1CD
    assert vectors_1CD.shape == (1, 2, 32)
    assert torch.equal(vectors_1CD[:, 0], vectors_1CD[:, 1])
    with pytest.raises(ValueError, match=r"takes at most 2 reference clips .* not 3"):
        of_clips(each, clips)


def test_a_speaker_who_is_not_there_is_named_with_those_that_are(voice: TrainedVoice) -> None:
    with pytest.raises(ValueError, match="no training speaker 'quit', did you mean 'quiet'"):
        of_speaker(voice, "quit")
    empty = replace(voice, voices=replace(voice.voices, clips={}))
    with pytest.raises(ValueError, match=r"holds no clips .* --voice CLIP"):
        of_speaker(empty, None)


def test_what_is_no_trained_voice_is_refused(
    job: Any, trained: Path, codec: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"another task \(recipe 'codec'"):
        answers_to(job("a", checkpoint=str(codec)))
    with pytest.raises(ValueError, match=r"--judge takes a run of a speech recogniser: .*'voice'"):
        answers_to(job("a", judge=str(trained)))
    manifest = read_manifest(trained)
    fresh = tmp_path / "fresh"
    about = {key: manifest.values[key] for key in ("config", "plan")}
    write_checkpoint(
        fresh, {**about, "counters": {"updates": 0}}, tensors={MODEL: manifest.tensors(MODEL)},
        documents={"state.json": {}},
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="saved before its first update"):
        answers_to(job("a", checkpoint=str(fresh)))
    shutil.rmtree(fresh)
    assert list(tmp_path.iterdir()) == []
