"""Items of audio without texts: what is cut, joined and left out, and what is read of it."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.unlabelled import UnlabelledData
from engine.data.files.audio_files import probe
from engine.data.files.index import INDEX_NAME, make_index, write_index
from engine.data.files.resampling import read_resampled
from engine.data.unlabelled.dataset import UnlabelledDataset

RATE = 8_000


def unlabelled(train: Path, valid: Path | None = None, **settings: Any) -> UnlabelledData:
    values = {"train": str(train), "valid": str(valid or train), "rate_hz": RATE}
    return UnlabelledData.model_validate_json(
        json.dumps({**values, "min_s": 0.5, "max_s": 2.0, **settings})
    )


def write(path: Path, seconds: float, *, rate_hz: int = RATE) -> np.ndarray:
    """Write noise that differs from file to file; return it as it is read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(crc32(path.name.encode()))
    soundfile.write(path, draw.uniform(-0.5, 0.5, round(seconds * rate_hz)), rate_hz)
    samples, _ = soundfile.read(path, dtype="float32")
    return np.asarray(samples)


def dataset(train: Path, **settings: Any) -> UnlabelledDataset:
    return UnlabelledDataset(unlabelled(train, **settings), "train")


def test_long_files_are_cut_into_pieces_that_lose_nothing(tmp_path: Path) -> None:
    whole = write(tmp_path / "a" / "long.wav", 7.3)
    fits = write(tmp_path / "b" / "fits.wav", 2.0)
    write(tmp_path / "b" / "short.wav", 0.4)
    data = dataset(tmp_path)
    lengths = [data.num_samples(index) for index in range(len(data))]
    # One more piece than 7.3 / 2 asks for at least, since pieces begin on a grid.
    assert len(lengths) == 5
    assert max(lengths) <= 2.0 * RATE
    assert min(lengths[:4]) >= 1.7 * RATE
    starts = [int(data.key(index).rpartition(":")[2].partition("-")[0]) for index in range(4)]
    assert {start % data_hop(tmp_path) for start in starts} == {0}
    np.testing.assert_array_equal(np.concatenate([data.audio(k) for k in range(4)]), whole)
    np.testing.assert_array_equal(data.audio(4), fits)
    assert data.left_out == "1 of 3 utterances (0.4 s) skipped: shorter than data.min_s = 0.5 s"
    assert (data.durations_s() * RATE).tolist() == lengths


def data_hop(folder: Path) -> int:
    return unlabelled(folder).hop


@pytest.mark.parametrize("seconds", [2.01, 3.99, 4.0, 61.7, 3_600.0])
def test_pieces_are_within_the_limits_whatever_the_length(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "x.wav", "duration": seconds}))
    data = dataset(tmp_path / "m.jsonl")
    lengths = data.durations_s()
    assert lengths.sum() == pytest.approx(seconds, abs=1 / RATE)
    assert lengths.max() <= 2.0
    assert lengths.min() >= 0.9


def test_words_of_a_folder_are_joined_in_an_order_that_mixes_them(tmp_path: Path) -> None:
    sounds = {}
    for speaker in ("anna", "bert"):
        for word in range(6):
            for take in range(5):
                name = f"{speaker}/{word}_{take}.wav"
                sounds[name] = write(tmp_path / name, 0.3 + 0.01 * word)
    data = dataset(tmp_path, join_s=1.0)
    joined = [[part.partition(":")[0] for part in data.key(k).split("+")] for k in range(len(data))]
    # Everything is used once, and no item has two speakers.
    assert sorted(name for names in joined for name in names) == sorted(sounds)
    assert all(len({name.partition("/")[0] for name in names}) == 1 for names in joined)
    assert data.durations_s().min() >= 1.0
    assert data.durations_s().max() <= 2.0
    assert data.left_out == ""
    # Takes of one word lie side by side, but are spread over the items.
    words = [{name.partition("/")[2].partition("_")[0] for name in names} for names in joined]
    assert np.mean([len(some) for some in words]) > 2
    np.testing.assert_array_equal(
        data.audio(3), np.concatenate([sounds[name] for name in joined[3]])
    )


def test_what_is_left_of_a_folder_is_kept_if_it_is_long_enough(tmp_path: Path) -> None:
    for folder, lengths in {"a": (0.4, 0.4), "b": (0.3,), "c": (0.9, 0.3, 0.1)}.items():
        for number, seconds in enumerate(lengths):
            write(tmp_path / folder / f"{number}.wav", seconds)
    data = dataset(tmp_path, join_s=1.0)
    assert sorted(data.durations_s().round(6).tolist()) == [0.8, 1.3]
    assert data.left_out == "1 of 6 utterances (0.3 s) skipped: shorter than data.min_s = 0.5 s"
    assert data.items.num_joined == 5


def test_a_part_of_an_item_is_read_across_its_pieces(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.wav", 0.3)
    data = dataset(tmp_path, join_s=1.0)
    whole = data.audio(0)
    assert len(whole) == data.num_samples(0) == round(1.2 * RATE)
    for start, frames in ((0, 100), (2_300, 200), (2_390, 5_000), (9_599, 1)):
        np.testing.assert_array_equal(
            data.audio(0, start=start, frames=frames), whole[start : start + frames]
        )


def test_a_folder_a_manifest_and_an_index_give_the_same_items(tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    for number, seconds in enumerate((1.0, 5.0, 0.2, 1.5)):
        write(folder / "sub" / f"{number}.wav", seconds, rate_hz=16_000)
    write_index(folder / INDEX_NAME, make_index(folder))
    rows = [{"path": f"audio/sub/{n}.wav", "text": "ignored"} for n in (3, 1, 0, 2)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    of_folder, of_manifest, of_index = (
        dataset(path) for path in (folder, tmp_path / "m.jsonl", folder / INDEX_NAME)
    )
    for other in (of_manifest, of_index):
        assert other.durations_s().tolist() == of_folder.durations_s().tolist()
        np.testing.assert_array_equal(other.audio(2), of_folder.audio(2))
    assert of_index.manifest == of_folder.manifest
    info = probe(folder / "sub" / "0.wav")
    expected = read_resampled(info, 0, frames=RATE, rate_hz=RATE)[0]
    np.testing.assert_array_equal(of_folder.audio(0), expected)


def test_rows_may_be_shuffled_and_a_changed_length_changes_the_hash(tmp_path: Path) -> None:
    rows = [{"path": f"{n % 7}.wav", "start": n / 10, "duration": 1.0} for n in range(40)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one = dataset(tmp_path / "m.jsonl")
    random.Random(0).shuffle(rows)
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, rows)))
    two = dataset(tmp_path / "n.jsonl")
    assert two.manifest == one.manifest
    assert [two.key(k) for k in range(40)] == [one.key(k) for k in range(40)]
    rows[5]["duration"] = 1.25
    (tmp_path / "o.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert dataset(tmp_path / "o.jsonl").manifest != one.manifest


def test_a_manifest_with_lengths_opens_no_file(tmp_path: Path) -> None:
    rows = [{"path": f"absent-{n}.flac", "duration": 1.5} for n in range(3)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = dataset(tmp_path / "m.jsonl")
    assert data.durations_s().tolist() == [1.5, 1.5, 1.5]
    with pytest.raises(DataError, match=r"data\.train: .*absent-0\.flac: can't be read as audio"):
        data.audio(0)


def test_a_dataset_reaches_a_worker_process_whole(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 1.0)
    data = dataset(tmp_path)
    other = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(other.audio(0), data.audio(0))
    assert other.manifest == data.manifest


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    for settings, words in (
        ({"min_s": 1.5, "max_s": 2.0}, "at most half of max_s = 2"),
        ({"join_s": 1.5}, "at most half of max_s = 2"),
        ({"join_s": 0.3}, "0 or at least min_s = 0.5"),
    ):
        with pytest.raises(ValueError, match=words):
            unlabelled(tmp_path, **settings)
