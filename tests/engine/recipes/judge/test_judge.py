"""A judge: what it hears at any rate, how errors are counted, and whose texts it is asked about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import MODEL, write_checkpoint
from engine.config.errors import DataError
from engine.data.files.audio_files import probe
from engine.data.speech.spoken_audio import read_spoken
from engine.data.speech.spoken_texts import spoken_texts
from engine.recipes.judge.judge import load_judge
from engine.recipes.registry import open_recipe
from engine.recipes.speech.transcribing import load_transcriber
from tests.engine.recipes.tone_speech import say

CPU = torch.device("cpu")


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050])
def test_it_hears_waveforms_of_any_rate_each_by_itself(
    judge: Any, transcriber: Any, rate_hz: int
) -> None:
    texts = [("abcde"[k % 5] * (1 + k % 3) + "ad"[: k % 2]) for k in range(19)]
    waves = [say(text, rate_hz) for text in texts]
    assert judge.hear(waves, rate_hz) == texts
    assert max(transcriber.batches) <= 8
    assert judge.hear(waves[::-1], rate_hz) == texts[::-1]


def test_nothing_is_heard_of_what_is_no_sound(judge: Any) -> None:
    bad_T = say("ab", 8_000)
    bad_T[700] = np.nan
    waves = [say("ab", 8_000), np.zeros(0, np.float32), bad_T, np.zeros(800, np.float32)]
    assert judge.hear([*waves, say("c", 8_000)], 8_000) == ["ab", "", "", "", "c"]
    assert judge.hear([], 8_000) == []


def test_long_speech_is_cut_where_it_is_quiet(judge: Any, transcriber: Any) -> None:
    """Silence of 0.4 s stands after every fifth letter, so that a cut loses no letter."""
    silence_T = np.zeros(3_200, np.float32)
    wave_T = np.concatenate([say("abcde", 8_000), silence_T] * 70)
    (heard,) = judge.hear([wave_T], 8_000)
    assert heard.replace(" ", "") == "abcde" * 70
    assert sum(transcriber.batches) == 3


def test_errors_are_those_of_all_texts_together(judge: Any) -> None:
    waves = [say(text, 8_000) for text in ("abcd", "ab", "dd cc")]
    found = judge.score(waves, ["abcd", "AC.", "dd cc aa"], rate_hz=8_000)
    assert found.heard == ("abcd", "ab", "dd cc")
    assert found.texts == ("abcd", "ac", "dd cc aa")
    # One substitution in two characters, three deletions in eight; four right.
    assert found.cer == pytest.approx(4 / 14)
    assert found.wer == pytest.approx(2 / 5)
    assert found.characters.per_item().mean() == pytest.approx(found.cer)


def test_a_checkpoint_of_a_recogniser_hears_what_its_transcriber_does(
    speech_config: Any, tones: Path, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    config = speech_config()
    model = open_recipe(config).build_model()
    with torch.no_grad():
        model.joiner.linear.weight *= 4
    write_checkpoint(
        tmp_path / "judge", {"config": config.to_dict()}, tensors={MODEL: model.state_dict()}
    )
    paths = sorted(tones.glob("valid-*.wav"))
    transcriber = load_transcriber(tmp_path / "judge", CPU)
    stretches = [transcriber.whole(probe(path)) for path in paths]
    wanted = [text for text, _ in transcriber.texts(stretches, beam=1, longest_s=30.0)]
    judge = load_judge(tmp_path / "judge", CPU)
    waves = [soundfile.read(path, dtype="float32")[0] for path in paths]
    assert any(wanted)
    assert judge.hear(waves, 8_000) == wanted
    assert len(judge.hash) == 16


def test_the_sample_is_the_same_wherever_the_files_are(spoken: Any, tmp_path: Path) -> None:
    manifest = spoken(["ab", "Cd.", "e", "dd", "a c"])
    rows = manifest.read_text().splitlines()
    rows += [
        json.dumps({"path": "valid-00.wav"}),
        json.dumps({"path": "valid-01.wav", "text": " "}),
    ]
    manifest.write_text("\n".join(rows))
    every = spoken_texts(manifest)
    assert sorted(item.text for item in every) == ["Cd.", "a c", "ab", "dd", "e"]
    assert [item.text for item in spoken_texts(manifest, most=2)] == [item.text for item in every][
        :2
    ]
    manifest.write_text("\n".join(rows[::-1]))
    assert [item.key for item in spoken_texts(manifest)] == [item.key for item in every]
    (one,) = (item for item in every if item.text == "dd")
    assert np.allclose(read_spoken(one, 8_000), say("dd", 8_000), atol=1e-4)
    assert len(read_spoken(one, 16_000)) == 3_200
    part = {"path": "valid-03.wav", "start": 0.1, "duration": 0.1, "text": "d"}
    manifest.write_text(json.dumps(part))
    (half,) = spoken_texts(manifest)
    assert len(read_spoken(half, 8_000)) == 800
    assert spoken_texts(manifest.parent) == []


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"path": "gone.wav", "text": "a"}, r"valid.jsonl:1: .*gone.wav"),
        ({"path": "valid-00.wav", "start": 9.0, "text": "a"}, r"valid.jsonl:1: start = 9 s, but the file"),
        ({"text": "a"}, r"'path' is missing"),
    ],
)  # fmt: skip
def test_an_invalid_row_is_one_line(spoken: Any, row: Any, match: str) -> None:
    manifest = spoken(["ab"])
    manifest.write_text(json.dumps(row))
    with pytest.raises(DataError, match=match) as error:
        spoken_texts(manifest, setting="data.valid")
    assert [problem.key for problem in error.value.problems] == ["data.valid"]
