"""Channels and the resampling policy of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import DataError
from engine.config.schema import RunConfig
from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.source import Source, make_sources, manifest_of, with_channels

MakeConfig = Callable[..., RunConfig]


def infos(*rates_hz: int, channels: int = 1) -> list[AudioInfo]:
    return [
        AudioInfo(Path(f"/d/{n}.wav"), 100, rate_hz=rate, channels=channels)
        for n, rate in enumerate(rates_hz)
    ]


def test_stereo_is_averaged_and_mono_is_copied() -> None:
    stereo = np.array([[1.0, 2.0], [3.0, -2.0]], np.float32)
    np.testing.assert_array_equal(with_channels(stereo, 1), [[2.0, 0.0]])
    np.testing.assert_array_equal(with_channels(stereo[:1], 2), [[1.0, 2.0], [1.0, 2.0]])
    assert with_channels(stereo, 2) is stereo
    assert with_channels(stereo, 1).dtype == np.float32


def test_a_source_is_read_at_the_rate_and_channels_of_the_model(
    tmp_path: Path, write_audio: Callable[..., np.ndarray]
) -> None:
    write_audio("a.wav", frames=1001, rate_hz=4000, channels=1)
    source = Source(probe(tmp_path / "a.wav"), 8000, channels=2)
    assert source.length == 2002
    samples = source.read(1000, 1002)
    assert samples.shape == (2, 1002)
    np.testing.assert_array_equal(samples[0], samples[1])


def test_mixed_rates_are_refused_with_an_example_of_each(make_config: MakeConfig) -> None:
    for policy in ("never", "uniform"):
        data = make_config("bandwidth", resample=policy).data
        with pytest.raises(DataError) as caught:
            make_sources(infos(8000, 16000, 8000), data, setting="data.train")
        (problem,) = caught.value.problems
        assert problem.key == "data.train"
        assert problem.message == (
            "mixed sampling rates: 8000 Hz in 2 files (for example /d/0.wav), 16000 Hz in 1 file (for example "
            "/d/1.wav); expected a single rate; convert the files, or set data.resample = 'any' "
            "to resample each to 8000 Hz"
        )


def test_any_takes_mixed_rates(make_config: MakeConfig) -> None:
    data = make_config("bandwidth", resample="any").data
    sources = make_sources(infos(8000, 16000), data, setting="s")
    assert [source.length for source in sources] == [100, 50]


def test_uniform_takes_another_single_rate_and_never_does_not(make_config: MakeConfig) -> None:
    uniform = make_config("bandwidth", resample="uniform").data
    assert len(make_sources(infos(16000, 16000), uniform, setting="s")) == 2
    never = make_config("bandwidth", resample="never").data
    assert len(make_sources(infos(8000), never, setting="s")) == 1
    with pytest.raises(
        DataError, match=r"is 16000 Hz, but data\.rate_hz = 8000 .*set data\.rate_hz = 16000"
    ):
        make_sources(infos(16000), never, setting="s")


def test_rates_that_have_no_filter_are_refused(make_config: MakeConfig) -> None:
    data = make_config("bandwidth", rate_hz=48000, input_rates_hz=[8000], resample="any").data
    with pytest.raises(DataError, match="can't resample from 44101 to 48000 Hz"):
        make_sources(infos(44101), data, setting="s")


def test_more_than_two_channels_only_for_a_mono_model(make_config: MakeConfig) -> None:
    assert make_sources(infos(8000, channels=6), make_config("bandwidth").data, setting="s")
    data = make_config("bandwidth", channels=2).data
    with pytest.raises(DataError, match=r"/d/0\.wav: has 6 channels; expected mono or stereo"):
        make_sources(infos(8000, channels=6), data, setting="s")


def test_a_manifest_names_content_and_not_the_place_of_the_folder() -> None:
    def manifest(folder: str, name: str = "a.wav", frames: int = 10, rate_hz: int = 8000) -> str:
        return manifest_of(
            Path(folder), [AudioInfo(Path(folder, name), frames, rate_hz=rate_hz, channels=1)]
        )

    assert manifest("/x") == manifest("/y")
    assert len({manifest("/x"), manifest("/x", "b.wav"), manifest("/x", frames=11)}) == 3
    assert manifest("/x") != manifest("/x", rate_hz=16000)
