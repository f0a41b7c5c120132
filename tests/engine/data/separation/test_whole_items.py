"""Whole validation items: read in parts, they are what an excerpt as long as the file is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from engine.config.schema import RunConfig
from engine.data.kinds import open_dataset

MakeConfig = Callable[..., RunConfig]
WriteAudio = Callable[..., np.ndarray]


@pytest.fixture
def config_of(make_config: MakeConfig, write_audio: WriteAudio, tmp_path: Path) -> MakeConfig:
    """Write files of unequal lengths for a task, some at another rate; return its config."""

    def make(kind: str, rate_hz: int) -> RunConfig:
        for split in ("train", "valid"):
            for number, frames in enumerate((5_000, 900, 7_777)):
                names = {
                    "stems": [
                        f"{split}/{number}/{stem}.wav" for stem in ("vocals", "accompaniment")
                    ],
                    "speakers": [f"{split}/person{number}/one.wav"],
                }.get(kind, [f"{split}/{number}.wav"])
                for seed, name in enumerate(names):
                    write_audio(name, frames=frames, rate_hz=rate_hz, seed=10 * number + seed)
        write_audio("noise/short.wav", frames=2_000, rate_hz=rate_hz, seed=90)
        more = {"noise": tmp_path / "noise"} if kind == "denoise" else {}
        return make_config(kind, validation={"segment_s": 100}, **more)

    return make


@pytest.mark.parametrize("rate_hz", [8_000, 11_025])
@pytest.mark.parametrize("kind", ["stems", "bandwidth", "denoise", "speakers"])
def test_parts_put_together_are_the_item(config_of: MakeConfig, kind: str, rate_hz: int) -> None:
    dataset = open_dataset(config_of(kind, rate_hz), "valid")
    for index in range(3):
        item, whole = dataset.item(0, index), dataset.whole(index)
        assert whole.frames == item.mix_CT.shape[-1]
        ends = [0, 1, 613, 614, *range(1_500, whole.frames, 1_111), whole.frames]
        ends = sorted({end for end in ends if end <= whole.frames})
        parts = [whole.read(a, b - a) for a, b in pairwise(ends)]
        mix_CT = np.concatenate([part.mix_CT for part in parts], axis=-1)
        target_SCT = np.concatenate([part.target_SCT for part in parts], axis=-1)
        np.testing.assert_allclose(mix_CT, item.mix_CT, atol=1e-6)
        np.testing.assert_allclose(target_SCT, item.target_SCT, atol=1e-6)
