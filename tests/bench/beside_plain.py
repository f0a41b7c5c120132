"""What benches of updates share: a small preset on noise, a plain optimizer, our update, arms timed in turn.

Not a bench itself. Arms are timed in CPU time of this thread; ratios are medians of rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import soundfile
import torch
from torch import nn

from engine.batching.batch import Batch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.training.optimizer import FusedAdamW
from engine.training.updates import Updater, UpdateResult
from presets.catalogue import Catalogue

# Rounds that are not counted.
_WARM_UP = 2


def small_preset(name: str, folder: Path) -> RunConfig:
    """Return a preset for unlabelled audio on two files of noise."""
    for split in ("train", "valid"):
        (folder / split).mkdir(exist_ok=True)
        samples_T = 0.1 * np.random.default_rng(0).normal(size=3 * 16_000)
        soundfile.write(folder / split / "noise.wav", samples_T, 16_000)
    values = Catalogue().read(name)
    data = {"train": str(folder / "train"), "valid": str(folder / "valid")}
    return load_config({**values, "data": {**values["data"], **data}})


def plain_adamw(config: RunConfig, model: nn.Module) -> torch.optim.AdamW:
    """Return torch's fused AdamW with the settings of a run."""
    optimizer = config.optimizer
    return torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.eps,
        weight_decay=optimizer.weight_decay, fused=True,
    )  # fmt: skip


def our_update(
    config: RunConfig, recipe: Any, model: nn.Module, batches: Sequence[Batch]
) -> Callable[[int], UpdateResult]:
    """Return what makes the update of a number, from 1, on the same batches."""
    updater = Updater(
        recipe, model, FusedAdamW(model, config.optimizer), config=config,
        device=torch.device("cpu"), ema=None,
    )  # fmt: skip
    return lambda number: updater.run(number, batches, lr=1e-4)


def timed(
    arms: Mapping[str, Callable[[int], object]], *, rounds: int
) -> Mapping[str, Sequence[float]]:
    """Return the seconds of each arm, round by round; an arm is called with the number of the round, from 1."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(1, rounds + _WARM_UP + 1):
        for name, arm in arms.items():
            started = thread_time()
            arm(number)
            if number > _WARM_UP:
                times[name].append(thread_time() - started)
    return times


def ratio(times: Mapping[str, Sequence[float]], ours: str, plain: str) -> float:
    """Return the median over the rounds of the times of two arms, the first over the second."""
    pairs = zip(times[ours], times[plain], strict=True)
    return statistics.median(one / other for one, other in pairs)


def milliseconds(times: Mapping[str, Sequence[float]]) -> str:
    """Return the median time of each arm as text."""
    return ", ".join(f"{name} {statistics.median(v) * 1e3:.0f} ms" for name, v in times.items())
