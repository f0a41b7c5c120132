"""Two updates with all memory there is, and two with 320 MiB of it, which is too little: prints JSON.

Letters: B batch, T time, D channels.
"""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from engine.batching.batch import Batch
from engine.config.loading import load_config
from engine.recipes.base import Recipe, StepContext, StepOutput
from engine.training.optimizer import FusedAdamW
from engine.training.updates import Updater

DATA = {"kind": "bandwidth", "train": "unused", "valid": "unused"}


class Wide:
    """A step that keeps 384 MiB for its backward pass."""

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        x_BTD = batch.tensors["x"]
        y_BTD = x_BTD
        for _ in range(6):
            y_BTD = torch.tanh(model(y_BTD))
        return StepOutput(y_BTD.square().mean(1).sum(), torch.tensor(float(len(x_BTD))))


def two_updates() -> tuple[dict[str, Any], nn.Module]:
    """Return what two updates came to, and the model."""
    torch.manual_seed(0)
    model = nn.Linear(64, 64)
    config = load_config({"data": DATA})
    updater = Updater(
        cast("Recipe", Wide()), model, FusedAdamW(model, config.optimizer),
        config=config, device=torch.device("cpu"), ema=None,
    )  # fmt: skip
    x_BTD = torch.randn(64, 2048, 64, generator=torch.Generator().manual_seed(1))
    results = [updater.run(update, [Batch({"x": x_BTD})], lr=1e-2) for update in (1, 2)]
    return {
        "losses": [result.loss_sum.item() for result in results],
        "pieces": [result.num_pieces for result in results],
        "shortages": [(s.items, s.items_after) for result in results for s in result.shortages],
    }, model


if __name__ == "__main__":
    torch.set_num_threads(1)
    whole, model = two_updates()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 320 * 2**20, resource.RLIM_INFINITY))
    limited, twin = two_updates()
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    difference = max((one - other).abs().max().item() for one, other in pairs)
    print(json.dumps({"whole": whole, "limited": limited, "difference": difference}))
