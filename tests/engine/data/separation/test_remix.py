"""Changed stems: each change alone by its definition, drawn by item, in training only."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.errors import ConfigError
from engine.config.schema import RunConfig
from engine.data.files.source import Source
from engine.data.kinds import open_dataset
from engine.data.separation.remix import StemChange, read_changed
from engine.data.separation.stems import StemsDataset
from engine.recipes.separation.recipe import SeparationRecipe

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]
ALL = {
    "remix": 0.5, "gain_db": 6.0, "flip_polarity": True, "swap_channels": True,
    "speed_percent": 10, "channels": 2,
}  # fmt: skip


@pytest.fixture
def tracks(write_audio: WriteAudio) -> None:
    """Three tracks whose stems are constants that name track and stem; the right side is halved."""
    for split in ("train", "valid"):
        for track in range(3):
            for stem, name in enumerate(("vocals", "accompaniment")):
                level = 0.1 * (track + 1) + 0.01 * stem
                samples = np.full((2, 3000), level) * [[1.0], [0.5]]
                write_audio(f"{split}/{track}/{name}.wav", samples=samples)


def stems(config: RunConfig, *, split: str = "train") -> StemsDataset:
    dataset = open_dataset(config, split)
    assert isinstance(dataset, StemsDataset)
    return dataset


@pytest.mark.usefixtures("tracks")
def test_nothing_is_changed_by_default(make_config: MakeConfig) -> None:
    plain, almost = make_config("stems", channels=2), make_config("stems", channels=2, gain_db=1e-9)
    for index in range(9):
        one, other = (stems(config).item(1, index) for config in (plain, almost))
        np.testing.assert_allclose(one.mix_CT, other.mix_CT, atol=1e-7)
        np.testing.assert_allclose(one.target_SCT, other.target_SCT, atol=1e-7)


@pytest.mark.usefixtures("tracks")
def test_an_item_is_a_pure_function_of_its_place(make_config: MakeConfig) -> None:
    first, second = stems(make_config("stems", **ALL)), stems(make_config("stems", **ALL))
    backwards = {index: second.item(2, index).mix_CT.tobytes() for index in reversed(range(9))}
    for index in range(9):
        assert first.item(2, index).mix_CT.tobytes() == backwards[index]
    changes = {first.changes(epoch, index) for epoch in range(3) for index in range(9)}
    assert len(changes) == 27
    assert stems(make_config("stems", seed=1, **ALL)).changes(2, 0) != first.changes(2, 0)


@pytest.mark.usefixtures("tracks")
def test_validation_is_never_changed(make_config: MakeConfig) -> None:
    for index in range(3):
        item = stems(make_config("stems", **ALL), split="valid").item(0, index)
        np.testing.assert_allclose(item.target_SCT[0, 0], 0.1 * (index + 1), atol=1e-6)
        np.testing.assert_allclose(item.mix_CT[0], 0.2 * (index + 1) + 0.01, atol=1e-6)


@pytest.mark.usefixtures("tracks")
def test_the_mixture_is_the_sum_of_what_was_drawn(make_config: MakeConfig) -> None:
    dataset = stems(make_config("stems", channels=2, remix=1.0, gain_db=12.0, flip_polarity=True))
    pairs = set()
    for index in range(9):
        voice, rest = dataset.changes(0, index)
        assert voice.track is not None
        assert rest.track is not None
        pairs.add((voice.track, rest.track))
        item = dataset.item(0, index)
        level = 0.1 * (voice.track + 1) * voice.gain
        np.testing.assert_allclose(item.target_SCT[0, 0], level, rtol=1e-5)
        total = level + (0.1 * (rest.track + 1) + 0.01) * rest.gain
        np.testing.assert_allclose(item.mix_CT[0], total, rtol=1e-4, atol=1e-6)
    assert any(voice != rest for voice, rest in pairs)


@pytest.mark.usefixtures("tracks")
def test_draws_fill_their_ranges(make_config: MakeConfig) -> None:
    dataset = stems(make_config("stems", **ALL))
    drawn = [dataset.changes(epoch, index) for epoch in range(50) for index in range(9)]
    assert sum(pair[0].track is not None for pair in drawn) / len(drawn) == pytest.approx(
        0.5, abs=0.1
    )
    gains = [abs(change.gain) for pair in drawn for change in pair]
    assert 10 ** (-6 / 20) <= min(gains) < 0.52
    assert 1.93 < max(gains) <= 10 ** (6 / 20)
    assert {change.speed_percent for pair in drawn for change in pair} == set(range(-10, 11))
    signs = np.mean([change.gain < 0 for pair in drawn for change in pair])
    assert signs == pytest.approx(0.5, abs=0.1)
    together = [pair for pair in drawn if pair[0].track is None]
    assert all(pair[0].speed_percent == pair[1].speed_percent for pair in together)
    assert any(pair[0].gain != pair[1].gain for pair in together)


@pytest.mark.parametrize("percent", [-10, 25])
def test_speed_moves_the_pitch_and_keeps_the_length(
    make_config: MakeConfig, write_audio: WriteAudio, percent: int
) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(20_000) / 8000)
    for split in ("train", "valid"):
        for name in ("vocals", "accompaniment"):
            write_audio(f"{split}/one/{name}.wav", samples=tone)
    source = stems(make_config("stems"))._tracks[0][0]
    assert isinstance(source, Source)
    changed_CT = read_changed(source, 0, 8000, StemChange(speed_percent=percent))
    assert changed_CT.shape == (1, 8000)
    spectrum = np.abs(np.fft.rfft(changed_CT[0] * np.hanning(8000)))
    assert int(spectrum.argmax()) == 1000 * (100 + percent) // 100


def test_sides_swap_and_short_tracks_are_padded(
    make_config: MakeConfig, write_audio: WriteAudio
) -> None:
    for name in ("vocals", "accompaniment"):
        write_audio(f"train/one/{name}.wav", samples=np.full((2, 400), 0.4) * [[1.0], [0.5]])
    source = stems(make_config("stems", channels=2))._tracks[0][0]
    change = StemChange(track=0, share=0.99, swap=True, gain=-2.0)
    samples_CT = read_changed(source, 0, 800, change)
    assert not samples_CT[:, :200].any()
    assert not samples_CT[:, 600:].any()
    np.testing.assert_allclose(samples_CT[:, 200:600].mean(axis=1), [-0.4, -0.8], rtol=1e-6)


def test_a_mixture_file_and_changed_stems_do_not_go_together(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="mixture = 'mixture' is read from file"):
        make_config("stems", mixture="mixture", remix=0.5)
    with pytest.raises(ConfigError, match="swap_channels = true requires channels = 2"):
        make_config("stems", swap_channels=True)


@pytest.mark.usefixtures("tracks")
def test_the_device_mixes_what_readers_do_bit_by_bit(make_config: MakeConfig) -> None:
    """With every change, in an update of two epochs; halves of a batch are mixed alike."""
    draws = MicroBatch(tuple(ItemDraw(epoch, index) for epoch in range(2) for index in range(9)))
    by_readers, on_device = (
        SeparationRecipe(make_config("stems", mix_on=place, **ALL))
        for place in ("readers", "device")
    )
    expected, unmixed = (recipe.fetch("train", draws) for recipe in (by_readers, on_device))
    assert set(unmixed.tensors) == {"stems", "gain", "swap"}
    assert len(set(unmixed.tensors["gain"].flatten().tolist())) > 30
    assert {name: len(tensor) for name, tensor in unmixed.tensors.items()} == dict.fromkeys(
        unmixed.tensors, 18
    )
    found = on_device.mixed(pickle.loads(pickle.dumps(on_device)).fetch("train", draws))
    for name, tensor in expected.tensors.items():
        assert torch.equal(found.tensors[name], tensor)
    assert by_readers.mixed(expected) is expected


@pytest.mark.usefixtures("tracks")
def test_readers_mix_where_there_is_nothing_to_change_or_no_gpu(make_config: MakeConfig) -> None:
    draws = MicroBatch((ItemDraw(0, 0),))
    unchanged = SeparationRecipe(make_config("stems", mix_on="device"))
    assert "mix" in unchanged.fetch("train", draws).tensors
    changed = make_config("stems", **ALL)
    on_cpu = changed.model_copy(
        update={"precision": changed.precision.model_copy(update={"device": "cpu"})}
    )
    assert "mix" in SeparationRecipe(on_cpu).fetch("train", draws).tensors
    assert "mix" in SeparationRecipe(changed).fetch("valid", draws).tensors
