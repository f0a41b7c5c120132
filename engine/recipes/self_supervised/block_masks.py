"""Masks of data2vec 2.0: blocks of frames, brought to an exact number of masked frames.

After fairseq's `compute_block_mask_1d`, with two differences: a mask is made for the frames that remain
after cropping, so all masks of equally long items mask equally many frames; and it is a function of the
generators of its item and its number among the masks of the item, whatever else is in the batch.

Letters: B batch, M masks of an item, N = B M, L frames, K kept frames, Q masked frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

# Use of random numbers: where blocks lie, and which single frames are added or taken away.
Use = Literal["blocks", "frames"]


@dataclass(frozen=True, slots=True)
class MaskShape:
    """How masks are made.

    Attributes:
        clones: M, masks of each item.
        prob: share of the frames that are masked, exact to one frame.
        adjust: added to `prob` for the number of blocks drawn, since blocks overlap.
        length: frames of a block.
        inverse: the blocks are those frames that are kept.
    """

    clones: int
    prob: float
    adjust: float
    length: int
    inverse: bool = False

    def num_masked(self, frames: int) -> int:
        """Return how many of `frames` are masked: at least one, and one is left, where there are two."""
        count = int(frames * self.prob + 1e-9)
        return max(0, min(max(count, 1), frames - 1))


def block_masks(
    shape: MaskShape,
    frames: Sequence[int],
    *,
    generator_of: Callable[[int, Use], np.random.Generator],
) -> np.ndarray:
    """Return (B, M, L) bool: which frames are masked, none after the end of an item.

    Args:
        shape: how they are made.
        frames: frames of each item.
        generator_of: (number of the item in the batch, use) -> its generator. Mask m is the m-th draw,
            whatever M is.
    """
    longest, clones = max(frames), shape.clones
    share = 1 - shape.prob if shape.inverse else shape.prob
    wanted_B = [shape.num_masked(count) for count in frames]
    if shape.inverse:
        wanted_B = [count - wanted for count, wanted in zip(frames, wanted_B, strict=True)]
    rows, places = [], []
    # In front of any number from 0 to 2; frames after the end of an item come last.
    rank_BML = np.full((len(frames), clones, longest), -1.0, dtype=np.float32)
    reach = np.arange(shape.length) - shape.length // 2
    for item, count in enumerate(frames):
        blocks = int(count * (share + shape.adjust) / shape.length)
        centre_MB = generator_of(item, "blocks").integers(0, max(count, 1), (clones, blocks))
        place = (centre_MB[..., None] + reach).clip(0, max(count - 1, 0)).reshape(clones, -1)
        rows.append(np.repeat(np.arange(item * clones, (item + 1) * clones), place.shape[1]))
        places.append(place.reshape(-1))
        rank_BML[item, :, :count] = generator_of(item, "frames").random(
            (clones, count), dtype=np.float32
        )
    rank_NL = rank_BML.reshape(-1, longest)
    block_NL = np.zeros(rank_NL.shape, dtype=bool)
    block_NL[np.concatenate(rows), np.concatenate(places)] = True
    # Frames of blocks first, all others after them, each lot at random: the first so many are exact.
    rank_NL += block_NL
    order_NL = np.argsort(-rank_NL, axis=1)
    wanted_N = np.repeat(wanted_B, clones)
    chosen_NL = np.zeros(rank_NL.shape, dtype=bool)
    np.put_along_axis(chosen_NL, order_NL, np.arange(longest) < wanted_N[:, None], axis=1)
    chosen_BML = chosen_NL.reshape(rank_BML.shape)
    if not shape.inverse:
        return chosen_BML
    inside_BL = np.arange(longest) < np.asarray(frames)[:, None]
    return ~chosen_BML & inside_BL[:, None]


def places_of(flag_BML: np.ndarray) -> np.ndarray:
    """Return (B, M, P) int64: where the flags of each row are set, in order, then zeros; P is the most of a row."""
    count_BM = flag_BML.sum(axis=2)
    most = int(count_BM.max(initial=0))
    order_BML = np.argsort(~flag_BML, axis=2, kind="stable")[..., :most]
    return np.where(np.arange(most) < count_BM[..., None], order_BML, 0).astype(np.int64)
