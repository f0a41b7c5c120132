"""What recipes of speech recognition share: utterances as batches, and word and character error rates.

A recipe brings the network, the loss and the search. Letters: B batch, N validation items, L frames, F
numbers of a frame, U tokens.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from math import ceil
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from engine.audio.log_mel import LogMel, Normalisation, measure
from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.schema import RunConfig
from engine.config.speech import SpeechData
from engine.evaluation.result import Evaluation, evaluation_of
from engine.item_random import item_generator
from engine.metrics.word_errors import ErrorBreakdown
from engine.recipes.base import StepContext, StepOutput
from engine.recipes.speech.fine_tuning import FineTuning
from engine.recipes.speech.front_end import front_end_of
from engine.recipes.speech.specaugment import spec_augment
from engine.recipes.training_items import Evaluate
from engine.recipes.utterances.recipe import UtteranceRecipe
from engine.recipes.weights import ParameterGroup, TokenTables
from engine.text.tokens import Tokenizer, build_tokenizer, from_bytes
from models.speech import SpeechModel, Tuning
from models.speech_configs import SpeechHead, TunedEncoder


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a network made of a batch.

    Attributes:
        losses_B: the loss of each utterance, in nats; NaN where it, or an output, is not finite.
        tokens: those of the greedy search for each utterance, none where an output is not finite.
        absent_B: bool, the utterances that have no loss whatever the model puts out.
    """

    losses_B: Tensor
    tokens: list[list[int]]
    absent_B: Tensor

    @classmethod
    def of(
        cls,
        losses_B: Tensor,
        tokens: Sequence[list[int]],
        *,
        finite_B: Tensor,
        absent_B: Tensor | None = None,
    ) -> Recognised:
        """Blank out the utterances whose outputs or loss are not finite."""
        kept = [found if ok else [] for found, ok in zip(tokens, finite_B.tolist(), strict=True)]
        absent_B = torch.zeros_like(finite_B) if absent_B is None else absent_B
        return cls(losses_B.masked_fill(~finite_B, torch.nan), kept, absent_B)


class SpeechRecipe(UtteranceRecipe):
    """Trains a recogniser on utterances; picklable for reader processes."""

    # Tensors of the model with a row for each token.
    tables: ClassVar[Sequence[str]] = ()

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.data, SpeechData)
        assert isinstance(config.model, SpeechHead)
        self._data = config.data
        self._reads_mel = config.model.reads == "log_mel"
        self._front_end = front_end_of(config)
        self._fine_tuning = FineTuning(config) if isinstance(config.model, TunedEncoder) else None

    def build_model(self) -> SpeechModel:
        """Return the freshly initialised network, with its tokens and mean spectrum."""
        model = self.new_network(self._tokenizer)
        model.normalise_by(self._normalisation.mean_F, self._normalisation.std_F)
        if self._fine_tuning is not None:
            self._fine_tuning.freeze(model)
        return model

    @abstractmethod
    def new_network(self, tokenizer: Tokenizer) -> SpeechModel:
        """Return the freshly initialised network of the settings."""

    @abstractmethod
    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the sum of the loss over the utterances, and their number."""

    @abstractmethod
    def recognise(
        self, model: SpeechModel, batch: Batch, *, durations_s: Sequence[float]
    ) -> Recognised:
        """Return losses and greedy tokens of a batch of utterances of known durations."""

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read utterances: `feat` (B, L, F), `feat_length` (B,), `token` (B, U), `token_length` (B,).

        Frames are what the model reads: log-mel, with SpecAugment in training, or samples (F = 1), with
        masks for those of the encoder. They and tokens are padded to the shape of the micro-batch,
        (seconds,) or (seconds, tokens), or to the longest where it has none.
        """
        feats = [self._frames(split, draw) for draw in micro_batch.draws]
        tokens = [self._tokens(split, draw.index) for draw in micro_batch.draws]
        batch = self._collate(feats, tokens, shape=micro_batch.shape)
        if split == "valid" or self._fine_tuning is None:
            return batch
        masks = self._fine_tuning.masks(
            micro_batch.draws,
            samples=[len(feat) for feat in feats],
            padded=batch.tensors["feat"].shape[1],
        )
        return Batch(batch.tensors | masks)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate val_loss, and wer and cer of greedy decoding.

        Rates are total edits over total reference length. The value of an item is its edits over the
        mean reference length, so that the mean over items equals the rate. An utterance whose frames or
        loss are not finite counts as if nothing had been recognised.
        """
        assert isinstance(model, SpeechModel)
        durations_s = self._dataset("valid").durations_s()
        losses_N = np.zeros(self._num_valid)
        no_loss_N = np.zeros(self._num_valid, dtype=bool)
        texts = [""] * self._num_valid
        for rows in self._valid_rows:
            batch = self._valid_batch(rows).to(device)
            found = self.recognise(model, batch, durations_s=durations_s[rows].tolist())
            losses_N[rows] = found.losses_B.double().cpu().numpy()
            no_loss_N[rows] = found.absent_B.cpu().numpy()
            for row, tokens in zip(rows, found.tokens, strict=True):
                texts[row] = self._tokenizer.decode(tokens)
        words, characters = ErrorBreakdown("words"), ErrorBreakdown("characters")
        for utterance, text in zip(self._dataset("valid").utterances, texts, strict=False):
            words.add(utterance.text, text)
            characters.add(utterance.text, text)
        items = {"val_loss": losses_N, "wer": words.per_item(), "cer": characters.per_item()}
        # Rates have their errors already, or no reference at all.
        absent = {name: np.isnan(items[name]) for name in ("wer", "cer")} | {"val_loss": no_loss_N}
        result = evaluation_of(items, items_key=self._items_key, absent=absent)
        rates = {"wer": words.total.rate, "cer": characters.total.rate}
        return replace(result, metrics=result.metrics | rates, num_excluded=int(no_loss_N.sum()))

    def on_training_items(self, count: int) -> Evaluate:
        """Return what evaluates a sample of training utterances, without masks."""
        return self.with_training_items(count).evaluate

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """Return the groups of a pre-trained encoder and of what stands behind it; none of other models."""
        return () if self._fine_tuning is None else self._fine_tuning.groups(model)

    def borrowed(self, model: nn.Module, trained: Collection[str]) -> Mapping[str, str] | None:
        """Return which tensors a self-supervised model gives to the encoder."""
        return None if self._fine_tuning is None else self._fine_tuning.borrowed(model, trained)

    @property
    def token_tables(self) -> TokenTables:
        """Return the tables of tokens."""
        return TokenTables("vocabulary", self.tables, names=_token_names)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return `count` utterances of noise of `shape` (seconds, tokens), or of both maxima."""
        seconds, most_tokens = self._worst_shape(shape)
        generator = torch.Generator().manual_seed(0)
        frames = self._front_end.frames_in(seconds)
        noise_BLF = torch.randn(count, frames, self._front_end.num_features, generator=generator)
        feat_BLF = noise_BLF * self._normalisation.std_F + self._normalisation.mean_F
        token_BU = torch.randint(
            1, self._tokenizer.num_tokens, (count, ceil(most_tokens)), generator=generator
        )
        return self._collate(list(feat_BLF), list(token_BU), shape=())

    def _tuning(self, batch: Batch, context: StepContext) -> Tuning | None:
        """Return how a step trains an encoder of waveforms."""
        if self._fine_tuning is None:
            return None
        return self._fine_tuning.tuning(batch, context)

    def _frames(self, split: Split, draw: ItemDraw) -> Tensor:
        feat_LF = self._front_end(self._dataset(split).audio(draw.index))
        masks = self._data.time_masks or self._data.freq_masks
        if split == "valid" or not (masks and self._reads_mel):
            return feat_LF
        generator = item_generator(self._config.seed, draw.epoch, draw.index, "specaugment")
        return spec_augment(
            feat_LF, self._data, generator=generator, hidden_F=self._normalisation.mean_F
        )

    def _collate(
        self, feats: Sequence[Tensor], tokens: Sequence[Tensor], *, shape: tuple[float, ...]
    ) -> Batch:
        """Pad with zeros; an utterance that exceeds the shape by rounding is not truncated."""
        feat_BLF = pad_sequence(list(feats), batch_first=True)
        if shape:
            more = self._front_end.frames_in(shape[0]) - feat_BLF.shape[1]
            feat_BLF = nn.functional.pad(feat_BLF, (0, 0, 0, max(0, more)))
        return Batch(
            {
                "feat": feat_BLF,
                "feat_length": torch.tensor([len(feat) for feat in feats]),
                "token": self._padded_tokens(tokens, shape),
                "token_length": torch.tensor([len(some) for some in tokens]),
            }
        )

    def _valid_batch(self, rows: Sequence[int]) -> Batch:
        feats = [self._valid_frames(row) for row in rows]
        return self._collate(feats, [self._tokens("valid", row) for row in rows], shape=())

    def _valid_frames(self, row: int) -> Tensor:
        return self._kept.get(row, lambda: self._frames("valid", ItemDraw(0, row)))

    @cached_property
    def _items_key(self) -> str:
        """Sixteen hex digits that identify the validation items and their scoring."""
        how = {"case": self._data.case, "punctuation": self._data.punctuation}
        about = json.dumps([self.manifest("valid"), how, self._num_valid, self._data.rate_hz])
        return sha256(about.encode()).hexdigest()[:16]

    def new_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the training texts."""
        return build_tokenizer(self._data, self._dataset("train").texts)

    @cached_property
    def _normalisation(self) -> Normalisation:
        if not (self._data.cmvn and isinstance(self._front_end, LogMel)):
            return Normalisation.none(self._front_end.num_features)
        return measure(self._dataset("train"), self._front_end)


def _token_names(vocabulary: Tensor) -> list[str]:
    return from_bytes(bytes(vocabulary.tolist())).names
