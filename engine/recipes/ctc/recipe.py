"""Speech recognition by CTC (Graves et al., 2006).

Letters: B batch, T encoder frames, V tokens that exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.config.schema import RunConfig
from engine.recipes.base import Opening, StepContext, StepOutput
from engine.recipes.ctc.decoding import greedy
from engine.recipes.ctc.loss import ctc_losses
from engine.recipes.speech.recipe import Recognised, SpeechRecipe
from engine.text.tokens import Tokenizer
from models.ctc import CtcModel, build_ctc
from models.speech import SpeechModel, Tuning
from models.speech_configs import CtcConfig


def open_ctc(config: RunConfig, *, opening: Opening) -> CtcRecipe:
    """Open the recipe; it needs no other run."""
    return CtcRecipe(config)


class CtcRecipe(SpeechRecipe):
    """Trains any model of `models.ctc`."""

    tables: ClassVar[Sequence[str]] = ("head.weight", "head.bias")

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.model, CtcConfig)
        self._model_config = config.model

    @property
    def training_metrics(self) -> dict[str, str]:
        """Return the curve of utterances that have more tokens than the encoder has frames for."""
        return {"unalignable": ""}

    def new_network(self, tokenizer: Tokenizer) -> CtcModel:
        """Return the freshly initialised network of the settings."""
        return build_ctc(
            self._model_config,
            num_features=self._front_end.num_features,
            num_tokens=tokenizer.num_tokens,
            vocabulary=tokenizer.to_bytes(),
        )

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the sum of the loss over the utterances that can be aligned, and their number.

        An utterance with more tokens than its frames have room for has no alignment, and an infinite
        loss: it counts neither in the sum nor in the weight, but in the curve `unalignable`.
        """
        assert isinstance(model, CtcModel)
        losses_B, alignable_B = _losses(
            *_logits(model, batch, tuning=self._tuning(batch, context)), batch=batch
        )
        weight = alignable_B.sum().to(losses_B.dtype)
        count = torch.full_like(weight, len(alignable_B))
        return StepOutput(losses_B.sum(), weight, metrics={"unalignable": (count - weight, count)})

    def recognise(
        self, model: SpeechModel, batch: Batch, *, durations_s: Sequence[float]
    ) -> Recognised:
        """Return losses and greedy tokens of a batch of utterances."""
        assert isinstance(model, CtcModel)
        logits_BTV, lengths_B = _logits(model, batch)
        losses_B, alignable_B = _losses(logits_BTV, lengths_B, batch=batch)
        finite_B = logits_BTV.isfinite().flatten(1).all(dim=1) & losses_B.isfinite()
        found = greedy(logits_BTV, lengths_B.tolist())
        return Recognised.of(losses_B, found, finite_B=finite_B, absent_B=~alignable_B)


def _logits(
    model: CtcModel, batch: Batch, *, tuning: Tuning | None = None
) -> tuple[Tensor, Tensor]:
    """Return the outputs of the network (B, T, V) and their lengths (B,)."""
    logits_BTV, lengths_B = model(
        batch.tensors["feat"], batch.tensors["feat_length"], tuning=tuning
    )
    return logits_BTV, lengths_B


def _losses(logits_BTV: Tensor, lengths_B: Tensor, *, batch: Batch) -> tuple[Tensor, Tensor]:
    tensors = batch.tensors
    return ctc_losses(
        logits_BTV,
        lengths_B,
        tokens_BU=tensors["token"],
        token_lengths_B=tensors["token_length"],
    )
