"""Waveforms as batches: crops on the grid of frames that no split of an update changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.audio.waveform import normalised
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.unlabelled import UnlabelledData
from engine.recipes.waveforms.batches import (
    noise_batch,
    read_waveforms,
    whole_batches,
)

LENGTHS = (16_000, 20_000, 33_333, 48_000, 16_000, 25_601)


class Counted:
    """Items whose samples say where they are: item * 100 000 + place."""

    def __len__(self) -> int:
        return len(LENGTHS)

    def num_samples(self, index: int) -> int:
        return LENGTHS[index]

    def audio(self, index: int, *, start: int = 0, frames: int | None = None) -> np.ndarray:
        whole = index * 100_000 + np.arange(LENGTHS[index], dtype=np.float32)
        return whole[start : None if frames is None else start + frames]


def settings(**values: Any) -> UnlabelledData:
    return UnlabelledData.model_validate_json(
        json.dumps({"train": str(Path("t")), "valid": str(Path("v")), **values})
    )


def read(
    indices: tuple[int, ...],
    *,
    data: UnlabelledData,
    shape: tuple[float, ...] = (1.0,),
    epoch: int = 0,
    seed: int = 5,
    split: Any = "train",
) -> dict[str, torch.Tensor]:
    draws = tuple(ItemDraw(epoch, index) for index in indices)
    batch = read_waveforms(Counted(), MicroBatch(draws, shape), data=data, split=split, seed=seed)
    return batch.tensors


@pytest.mark.parametrize("normalize", [False, True])
def test_the_same_update_in_any_parts_gives_the_same_crops(normalize: bool) -> None:
    data = settings(normalize_waveform=normalize)
    whole = read((0, 1, 2, 3, 4, 5), data=data)
    for parts in ([(5,), (4,), (3,), (2,), (1,), (0,)], [(3, 1), (5, 0, 2, 4)]):
        rows = [row for part in parts for row in part]
        pieces = [read(part, data=data) for part in parts]
        for name, tensor in whole.items():
            torch.testing.assert_close(
                torch.cat([piece[name] for piece in pieces]), tensor[rows], rtol=0, atol=0
            )


def test_crops_begin_on_the_grid_and_say_where() -> None:
    tensors = read((0, 1, 2, 3), data=settings(), shape=(0.98,))
    assert tensors["wave"].shape == (4, 15_680)
    assert tensors["length"].tolist() == [15_680] * 4
    starts = [int(row[0]) - 100_000 * item for item, row in enumerate(tensors["wave"])]
    assert starts == (tensors["first_frame"] * 320).tolist()
    assert all(start + 15_680 <= length for start, length in zip(starts, LENGTHS, strict=False))


def test_places_are_drawn_anew_by_seed_and_epoch_and_reach_both_ends() -> None:
    data = settings()
    firsts = [int(read((3,), data=data, epoch=epoch)["first_frame"]) for epoch in range(600)]
    # 48 000 samples have room for a second of 16 000 at 0 to 100 hops.
    assert (min(firsts), max(firsts)) == (0, 100)
    assert len(set(firsts)) > 90
    assert firsts[:20] == [
        int(read((3,), data=data, epoch=epoch)["first_frame"]) for epoch in range(20)
    ]
    other = [int(read((3,), data=data, epoch=epoch, seed=6)["first_frame"]) for epoch in range(20)]
    assert other != firsts[:20]


def test_another_rate_has_a_grid_of_its_own() -> None:
    tensors = read((1, 2), data=settings(rate_hz=8_000), shape=(2.0,))
    assert tensors["wave"].shape == (2, 16_000)
    assert int(tensors["wave"][1, 0]) - 200_000 == 160 * int(tensors["first_frame"][1])


def test_without_a_shape_the_shortest_item_decides() -> None:
    assert read((2, 3), data=settings(), shape=())["wave"].shape == (2, 33_280)


def test_padded_items_are_whole_and_zeros_follow_them() -> None:
    data = settings(fit="pad", normalize_waveform=True)
    tensors = read((0, 1, 2), data=data, shape=(2.5,))
    assert tensors["wave"].shape == (3, 40_000)
    assert tensors["length"].tolist() == list(LENGTHS[:3])
    assert tensors["first_frame"].tolist() == [0, 0, 0]
    for row, length in zip(tensors["wave"], LENGTHS, strict=False):
        assert bool((row[length:] == 0).all())
        assert float(row[:length].mean()) == pytest.approx(0, abs=1e-4)
        assert float(row[:length].var()) == pytest.approx(1, abs=1e-3)


def test_normalising_is_that_of_layer_norm_and_leaves_silence_alone() -> None:
    wave = np.random.default_rng(0).normal(0.1, 0.02, 4_000).astype(np.float32)
    expected = torch.nn.functional.layer_norm(torch.from_numpy(wave), wave.shape)
    torch.testing.assert_close(torch.from_numpy(normalised(wave)), expected, rtol=0, atol=1e-5)
    assert not normalised(np.full(100, 0.25, np.float32)).any()


def test_a_crop_is_normalised_by_its_whole_item() -> None:
    data = settings(normalize_waveform=True)
    tensors = read((3,), data=data)
    start = 320 * int(tensors["first_frame"])
    expected = normalised(Counted().audio(3))[start : start + 16_000]
    np.testing.assert_array_equal(tensors["wave"][0].numpy(), expected)


def test_an_evaluation_crops_nothing_but_the_last_hop_and_pads_nothing() -> None:
    data = settings()
    batches = whole_batches(Counted(), data=data, most=4, count=6)
    assert sorted(draw.index for batch in batches for draw in batch.draws) == list(range(6))
    for batch in batches:
        tensors = read_waveforms(Counted(), batch, data=data, split="valid", seed=0).tensors
        for row, draw in zip(tensors["wave"], batch.draws, strict=True):
            own = LENGTHS[draw.index] // 320 * 320
            assert row.tolist() == Counted().audio(draw.index, frames=own).tolist()
    # Items 0 and 4 are equally long.
    assert sorted(map(len, batches)) == [1, 1, 1, 1, 2]
    few = whole_batches(Counted(), data=settings(fit="pad"), most=2, count=3)
    assert [tuple(draw.index for draw in batch.draws) for batch in few] == [(2, 1), (0,)]


def test_noise_has_the_shape_of_a_batch() -> None:
    real = read((0, 1), data=settings())
    made = noise_batch(2, (1.0,), data=settings(), longest_s=15.0).tensors
    assert {name: (t.shape, t.dtype) for name, t in made.items()} == {
        name: (t.shape, t.dtype) for name, t in real.items()
    }
    assert noise_batch(1, (), data=settings(), longest_s=3.01).tensors["wave"].shape == (1, 48_000)
