"""What `python -m engine.programs.separate` says of its progress: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.programs.separate import _say_done, _show_bar


def test_a_bar_grows_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for share in (0.0, 0.5, 1.0):
        _show_bar(Path("folder/a-song-with-a-long-name.flac"), share)
    start, half, end = capsys.readouterr().err.split("\r")[1:]
    name, room = "a-song-with-a-long-nam..", 60 - 24 - 9
    assert start == f"{name} [{'-' * room}]   0%"
    assert half == f"{name} [{'#' * 14}{'-' * 13}]  50%"
    assert end == f"{name} [{'#' * room}] 100%\n"
    assert {len(line.rstrip("\n")) for line in (start, half, end)} == {59}


def test_a_file_is_named_once_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for share in (0.2, 0.9, 1.0):
        _say_done(Path("folder/song.flac"), share)
    assert capsys.readouterr().err == "song.flac: done\n"
