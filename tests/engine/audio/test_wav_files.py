"""Audio files that are written: whole or not at all, equal for equal signals, with the usual mode."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from engine.audio import wav_files
from engine.audio.wav_files import write_wav

SIGNAL = np.linspace(-1, 1, 200, dtype=np.float32).reshape(2, 100)


def test_a_file_holds_the_signal_and_has_the_mode_that_files_have(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_wav(tmp_path / "a.wav", SIGNAL, rate_hz=8_000)
    finally:
        os.umask(before)
    read, rate_hz = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    assert rate_hz == 8_000
    assert (read.T == SIGNAL).all()
    assert (tmp_path / "a.wav").stat().st_mode & 0o777 == 0o640


def test_pcm_files_of_equal_signals_are_equal(tmp_path: Path) -> None:
    """Floating point ones have the second of writing in them, which libsndfile asks the C library for."""
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, SIGNAL, rate_hz=8_000, subtype="PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    assert content == (tmp_path / "b.wav").read_bytes()
    assert len(content) == 44 + SIGNAL.size * 2


def test_the_file_that_was_asked_for_is_named_and_not_the_one_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.wav"
    with pytest.raises(OSError) as caught:
        write_wav(path, SIGNAL, rate_hz=8_000)
    assert str(caught.value) == f"{path}: can't be written (No such file or directory)"


def test_what_can_not_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.wav"
    path.write_text("old")

    def full(file, *args, **options) -> None:
        Path(file).write_text("half")
        raise AssertionError

    monkeypatch.setattr(wav_files.soundfile, "write", full)
    with pytest.raises(
        OSError, match=r"a\.wav: can't be written \(incomplete write\); .* MiB are free"
    ):
        write_wav(path, SIGNAL, rate_hz=8_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
