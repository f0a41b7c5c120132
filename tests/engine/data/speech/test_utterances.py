"""Utterances as a dataset: partial reads, resampling, what is kept, and what names the data."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.speech import SpeechData
from engine.data.files.audio_files import probe
from engine.data.files.resampling import read_resampled
from engine.data.kinds import train_sizes
from engine.data.speech.utterances import SpeechDataset

RATE = 8_000


def speech(train: Path, valid: Path | None = None, **settings: Any) -> SpeechData:
    values = {"kind": "speech", "train": str(train), "valid": str(valid or train), "rate_hz": RATE}
    return SpeechData.model_validate_json(json.dumps({**values, **settings}))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four utterances in a stereo file of 16 kHz and a mono one of 8 kHz."""
    draw = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", draw.uniform(-0.5, 0.5, (160_000, 2)), 16_000)
    soundfile.write(tmp_path / "mono.flac", draw.uniform(-0.5, 0.5, 16_000), 8_000)
    rows = [
        {"path": "mono.flac", "text": "four"},
        {"path": "long.wav", "start": 6.3, "duration": 2.7, "text": "three"},
        {"path": "long.wav", "start": 0.001, "duration": 0.2, "text": "too short"},
        {"path": "long.wav", "start": 1.23456, "duration": 4.0, "text": "one two"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_utterances_are_in_order_of_path_and_start_with_the_short_left_out(manifest: Path) -> None:
    train = SpeechDataset(speech(manifest), "train")
    assert train.texts == ["one two", "three", "four"]
    assert train.durations_s().tolist() == pytest.approx([4.0, 2.7, 2.0])
    assert str(train.left_out) == (
        "1 of 4 utterances (0.2 s) skipped: 1 shorter than data.min_s = 0.3 s"
    )
    valid = SpeechDataset(speech(manifest), "valid")
    assert valid.texts == ["too short", "one two", "three", "four"]
    assert str(valid.left_out) == ""
    assert len(train) == 3


def test_a_part_is_read_as_the_same_part_of_the_whole_file(manifest: Path) -> None:
    dataset = pickle.loads(pickle.dumps(SpeechDataset(speech(manifest), "train")))
    info = probe(manifest.parent / "long.wav")
    whole_T = read_resampled(info, 0, frames=80_000, rate_hz=RATE).mean(axis=0)
    for index, start, frames in ((0, round(1.23456 * RATE), 32_000), (1, 50_400, 21_600)):
        found_T = dataset.audio(index)
        assert found_T.dtype == np.float32
        assert found_T.shape == (dataset.num_samples(index),) == (frames,)
        np.testing.assert_allclose(found_T, whole_T[start : start + frames], atol=1e-6)
    original_T, _ = soundfile.read(manifest.parent / "mono.flac", dtype="float32")
    np.testing.assert_array_equal(dataset.audio(2), original_T)


def test_rows_in_any_order_are_the_same_data(manifest: Path) -> None:
    first = SpeechDataset(speech(manifest), "train")
    lines = manifest.read_text().splitlines()
    for seed in range(3):
        random.Random(seed).shuffle(lines)
        manifest.write_text("\n".join(lines))
        again = SpeechDataset(speech(manifest), "train")
        assert again.manifest == first.manifest
        assert again.utterances == first.utterances


@pytest.mark.parametrize(
    ("old", "new"),
    [("three", "tree"), ('"duration": 2.7', '"duration": 2.6'), ('"start": 6.3', '"start": 6.2')],
)
def test_any_change_changes_the_manifest_hash(manifest: Path, old: str, new: str) -> None:
    before = SpeechDataset(speech(manifest), "train").manifest
    manifest.write_text(manifest.read_text().replace(old, new))
    assert SpeechDataset(speech(manifest), "train").manifest != before


def test_the_hash_does_not_depend_on_where_the_data_lie(manifest: Path, tmp_path: Path) -> None:
    before = SpeechDataset(speech(manifest), "train").manifest
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in list(tmp_path.iterdir()):
        if path.is_file():
            path.rename(moved / path.name)
    assert SpeechDataset(speech(moved / manifest.name), "train").manifest == before


def test_a_training_set_of_which_nothing_is_left(manifest: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.train: .*no usable training utterances, 4 of 4 utterances"
    ):
        SpeechDataset(speech(manifest, min_s=8.0, max_s=9.0), "train")


def test_rates_without_a_common_divisor_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(44_101), 44_101)
    (tmp_path / "m.jsonl").write_text('{"path": "a.wav", "text": "a"}')
    with pytest.raises(DataError, match=r"data\.valid: can't resample from 44101 to 8000 Hz"):
        SpeechDataset(speech(tmp_path / "m.jsonl"), "valid")


def test_real_speech_is_read_by_parts(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shared_data("digits") / "theo"
    rows = [
        {"path": str(path), "text": path.name[0], "start": 0.02, "duration": 0.1}
        for path in sorted(folder.glob("*_00.flac"))
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = SpeechDataset(speech(tmp_path / "m.jsonl"), "valid")
    assert dataset.texts == list("0123456789")
    for index, row in enumerate(rows):
        whole_T, _ = soundfile.read(str(row["path"]), dtype="float32")
        np.testing.assert_array_equal(dataset.audio(index), whole_T[160:960])


def test_a_share_is_seeded_nested_and_of_the_training_texts_alone(manifest: Path) -> None:
    rows = [
        {"path": "long.wav", "start": 0.1 * number, "duration": 0.5, "text": f"row {number}"}
        for number in range(40)
    ]
    manifest.write_text("\n".join(map(json.dumps, rows)))

    def texts(split: str = "train", **settings: Any) -> list[str]:
        return SpeechDataset(speech(manifest, **settings), split).texts  # type: ignore[arg-type]

    whole = texts()
    assert len(whole) == 40
    tenth, half = texts(share=0.1), texts(share=0.5)
    assert (len(tenth), len(half)) == (4, 20)
    assert set(tenth) < set(half) < set(whole)
    assert [text for text in whole if text in half] == half
    assert texts(share=0.1) == tenth != texts(share=0.1, share_seed=1)
    assert len(texts(share=1e-6)) == 1
    assert texts("valid", share=0.1) == whole
    sizes = train_sizes(speech(manifest, share=0.1))
    assert len(sizes) == 4
    elsewhere = manifest.parent / "moved"
    elsewhere.mkdir()
    for path in list(manifest.parent.iterdir()):
        if path.is_file():
            path.rename(elsewhere / path.name)
    assert SpeechDataset(speech(elsewhere / "m.jsonl", share=0.1), "train").texts == tenth
