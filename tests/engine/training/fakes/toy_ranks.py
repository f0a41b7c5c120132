"""The toy of masked prediction in several processes: their work gets a config, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from masked_toy.recipe import MaskedToy, Network

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.events import Event, PointsRecorded, StageProgressed
from engine.recipes.base import Opening
from engine.training.ranks import Ranks
from engine.training.trainer import Trainer
from tests.ranks import take_part


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


def work(ranks: Ranks, folder: Path, config: str) -> dict[str, Any]:
    """Be one of several processes: one asks to stop in a stage, then all go on to the end."""
    settings = load_config(json.loads(config))
    asks = 9 if ranks.rank == ranks.world - 1 else float("inf")
    first = train(settings, folder / "run", ranks=ranks, asks=asks)
    return {"first": first, "second": train(settings, folder / "run", ranks=ranks)}


if __name__ == "__main__":
    take_part(work)
