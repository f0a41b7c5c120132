"""What an update of data2vec 2.0 costs over a plain loop on the same modules: `python tests/bench/data2vec2_update.py`.

Same network, batch, masks, loss, fused AdamW, clipping and teacher; ours adds sums for the curves, the gate
on non-finite updates and seeded generators. Both run in turn on one thread; medians of CPU time are compared.
Then masks: ours for a batch beside the time of the update they are for.
"""

from __future__ import annotations

import argparse
import tempfile
from math import sqrt
from pathlib import Path
from time import thread_time
from typing import Any

import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.config.schema import RunConfig
from engine.item_random import item_generator
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.block_masks import MaskShape, block_masks
from engine.recipes.self_supervised.data2vec2 import Data2Vec2Recipe
from engine.recipes.self_supervised.data2vec2_teacher import Teacher
from models.self_supervised.data2vec2 import Data2Vec2, Masks, take
from tests.bench.beside_plain import (
    milliseconds,
    our_update,
    plain_adamw,
    ratio,
    small_preset,
    timed,
)


class PlainLoop:
    """The least that trains this network."""

    def __init__(self, config: RunConfig, model: Data2Vec2) -> None:
        self.loss: Any = config.loss
        self.model, self.teacher = model, Teacher(model.context, self.loss)
        self.optimizer = plain_adamw(config, model)

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
        config = small_preset("ssl/data2vec2-small", Path(folder))
        recipe = open_recipe(config)
        assert isinstance(recipe, Data2Vec2Recipe)
        batch = recipe.worst_batch(options.items, (options.seconds,))
        plain = PlainLoop(config, recipe.build_model())
        model = recipe.build_model()
        recipe.start_state(model, torch.device("cpu"))
        ours = our_update(config, recipe, model, [batch])
        arms = {"plain": lambda number: plain.update(batch), "ours": ours}
        times = timed(arms, rounds=options.rounds)
    print(milliseconds(times))
    print(f"ours / plain: {ratio(times, 'ours', 'plain'):.3f} (median of {options.rounds} pairs)")
    frames = [749] * 32
    started = thread_time()
    block_masks(
        MaskShape(8, 0.5, 0.05, 5), frames,
        generator_of=lambda item, use: item_generator(0, 0, item, use),
    )  # fmt: skip
    print(f"8 masks of 32 x 15 s: {(thread_time() - started) * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
