"""Speech recognition by transducers (RNN-T). Letters: B batch, T encoder frames, U tokens, D channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from engine.batching.batch import Batch
from engine.config.schema import RunConfig
from engine.recipes.base import Opening, StepContext, StepOutput
from engine.recipes.speech.recipe import Recognised, SpeechRecipe
from engine.recipes.transducer.decoding import greedy, most_tokens
from engine.recipes.transducer.rnnt_loss import Lattices, item_losses, transducer_loss
from engine.text.tokens import Tokenizer
from models.speech import SpeechModel, Tuning
from models.speech_configs import TransducerConfig
from models.transducer import Transducer, build_transducer


def open_transducer(config: RunConfig, *, opening: Opening) -> TransducerRecipe:
    """Open the recipe; it needs no other run."""
    return TransducerRecipe(config)


class TransducerRecipe(SpeechRecipe):
    """Trains any transducer of `models.transducer`."""

    tables: ClassVar[Sequence[str]] = (
        "predictor.embedding.weight", "joiner.linear.weight", "joiner.linear.bias",
    )  # fmt: skip

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.model, TransducerConfig)
        self._model_config = config.model

    def new_network(self, tokenizer: Tokenizer) -> Transducer:
        """Return the freshly initialised network of the settings."""
        return build_transducer(
            self._model_config,
            num_mels=self._front_end.num_features,
            num_tokens=tokenizer.num_tokens,
            vocabulary=tokenizer.to_bytes(),
        )

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the sum of the loss over the utterances, and their number."""
        assert isinstance(model, Transducer)
        loss_sum = transducer_loss(
            model,
            _lattices(model, batch, tuning=self._tuning(batch, context)),
            slices=self._config.batch.split,
        )
        count = len(batch.tensors["feat_length"])
        return StepOutput(loss_sum, torch.full((), float(count), device=loss_sum.device))

    def recognise(
        self, model: SpeechModel, batch: Batch, *, durations_s: Sequence[float]
    ) -> Recognised:
        """Return losses and greedy tokens of a batch of utterances of known durations."""
        assert isinstance(model, Transducer)
        lattices = _lattices(model, batch)
        losses_B = item_losses(model, lattices, slices=self._config.batch.split)
        finite_B = lattices.enc_BTD.isfinite().flatten(1).all(dim=1) & losses_B.isfinite()
        most = [most_tokens(seconds) for seconds in durations_s]
        found = greedy(model, lattices.enc_BTD, lengths=lattices.enc_lengths, most=most)
        return Recognised.of(losses_B, found, finite_B=finite_B)


def _lattices(model: Transducer, batch: Batch, *, tuning: Tuning | None = None) -> Lattices:
    """Run encoder and predictor; lengths become Python numbers, since the loss slices by them."""
    tensors = batch.tensors
    enc_BTD, enc_lengths_B, pred_BUD = model(
        tensors["feat"], tensors["feat_length"], tensors["token"], tuning=tuning
    )
    enc_lengths, token_lengths = torch.stack([enc_lengths_B, tensors["token_length"]]).tolist()
    return Lattices(
        enc_BTD,
        pred_BUD,
        tokens_BU=tensors["token"],
        enc_lengths=enc_lengths,
        token_lengths=token_lengths,
    )
