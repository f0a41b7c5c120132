"""Generators keyed by where they are used: order, crops and noise of a run. Free of torch."""

from __future__ import annotations

import struct
from hashlib import blake2b

import numpy as np


def item_generator(seed: int, epoch: int, index: int, stream: str) -> np.random.Generator:
    """Return the generator of one item in one epoch, for one use.

    Philox, keyed by the first 128 bits of BLAKE2b over (seed, epoch, index, stream). Different
    `stream` names ("crop", "noise", ...) give independent draws, so that adding a draw to one use
    changes no other.
    """
    key = blake2b(
        struct.pack("<qqq", seed, epoch, index) + stream.encode(), digest_size=16
    ).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


def draws_seed(seed: int, split: str) -> int:
    """Return the seed of what is drawn for the items of a split, such as masks: that of the run, or 0.

    Validation draws are the same in every run, so that runs of different seeds can be compared.
    """
    return seed if split == "train" else 0
