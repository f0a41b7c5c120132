"""The toy of masked prediction in several processes: `toy_ranks.py RANK WORLD FOLDER CONFIG`."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from masked_toy.recipe import MaskedToy, Network

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.events import Event, PointsRecorded, StageProgressed
from engine.recipes.base import Opening
from engine.training.ranks import Ranks, TorchRanks
from engine.training.trainer import Trainer


class CalmToy(MaskedToy):
    """The toy without dropout, whose masks depend on the micro-batch, and with updates that are skipped."""

    def __init__(self, config: RunConfig, opening: Opening) -> None:
        super().__init__(config, opening)
        self.poisoned = frozenset({3})

    def build_model(self) -> Network:
        return Network(dropout=0.0)


class StopAt:
    """Asks to stop when it has been asked so many times."""

    def __init__(self, left: float) -> None:
        self.left = left

    def stop_reason(self) -> str | None:
        self.left -= 1
        return "asked to stop" if self.left < 0 else None


class Recorder:
    """Keeps curves, and counts the reports of stages."""

    def __init__(self) -> None:
        self.stages = 0
        self.curves: dict[str, list[float]] = {}

    def on_event(self, event: Event) -> None:
        if isinstance(event, StageProgressed):
            self.stages += 1
        if isinstance(event, PointsRecorded):
            for name, values in event.series.items():
                self.curves.setdefault(name, []).extend(values.tolist())


def train(config: RunConfig, folder: Path, *, ranks: Ranks, asks: float = float("inf")) -> Any:
    """Make a run, or go on with it; return what it came to."""
    recipe, recorder = CalmToy(config, Opening(folder)), Recorder()
    trainer = Trainer(
        config, recipe, folder=folder, observers=[recorder], control=StopAt(asks), ranks=ranks
    )
    ended = trainer.fit()
    made: dict[str, Any] = {
        "outcome": ended.outcome, "reason": ended.reason, "updates": ended.counters.updates,
        "curves": recorder.curves, "stages": recorder.stages, "centres": recipe.centres_KF,
    }  # fmt: skip
    if ended.counters.updates:
        state = recipe.state_dict().tensors | trainer._state.model.state_dict()
        made["state"] = {name: tensor.clone() for name, tensor in state.items()}
    return made


def main(rank: int, world: int, folder: Path, config: RunConfig) -> None:
    """Be one of several processes: one asks to stop in a stage, then all go on to the end."""
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )
    ranks = TorchRanks(torch.device("cpu"))
    asks = 9 if rank == world - 1 else float("inf")
    first = train(config, folder / "run", ranks=ranks, asks=asks)
    second = train(config, folder / "run", ranks=ranks)
    torch.save({"first": first, "second": second}, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(
        int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), load_config(json.loads(sys.argv[4]))
    )
