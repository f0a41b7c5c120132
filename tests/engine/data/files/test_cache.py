"""Copies in 16 bits: what they hold, when they are made anew, and that only training reads them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.files.audio_files import probe
from engine.data.files.source import make_sources
from engine.data.kinds import open_dataset

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


def write(path: Path, samples: np.ndarray, *, rate_hz: int = 8000, subtype: str = "PCM_16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype=subtype)


def sources_of(config: RunConfig, path: Path):
    infos = [probe(path)]
    plain = make_sources(infos, config.data, setting="", split="valid")
    return plain[0], make_sources(infos, config.data, setting="", split="train")[0]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 30_000)


def test_sixteen_bits_at_the_same_rate_are_kept_exactly(
    tmp_path: Path, make_config: MakeConfig, noise: np.ndarray
) -> None:
    path = tmp_path / "train" / "a.wav"
    write(path, np.append(noise, [-1.0, 32767 / 32768]))
    plain, copied = sources_of(make_config("bandwidth", cache=tmp_path / "copies"), path)
    assert copied.copy is not None
    for start, frames in ((0, 30_002), (123, 456), (30_001, 1)):
        read_CT = pickle.loads(pickle.dumps(copied)).read(start, frames)
        assert read_CT.dtype == np.float32
        assert read_CT.flags.c_contiguous
        np.testing.assert_array_equal(read_CT, plain.read(start, frames))


def test_resampled_stereo_and_loud_audio_is_kept_to_a_step(
    tmp_path: Path, make_config: MakeConfig, noise: np.ndarray
) -> None:
    path = tmp_path / "train" / "a.wav"
    write(path, 5 * noise.reshape(-1, 2), rate_hz=16_000, subtype="FLOAT")
    config = make_config("bandwidth", cache=tmp_path / "copies", channels=2)
    plain, copied = sources_of(config, path)
    whole_CT = plain.read(0, plain.length)
    peak = float(np.abs(whole_CT).max())
    assert peak > 1.5
    np.testing.assert_allclose(
        copied.read(1000, 2000), whole_CT[:, 1000:3000], atol=0.51 * peak / 32767
    )


def test_a_copy_is_made_once_and_anew_for_a_changed_file(
    tmp_path: Path, make_config: MakeConfig, noise: np.ndarray
) -> None:
    path, copies = tmp_path / "train" / "a.wav", tmp_path / "copies"
    config = make_config("bandwidth", cache=copies)
    write(path, noise)
    _, first = sources_of(config, path)
    made = first.copy.path.stat().st_mtime_ns
    _, again = sources_of(config, path)
    assert again.copy == first.copy
    assert again.copy.path.stat().st_mtime_ns == made
    write(path, noise[::-1])
    os.utime(path, ns=(1, 1))
    plain, changed = sources_of(config, path)
    assert changed.copy.path != first.copy.path
    np.testing.assert_array_equal(changed.read(0, 100), plain.read(0, 100))
    assert list(copies.iterdir()) == [changed.copy.path]


def test_only_what_is_stale_is_cleared_away(
    tmp_path: Path, make_config: MakeConfig, noise: np.ndarray
) -> None:
    """Copies of other files and formats stay, and so does what may still be in the making."""
    one, other, copies = tmp_path / "train" / "a.wav", tmp_path / "b.wav", tmp_path / "copies"
    for path in (one, other):
        write(path, noise)
    mono, stereo = (make_config("bandwidth", cache=copies, channels=n) for n in (1, 2))
    kept = {
        sources_of(config, path)[1].copy.path for config in (mono, stereo) for path in (one, other)
    }
    for name in (".new-fresh", ".new-old", "mine.txt"):
        (copies / name).write_text("")
    os.utime(copies / ".new-old", (1, 1))
    sources_of(mono, one)
    assert set(copies.iterdir()) == kept | {copies / ".new-fresh", copies / "mine.txt"}


def test_a_copy_that_was_cut_off_is_made_again(
    tmp_path: Path, make_config: MakeConfig, noise: np.ndarray
) -> None:
    path = tmp_path / "train" / "a.wav"
    write(path, noise)
    config = make_config("bandwidth", cache=tmp_path / "copies")
    _, first = sources_of(config, path)
    first.copy.path.write_bytes(first.copy.path.read_bytes()[:100])
    plain, again = sources_of(config, path)
    np.testing.assert_array_equal(again.read(0, 30_000), plain.read(0, 30_000))


@pytest.mark.parametrize("kind", ["denoise", "stems"])
def test_training_items_are_the_same_and_validation_reads_the_files(
    tmp_path: Path, make_config: MakeConfig, noise: np.ndarray, kind: str
) -> None:
    for split in ("train", "valid"):
        for name in ("vocals", "accompaniment"):
            write(tmp_path / split / "song" / f"{name}.wav", noise)
    data = {"noise": tmp_path / "train"} if kind == "denoise" else {}
    plain = open_dataset(make_config(kind, **data), "train")
    cached = open_dataset(make_config(kind, cache=tmp_path / "copies", **data), "train")
    for index in range(3):
        one, other = plain.item(1, index), cached.item(1, index)
        np.testing.assert_array_equal(one.mix_CT, other.mix_CT)
        np.testing.assert_array_equal(one.target_SCT, other.target_SCT)
    assert len(list((tmp_path / "copies").iterdir())) == 2
    config = make_config(kind, cache=tmp_path / "none", **data)
    open_dataset(config, "valid").item(0, 0)
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_made_is_one_message(
    tmp_path: Path, make_config: MakeConfig, noise: np.ndarray
) -> None:
    write(tmp_path / "train" / "a.wav", noise)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data\.cache: .*file/copies: can't cache a copy of"):
        open_dataset(make_config("bandwidth", cache=tmp_path / "file" / "copies"), "train")
