"""Trains runs of installed packages: whole, and stopped and resumed. Started by `test_example_parts.py`.

Standard input has, by the name of a run, its config; what is printed is, by the same names, the hash of the
weights and of the training state at the end of both. The run's folder is under the first argument.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from engine.config.loading import load_config
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer


class StopsAfter:
    """Asks for a stop after so many questions; never for 0."""

    def __init__(self, questions: int) -> None:
        self._questions = count(1)
        self._last = questions

    def stop_reason(self) -> str | None:
        return "asked to" if next(self._questions) == self._last else None


class Counts:
    """Knows where a run stopped."""

    def __init__(self) -> None:
        self.loss = float("nan")

    def on_event(self, event: Any) -> None:
        if (metrics := getattr(event, "metrics", None)) and "val_loss" in metrics:
            self.loss = metrics["val_loss"]


def fit(values: dict[str, Any], folder: Path, *, stop: int = 0) -> tuple[str, float]:
    """Train a run in a folder; return how it ended and its last validation loss."""
    config = load_config(values)
    teacher = values["loss"].get("targets_from")
    needs = {"loss.targets_from": Path(teacher)} if teacher else {}
    recipe = open_recipe(config, opening=Opening(folder, needs))
    seen = Counts()
    end = Trainer(config, recipe, folder=folder, observers=[seen], control=StopsAfter(stop)).fit()
    return end.outcome, seen.loss


def state_of(folder: Path) -> str:
    """Return a hash over weights, optimizer and counters of the last checkpoint."""
    (last,) = sorted((folder / "checkpoints").glob("last-*"))[-1:]
    parts = [last / "state.json", *sorted(last.glob("*.safetensors"))]
    return sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def weights_of(folder: Path) -> str:
    """Return a hash of the weights of the last checkpoint."""
    (last,) = sorted((folder / "checkpoints").glob("last-*"))[-1:]
    return sha256((last / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Train every run of standard input."""
    folder = Path(sys.argv[1])
    answers = {}
    for name, values in json.load(sys.stdin).items():
        whole, parts = folder / name / "whole", folder / name / "parts"
        outcome, loss = fit(values, whole)
        stopped, _ = fit(values, parts, stop=3)
        resumed, _ = fit(values, parts)
        answers[name] = {
            "outcomes": [outcome, stopped, resumed], "loss": loss, "weights": weights_of(whole),
            "same": state_of(whole) == state_of(parts),
        }  # fmt: skip
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
