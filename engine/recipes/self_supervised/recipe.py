"""What the recipes of self-supervised pre-training share: items as waveforms, and a probe in every evaluation.

A recipe brings the network and the loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from engine.config.schema import RunConfig
from engine.data.unlabelled.dataset import UnlabelledDataset
from engine.evaluation.result import Evaluation
from engine.recipes.datasets import Datasets
from engine.recipes.self_supervised.probing import ProbeScore
from engine.recipes.training_items import Evaluate
from engine.recipes.waveforms.recipe import WaveformRecipe


class PretrainingRecipe(WaveformRecipe, ABC):
    """Trains an encoder on audio without texts; picklable for reader processes.

    Args:
        config: the run.
        datasets: its items, where somebody else needs them, too.
    """

    def __init__(
        self, config: RunConfig, datasets: Datasets[UnlabelledDataset] | None = None
    ) -> None:
        super().__init__(config, datasets)
        self._probe = ProbeScore(config)

    @abstractmethod
    def evaluate_loss(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Return val_loss and what else the objective measures on the validation items."""

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate the objective on whole validation items, and with `data.probe` the features, too."""
        return self._probe.added(self.evaluate_loss(model, device), model, device=device)

    def on_training_items(self, count: int) -> Evaluate:
        """Return what evaluates the objective on a sample of training items."""
        return self.with_training_items(count).evaluate_loss
