"""Updates of wav2vec 2.0 that change nothing, by one process or several: `... RANK WORLD FOLDER CONFIG`.

Each process writes the gradients of `SPLITS` to `FOLDER/rank-RANK.pt`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.batch import Batch
from engine.recipes.base import StepContext, StepOutput
from engine.recipes.registry import open_recipe
from engine.training.optimizer import FusedAdamW
from engine.training.ranks import Alone, Ranks, TorchRanks
from engine.training.updates import Updater

CPU = torch.device("cpu")
# Items of each micro-batch; they are dealt to ranks in turn.
SPLITS: Mapping[str, Sequence[Sequence[int]]] = {
    "one batch": ((0, 1, 2, 3, 4, 5),),
    "even": ((0, 1, 2), (3, 4, 5)),
    "ragged": ((5,), (3, 1, 0, 2), (4,)),
}


class Keeping(FusedAdamW):
    """Keeps the gradients that it steps by: those in the parameters are overwritten."""

    def step(self, *, lr: float, divisor: Tensor, skipped: Tensor) -> None:
        self.kept = [gradient / divisor for gradient in self.gradients()]
        super().step(lr=lr, divisor=divisor, skipped=skipped)


class ShortOfMemory:
    """A recipe with room for `fits` items in a pass of the kind `where`."""

    def __init__(self, recipe: Any, *, fits: int, where: str) -> None:
        self._recipe, self._fits, self._where = recipe, fits, where

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recipe, name)

    @property
    def ahead_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._recipe.ahead_shapes

    @property
    def training_metrics(self) -> Mapping[str, str]:
        return self._recipe.training_metrics

    def look(self, model: nn.Module, batch: Batch, *, context: StepContext) -> Mapping[str, Tensor]:
        self._check("look", batch)
        return self._recipe.look(model, batch, context=context)

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        self._check("step", batch)
        return self._recipe.step(model, batch, context=context)

    def _check(self, kind: str, batch: Batch) -> None:
        if kind == self._where and len(batch.tensors["wave"]) > self._fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


def update(
    config: RunConfig,
    name: str,
    *,
    ranks: Ranks | None = None,
    fits: int = 100,
    where: str = "step",
) -> dict[str, Any]:
    """Make an update in float64; return its gradients and what it came to."""
    ranks = ranks or Alone()
    recipe: Any = ShortOfMemory(open_recipe(config), fits=fits, where=where)
    torch.manual_seed(0)
    model = recipe.build_model().double().train()
    batches = []
    for items in list(SPLITS[name])[ranks.rank :: ranks.world]:
        draws = tuple(ItemDraw(2, index) for index in items)
        tensors = recipe.fetch("train", MicroBatch(draws, (1.3,))).tensors
        tensors["wave"] = tensors["wave"].double()
        batches.append(Batch(tensors))
    optimizer = Keeping(model, config.optimizer)
    updater = Updater(recipe, model, optimizer, config=config, device=CPU, ema=None, ranks=ranks)
    result = updater.run(3, batches, lr=0.0)
    assert result.metrics is not None
    sums = result.metrics.view(-1, 2)
    return {
        "gradients": optimizer.kept,
        "loss": (result.loss_sum / result.weight).item(),
        "metrics": (sums[:, 0] / sums[:, 1]).tolist(),
        "shortages": len(result.shortages),
    }


def main(rank: int, world: int, folder: Path, config: RunConfig) -> None:
    """Be one of several processes; memory is short on the last one."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )
    ranks = TorchRanks(CPU)
    found = {name: update(config, name, ranks=ranks) for name in SPLITS}
    found["short"] = update(
        config, "even", ranks=ranks, fits=1 if rank == world - 1 else 100, where="look"
    )
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    settings = load_config(json.loads(sys.argv[4]))
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), settings)
