"""What an update of data2vec 2.0 costs over a plain loop on the same modules: `python tests/bench/data2vec2_update.py`.

Same network, batch, masks, loss, fused AdamW, clipping and teacher; ours adds sums for the curves, the gate
on non-finite updates and seeded generators. Both run in turn on one thread; medians of CPU time are compared.
Then masks: ours for a batch beside the time of the update they are for.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from math import sqrt
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.batch import Batch
from engine.item_random import item_generator
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.block_masks import MaskShape, block_masks
from engine.recipes.self_supervised.data2vec2 import Data2Vec2Recipe
from engine.recipes.self_supervised.data2vec2_teacher import Teacher
from engine.training.optimizer import FusedAdamW
from engine.training.updates import Updater
from models.self_supervised.data2vec2 import Data2Vec2, Masks, take
from presets.catalogue import Catalogue


def config_of(folder: Path) -> RunConfig:
    """Return the small preset on two files of noise."""
    for split in ("train", "valid"):
        (folder / split).mkdir()
        samples_T = 0.1 * np.random.default_rng(0).normal(size=3 * 16_000)
        soundfile.write(folder / split / "noise.wav", samples_T, 16_000)
    values = Catalogue().read("ssl/data2vec2-small")
    data = {"train": str(folder / "train"), "valid": str(folder / "valid")}
    return load_config({**values, "data": {**values["data"], **data}})


class PlainLoop:
    """The least that trains this network."""

    def __init__(self, config: RunConfig, model: Data2Vec2) -> None:
        self.loss: Any = config.loss
        self.model, self.teacher = model, Teacher(model.context, self.loss)
        optimizer = config.optimizer
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-4, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.eps,
            weight_decay=optimizer.weight_decay, fused=True,
        )  # fmt: skip

    def update(self, batch: Batch) -> None:
        """Train on a batch."""
        tensors = batch.tensors
        masks = Masks(
            tensors["mask"], tensors["kept"], tensors["masked"],
            num_kept_B=tensors["num_kept"], num_masked_B=tensors["num_masked"],
        )  # fmt: skip
        self.optimizer.zero_grad()
        local_BLD, _ = self.model.local_features(tensors["wave"])
        pred_NQD = self.model.predict(local_BLD, masks)
        target_NLD = self.teacher.targets(local_BLD).repeat_interleave(masks.clones, dim=0)
        target_NQD = take(target_NLD, masks.masked_BMQ.flatten(0, 1))
        loss: Tensor = (pred_NQD - target_NQD).square().sum(dim=2).mean() / sqrt(pred_NQD.shape[2])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.teacher.follow(self.model.context, decay=0.99, skipped=torch.tensor(0.0))


def main() -> None:
    """Print both times, their ratio, and the time of masks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(Path(folder))
        recipe = open_recipe(config)
        assert isinstance(recipe, Data2Vec2Recipe)
        batch = recipe.worst_batch(options.items, (options.seconds,))
        plain = PlainLoop(config, recipe.build_model())
        model = recipe.build_model()
        recipe.start_state(model, torch.device("cpu"))
        updater = Updater(
            recipe, model, FusedAdamW(model, config.optimizer), config=config,
            device=torch.device("cpu"), ema=None,
        )  # fmt: skip
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for number in range(options.rounds + 2):
            started = thread_time()
            plain.update(batch)
            between = thread_time()
            updater.run(number + 1, [batch], lr=1e-4)
            if number >= 2:
                times["plain"].append(between - started)
                times["ours"].append(thread_time() - between)
        ratio = statistics.median(
            ours / theirs for ours, theirs in zip(times["ours"], times["plain"], strict=True)
        )
        for name, values in times.items():
            print(f"{name}: {statistics.median(values) * 1e3:.0f} ms an update")
        print(f"ours / plain: {ratio:.3f} (median of {options.rounds} pairs)")
    frames = [749] * 32
    started = thread_time()
    block_masks(
        MaskShape(8, 0.5, 0.05, 5), frames,
        generator_of=lambda item, use: item_generator(0, 0, item, use),
    )  # fmt: skip
    print(f"8 masks of 32 x 15 s: {(thread_time() - started) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
