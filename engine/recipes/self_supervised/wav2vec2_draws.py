"""What wav2vec 2.0 draws for an item: masks, distractors and the key of its noise.

All of it is a function of (seed, epoch, item), made where the item is read. Letters: B batch, L frames, M
masked frames of the row that has most, K distractors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw
from engine.config.self_supervised import Wav2Vec2Loss
from engine.item_random import item_generator
from engine.recipes.self_supervised.distractors import draw_distractors
from engine.recipes.self_supervised.span_masks import span_masks
from models.self_supervised.wav2vec2 import Masked


def with_draws(
    batch: Batch,
    draws: Sequence[ItemDraw],
    *,
    frames_of: Callable[[int], int],
    loss: Wav2Vec2Loss,
    seed: int,
) -> Batch:
    """Add `mask` (B, L), `place` (B, M), `distractor` (B, M, K), `masked`, `frames` and `noise` (B,).

    `masked` and `frames` count, `noise` is the key of `gumbel_noise`; the rest is in `Masked`. Rows with fewer masked frames than M are filled with zeros; nothing is unmasked to make rows equal.

    Args:
        batch: `wave` and `length`, as `read_waveforms` returns them.
        draws: its items.
        frames_of: how many frames the network makes of a number of samples.
        loss: settings of masks and distractors.
        seed: of the run.
    """

    def generator(draw: ItemDraw, use: str) -> np.random.Generator:
        return item_generator(seed, draw.epoch, draw.index, use)

    frames = [frames_of(length) for length in batch.tensors["length"].tolist()]
    mask_BL = span_masks(
        [generator(draw, "mask") for draw in draws],
        frames=frames,
        prob=loss.mask_prob,
        length=loss.mask_length,
        min_spans=loss.min_masks,
    )
    padded = frames_of(batch.tensors["wave"].shape[1]) - mask_BL.shape[1]
    mask_BL = np.pad(mask_BL, ((0, 0), (0, padded)))
    masked_B = mask_BL.sum(axis=1)
    most = max(1, int(masked_B.max(initial=0)))
    place_BM = np.zeros((len(draws), most), dtype=np.int64)
    # 16 bits carry the distractors to the device: they are most of what a batch adds to its audio.
    distractor_BMK = np.zeros((*place_BM.shape, loss.distractors), dtype=np.int16)
    for row, draw in enumerate(draws):
        count = int(masked_B[row])
        place_BM[row, :count] = np.flatnonzero(mask_BL[row])
        distractor_BMK[row, :count] = draw_distractors(
            generator(draw, "distractors"), frames=count, count=loss.distractors
        )
    keys = [int(generator(draw, "gumbel").integers(2**63)) for draw in draws]
    added = {
        "mask": torch.from_numpy(mask_BL),
        "place": torch.from_numpy(place_BM),
        "masked": torch.from_numpy(masked_B),
        "frames": torch.tensor(frames),
        "distractor": torch.from_numpy(distractor_BMK),
        "noise": torch.tensor(keys, dtype=torch.int64),
    }
    return Batch({**batch.tensors, **added})


def masked_of(batch: Batch) -> Masked:
    """Return the masked frames of a batch, as the network takes them."""
    return Masked(batch.tensors["mask"], batch.tensors["place"])


def counts_of(batch: Batch) -> Tensor:
    """Return (B, M) bool: the places that count, those of items with a distractor to be told from."""
    masked_B1, place_BM = batch.tensors["masked"][:, None], batch.tensors["place"]
    number_M = torch.arange(place_BM.shape[1], device=place_BM.device)
    return (number_M < masked_B1) & (masked_B1 > 1)
