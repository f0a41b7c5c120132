"""Torch's random draws as a pure function of (seed, where they are used), and the global generators.

Owns how a seed and a position (update and micro-batch) become the state of torch's generators:
dropout does not depend on the number of workers, and a resumed run draws the same numbers as an
uninterrupted one. Draws of items are keyed in `engine.item_random`. Also saves and restores the global
generators, for code that draws from them directly.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

_CUDA_PREFIX = "torch.cuda."


def torch_seed(seed: int, update: int, *, micro_batch: int) -> int:
    """Return the 63-bit seed of torch's generators for one micro-batch (dropout and the like)."""
    digest = blake2b(struct.pack("<qqq", seed, update, micro_batch), digest_size=8, person=b"torch")
    return int.from_bytes(digest.digest(), "little") >> 1


def seed_torch(value: int) -> None:
    """Seed torch's CPU generator, and those of every GPU if CUDA is in use.

    Costs about a microsecond; `torch.manual_seed` costs a hundred and would initialise CUDA.
    """
    torch.default_generator.manual_seed(value)
    if _cuda_in_use():
        for generator in torch.cuda.default_generators:
            generator.manual_seed(value)


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy and torch at the start of a run."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_torch(seed)


@dataclass(frozen=True, slots=True)
class RngState:
    """State of the global generators: `tensors` for safetensors, `values` for JSON."""

    tensors: dict[str, Tensor]
    values: dict[str, float | int | None]


def rng_state() -> RngState:
    """Return the state of the global generators of python, numpy, torch and each GPU in use."""
    version, keys, gauss = random.getstate()
    legacy = np.random.get_state(legacy=False)
    assert isinstance(legacy, dict)
    tensors = {
        "python": torch.tensor(keys, dtype=torch.int64),
        "numpy": torch.from_numpy(legacy["state"]["key"].astype(np.int64)),
        "torch": torch.get_rng_state(),
    }
    if _cuda_in_use():
        for number, generator in enumerate(torch.cuda.default_generators):
            tensors[f"{_CUDA_PREFIX}{number}"] = generator.get_state()
    values: dict[str, float | int | None] = {
        "python_version": int(version),
        "python_gauss": gauss,
        "numpy_position": int(legacy["state"]["pos"]),
        "numpy_has_gauss": int(legacy["has_gauss"]),
        "numpy_gauss": float(legacy["gauss"]),
    }
    return RngState(tensors, values)


def set_rng_state(state: RngState) -> None:
    """Restore the global generators from `state`; GPUs that are not in use here are ignored.

    Raises:
        ValueError: when the state is incomplete.
    """
    missing = {"python", "numpy", "torch"} - state.tensors.keys()
    if missing:
        raise ValueError(
            f"random state is missing {', '.join(sorted(missing))}; the checkpoint is damaged"
        )
    keys = tuple(state.tensors["python"].tolist())
    random.setstate((state.values["python_version"], keys, state.values["python_gauss"]))
    key = state.tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": key, "pos": state.values["numpy_position"]},
            "has_gauss": state.values["numpy_has_gauss"],
            "gauss": state.values["numpy_gauss"],
        }
    )
    torch.set_rng_state(state.tensors["torch"])
    if _cuda_in_use():
        for number, generator in enumerate(torch.cuda.default_generators):
            saved = state.tensors.get(f"{_CUDA_PREFIX}{number}")
            if saved is not None:
                generator.set_state(saved)


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
