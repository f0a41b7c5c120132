"""Paths as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.user_paths import expanded


def test_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.chdir(tmp_path)
    assert expanded("~/x") == Path("/home/anna/x")
    assert expanded("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
    assert expanded("a~b") == Path("a~b")


def test_what_is_there_by_that_very_name_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~root").mkdir()
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "a.wav").touch()
    assert expanded("~root") == Path("~root")
    assert expanded("~/a.wav") == Path("~/a.wav")
    monkeypatch.chdir("/")
    assert expanded("~/a.wav", beside=tmp_path) == Path("~/a.wav")
    assert expanded("~/a.wav") == Path("/home/anna/a.wav")


@pytest.mark.parametrize("text", ["", " ", "\t"])
def test_nothing_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match="a path is empty"):
        expanded(text)
