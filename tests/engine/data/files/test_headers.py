"""A run starts from the manifest of its folder: no file is opened but those that are not as noted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.schema import RunConfig
from engine.data.files import audio_files, headers, index
from engine.data.kinds import open_dataset

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose headers were read."""
    found: list[Path] = []

    def probe(path: Path) -> audio_files.AudioInfo:
        found.append(path)
        return audio_files.probe(path)

    monkeypatch.setattr(headers, "probe", probe)
    return found


def write(write_audio: WriteAudio, *, frames: int = 900) -> None:
    for split in ("train", "valid"):
        for number in range(3):
            for stem in ("vocals", "accompaniment"):
                write_audio(f"{split}/{number}/{stem}.wav", frames=frames + number)


def note(folder: Path) -> Path:
    path = folder / index.INDEX_NAME
    index.write_index(path, index.make_index(folder))
    return path


@pytest.mark.parametrize("kind", ["stems", "bandwidth", "speakers", "denoise"])
@pytest.mark.parametrize("place", ["train", "."])
def test_nothing_is_opened_that_the_manifest_knows(
    make_config: MakeConfig, write_audio: WriteAudio, tmp_path: Path, opened: list[Path],
    caplog: pytest.LogCaptureFixture, kind: str, place: str,
) -> None:  # fmt: skip
    """It may lie in the folder or above it, and the items are the same."""
    write(write_audio)
    more = {"noise": tmp_path / "train"} if kind == "denoise" else {}
    config = make_config(kind, **more)
    before = open_dataset(config, "train")
    assert opened
    opened.clear()
    note(tmp_path / place)
    after = open_dataset(config, "train")
    assert opened == []
    assert not caplog.records
    assert (after.manifest, len(after)) == (before.manifest, len(before))
    np.testing.assert_array_equal(after.item(0, 0).mix_CT, before.item(0, 0).mix_CT)


def test_changed_and_new_files_are_read_again_and_told_of(
    make_config: MakeConfig, write_audio: WriteAudio, tmp_path: Path, opened: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    write(write_audio)
    manifest = note(tmp_path / "train")
    for stem in ("vocals", "accompaniment"):
        write_audio(f"train/1/{stem}.wav", frames=1_500)
        write_audio(f"train/7/{stem}.wav", frames=800)
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(make_config("stems"), "train")
    assert sorted({path.parent.name for path in opened}) == ["1", "7"]
    assert dataset.durations_s().shape == (len(dataset),)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"warning: {manifest}: out of date, 4 files are new or changed, for example "
        f"{tmp_path}/train/1/vocals.wav; read from the files; update the index with `sepdash data index {tmp_path}/train`"
    )


def test_a_broken_manifest_is_told_of_and_not_needed(
    make_config: MakeConfig, write_audio: WriteAudio, tmp_path: Path, opened: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    write(write_audio)
    note(tmp_path / "train").write_text("{}\n")
    assert len(open_dataset(make_config("stems"), "train")) == 3
    assert len(opened) == 6
    (record,) = caplog.records
    assert "not a valid index" in record.getMessage()
