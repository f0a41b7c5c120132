"""Claims about which file a row means."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.data.corpus.names import AudioNames


def touch(folder: Path, *names: str) -> AudioNames:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return AudioNames(folder)


@pytest.mark.parametrize(
    "name",
    [
        "LJ001-0001", "LJ001-0001.wav", "wavs/LJ001-0001.wav", "wavs\\LJ001-0001.wav", "lj001-0001",
        "/home/somebody/voices/anna/wavs/LJ001-0001.wav", "C:\\voices\\anna\\wavs\\LJ001-0001.wav",
    ],
)  # fmt: skip
def test_a_file_by_every_name_that_tables_have_for_it(folder: Path, name: str) -> None:
    names = touch(folder, "wavs/LJ001-0001.wav", "wavs/LJ001-00011.wav", "LJ001-0001.txt")
    assert names.find(name) == folder / "wavs" / "LJ001-0001.wav"


def test_an_id_with_points_and_other_formats(folder: Path) -> None:
    names = touch(folder, "wavs/a.b.1.flac", "deep/er/c.OGG")
    assert names.find("a.b.1").name == "a.b.1.flac"
    assert names.find("c").name == "c.OGG"


def test_folders_decide_between_equal_names(folder: Path) -> None:
    names = touch(folder, "anna/wavs/1.wav", "theo/wavs/1.wav")
    assert names.find("/old/theo/wavs/1.wav") == folder / "theo/wavs/1.wav"
    assert names.find("anna/wavs/1") == folder / "anna/wavs/1.wav"
    with pytest.raises(
        ValueError, match=r"'1' can be any of 2 files \(anna/wavs/1.wav, .*\); write the path"
    ):
        names.find("1")


def test_what_is_missing_says_so_and_why(folder: Path) -> None:
    names = touch(folder, "wavs/a.m4a", "wavs/.b.wav")
    with pytest.raises(
        ValueError, match=r"'a': no such audio file; a.m4a is in a format that can't be read"
    ):
        names.find("a")
    with pytest.raises(ValueError, match=r"'b': no such audio file$"):
        names.find("b")
    with pytest.raises(ValueError, match=r"'\.\./\*': no such audio file$"):
        names.find("../*")
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(ValueError, match="can't be the name of a file"):
            names.find(name)
