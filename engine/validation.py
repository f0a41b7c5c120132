"""Judging the model without touching its training: raw weights and their average.

Owns what surrounds a recipe's `evaluate`: no dropout, no gradients, every generator put back, the
average swapped in and out, and the names of the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from engine.config.schema import RunConfig
from engine.ema import Ema
from engine.precision import autocast, without_benchmark
from engine.randomness import rng_state, seed_torch, set_rng_state
from engine.recipes.base import Evaluation, Recipe

# Metrics of the data alone: the same for the weights and their average.
_OF_INPUT = ("input_si_sdr",)


class Validator:
    """Runs evaluations of one model."""

    def __init__(
        self, recipe: Recipe, config: RunConfig, *, device: torch.device, ema: Ema | None
    ) -> None:
        self._recipe = recipe
        self._config = config
        self._device = device
        self._ema = ema

    def run(self, model: nn.Module) -> Evaluation:
        """Return the metrics of the weights by name, and those of the average as `<name>_ema`."""
        with evaluation_mode(model, seed=self._config.seed), without_benchmark():
            raw = self._measure(model)
            if self._ema is None:
                return raw
            with self._ema.swapped():
                average = self._measure(model)
        extra = {f"{n}_ema": v for n, v in average.metrics.items() if n not in _OF_INPUT}
        return Evaluation({**raw.metrics, **extra}, raw.num_items, raw.num_excluded)

    def _measure(self, model: nn.Module) -> Evaluation:
        with autocast(self._config.precision, self._device):
            return self._recipe.evaluate(model, self._device)


@contextmanager
def evaluation_mode(model: nn.Module, *, seed: int) -> Iterator[None]:
    """Switch dropout and gradients off and seed the generators; all is put back at the end."""
    training = {module: module.training for module in model.modules()}
    state = rng_state()
    model.eval()
    seed_torch(seed)
    try:
        with torch.no_grad():
            yield
    finally:
        set_rng_state(state)
        for module, mode in training.items():
            module.training = mode


def metric_unit(name: str, loss_unit: str) -> str:
    """Return the unit of a validation metric."""
    return loss_unit if name.startswith("val_loss") else "dB"
