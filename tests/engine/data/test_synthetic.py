"""The demo dataset: the same bytes for the same seed, and stems the model can tell apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.schema import RunConfig
from engine.data.files.audio_files import probe, read_segment
from engine.data.kinds import open_dataset
from engine.data.synthetic import STEMS, write_dataset


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.flac"))
    }


def test_equal_seeds_write_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_dataset(tmp_path / name, seed=seed, tracks=2, duration_s=1.0, rate_hz=8000)
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    other = contents(tmp_path / "c")
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)
    assert len(set(first.values())) == len(first)


def test_layout_and_lengths(tmp_path: Path) -> None:
    write_dataset(tmp_path, tracks=8, duration_s=0.5, rate_hz=16000)
    assert len(list((tmp_path / "train").iterdir())) == 8
    assert len(list((tmp_path / "valid").iterdir())) == 2
    for path in tmp_path.glob("*/*"):
        assert sorted(file.name for file in path.iterdir()) == sorted(f"{s}.flac" for s in STEMS)
        assert {probe(file).frames for file in path.iterdir()} == {8000}


def test_stems_have_sane_levels_and_do_not_clip(tmp_path: Path) -> None:
    write_dataset(tmp_path, tracks=2, duration_s=4.0, rate_hz=8000)
    levels = {stem: [] for stem in STEMS}
    for path in sorted(tmp_path.rglob("*.flac")):
        info = probe(path)
        samples = read_segment(info, 0, frames=info.frames)
        assert np.abs(samples).max() < 0.99
        levels[path.stem].append(float(np.sqrt(np.mean(samples**2))))
    assert min(levels["voice"]) > max(levels["noise"])
    assert all(0.02 < level < 0.2 for found in levels.values() for level in found)


def test_the_voice_is_harmonic_and_the_noise_is_not(tmp_path: Path) -> None:
    write_dataset(tmp_path, tracks=1, duration_s=4.0, rate_hz=8000)

    def peakiness(stem: str) -> float:
        info = probe(tmp_path / "train" / "track-000" / f"{stem}.flac")
        frames = read_segment(info, 0, frames=info.frames)[0][: 1024 * 31].reshape(-1, 1024)
        spectra = np.abs(np.fft.rfft(frames * np.hanning(1024))) + 1e-6
        return float(np.median(spectra.max(axis=1) / np.median(spectra, axis=1)))

    assert peakiness("voice") > 2 * peakiness("noise")


def test_the_real_loader_reads_it_back(
    tmp_path: Path, make_config: Callable[..., RunConfig]
) -> None:
    write_dataset(tmp_path, tracks=2, duration_s=1.0, rate_hz=8000)
    config = make_config("stems", targets=["voice"], others=["percussion", "noise"])
    train, valid = open_dataset(config, "train"), open_dataset(config, "valid")
    assert len(train) == 20
    item = valid.item(0, 0)
    improvement = 10 * np.log10(
        np.mean(item.target_SCT**2) / np.mean((item.mix_CT - item.target_SCT[0]) ** 2)
    )
    assert -3 < improvement < 9


@pytest.mark.parametrize("settings", [{"tracks": 0}, {"duration_s": 0.0}, {"rate_hz": 100}])
def test_nothing_to_write_is_refused(tmp_path: Path, settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected at least one track"):
        write_dataset(tmp_path / "x", **settings)
    assert not (tmp_path / "x").exists()
