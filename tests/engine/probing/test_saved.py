"""Features in files: private, whole, under names that do not clash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.probing.saved import layer_of, out_paths, write_features


def test_a_file_is_private_and_holds_what_was_given(tmp_path):
    path = tmp_path / "a.npy"
    frames_LD = np.arange(6, dtype=np.float64).reshape(3, 2)
    write_features(path, frames_LD)
    loaded = np.load(path, allow_pickle=False)
    assert loaded.dtype == np.float32
    assert (loaded == frames_LD).all()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["a.npy"]


def test_names_that_clash_or_are_taken_are_refused(tmp_path):
    files = [Path("x/a.wav"), Path("y/a.flac")]
    with pytest.raises(ValueError, match="would both be written to"):
        out_paths(files, tmp_path)
    (tmp_path / "a.npy").touch()
    with pytest.raises(ValueError, match="already exists"):
        out_paths(files[:1], tmp_path)


def test_the_middle_layer_is_the_default():
    assert [layer_of(None, count) for count in (1, 3, 12)] == [1, 2, 6]
    assert layer_of(0, 3) == 0
    with pytest.raises(ValueError, match="layers 1 to 3"):
        layer_of(4, 3)
