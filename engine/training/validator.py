"""Evaluating the model without changing training state: raw weights and their average.

Owns the context of a recipe's `evaluate`: dropout and gradients off, every generator restored, the
average swapped in and out, the score of some training items, and the names of the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from engine.config.schema import RunConfig
from engine.evaluation.result import Evaluation
from engine.measuring.jobs import JobWriter
from engine.metrics.registry import metric_of, of_average, of_training_items, of_whole_files
from engine.precision import autocast, eagerly, without_benchmark
from engine.recipes.base import GivesEstimates, JudgesWholeFiles, Recipe
from engine.recipes.training_items import Evaluate, ScoresTrainingItems, num_scored
from engine.torch_random import rng_state, seed_torch, set_rng_state
from engine.training.ema import Ema


class Validator:
    """Runs evaluations of one model."""

    def __init__(
        self, recipe: Recipe, config: RunConfig, *, device: torch.device, ema: Ema | None
    ) -> None:
        self._recipe = recipe
        self._config = config
        self._device = device
        self._ema = ema
        self._scored: Evaluate | None = None

    def run(
        self, model: nn.Module, *, whole: bool = False, taker: JobWriter | None = None
    ) -> Evaluation:
        """Return the metrics of the weights by name, and those of the average as `<name>_ema`.

        With `whole`, whole files are evaluated, too: `<name>_full`; `taker` gets their estimates. Clips
        come from the average, if there is one.
        """
        with evaluation_mode(model, seed=self._config.seed), without_benchmark():
            raw = self._measure(model, whole=whole, taker=taker)
            if self._ema is None:
                return raw
            with self._ema.swapped():
                average = self._measure(model, whole=whole, taker=taker, average=True)
        return replace(
            raw,
            metrics=raw.metrics | of_average(average.metrics),
            items=raw.items | of_average(average.items),
            clips=average.clips,
        )

    def _measure(
        self, model: nn.Module, *, whole: bool, taker: JobWriter | None, average: bool = False
    ) -> Evaluation:
        precision = self._config.precision
        with autocast(precision, self._device), eagerly(precision):
            evaluation = self._with_training_items(
                self._recipe.evaluate(model, self._device), model
            )
            if not (whole and isinstance(self._recipe, JudgesWholeFiles)):
                return evaluation
            if taker is not None and isinstance(self._recipe, GivesEstimates):
                taker.start(average=average)
                full = self._recipe.evaluate_and_keep(model, self._device, taker=taker)
            else:
                full = self._recipe.evaluate_whole(model, self._device)
        return replace(
            evaluation,
            metrics=evaluation.metrics | of_whole_files(full.metrics),
            items=evaluation.items | of_whole_files(full.items),
        )

    def _with_training_items(self, evaluation: Evaluation, model: nn.Module) -> Evaluation:
        """Return the evaluation with the losses and scores of some training items, by the same weights."""
        wanted, recipe = self._config.validation.training_items, self._recipe
        if not wanted or not isinstance(recipe, ScoresTrainingItems):
            return evaluation
        if self._scored is None:
            # Not before the first evaluation: until then a recipe may still be given its state.
            count = num_scored(wanted, num_valid=evaluation.num_items)
            self._scored = recipe.on_training_items(count)
        scored = self._scored(model, self._device)
        return replace(evaluation, metrics=evaluation.metrics | of_training_items(scored.metrics))


@contextmanager
def evaluation_mode(model: nn.Module, *, seed: int) -> Iterator[None]:
    """Switch off dropout and gradients and seed the generators; everything is restored on exit."""
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
    """Return the unit in which a validation metric is stored; that of a loss depends on its kind."""
    metric = metric_of(name)
    return loss_unit if metric.family == "loss" else metric.stored_unit
