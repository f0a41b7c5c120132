"""The voice recipe: the next token of a text, then the next code of its speech, in the voice of reference clips.

Sums of an update run over the real places of all texts, and of all codes; each is divided by its own number of
places, so that the loss does not depend on padding or on how an update is split. Letters: B batch, N items, R
clips, F mel bands, L frames of a clip, U tokens, C codes of an item.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from math import ceil

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.checkpoints.recipe_files import RecipeState
from engine.config.schema import RunConfig
from engine.config.voice import VoiceData, VoiceLoss
from engine.evaluation.result import Clip, Evaluation
from engine.recipes.base import Opening, Stage, StepContext, StepOutput
from engine.recipes.codec.item_codes import CodesStage, ItemCodes
from engine.recipes.judge.run_judge import RunJudge
from engine.recipes.training_items import Evaluate
from engine.recipes.utterances.recipe import UtteranceRecipe
from engine.recipes.voice.evaluation import ItemSums
from engine.recipes.voice.place_sums import MEL, TEXT, count_places, place_sums
from engine.recipes.voice.references import References
from engine.recipes.voice.speaker_similarity import SpokenSimilarity
from engine.recipes.voice.speaking import build_network, limits_of
from engine.recipes.voice.vocabulary import (
    VocabularyStage,
    tables,
    tokenizer_in,
    vocabulary_for,
)
from engine.recipes.voice.voices_stage import (
    ItemLengths,
    Voices,
    VoicesStage,
    code_entropy,
    histogram_loss,
)
from engine.recipes.weights import TokenTables
from engine.text.tokens import Tokenizer
from models.voice.generation import Sampling, Spoken, generate
from models.voice.network import VoiceModel
from models.voice.settings import VoiceConfig


def open_voice(config: RunConfig, *, opening: Opening) -> VoiceRecipe:
    """Open the recipe; it needs the run of a codec, and may need a judge."""
    return VoiceRecipe(config, opening)


class VoiceRecipe(UtteranceRecipe):
    """Trains a `models.voice.network.VoiceModel`; picklable for reader processes.

    Args:
        config: the run.
        opening: its folder, and the checkpoints of the codec and of a judge.
    """

    item_labels = ("_codes",)

    def __init__(self, config: RunConfig, opening: Opening) -> None:
        super().__init__(config)
        assert isinstance(config.data, VoiceData)
        assert isinstance(config.model, VoiceConfig)
        assert isinstance(config.loss, VoiceLoss)
        self._data, self._model_config, self._loss = config.data, config.model, config.loss
        self._codes = ItemCodes(config, opening, items=self._dataset)
        self._judge = RunJudge(config, opening)
        self._similarity = SpokenSimilarity(self._dataset, config.data.rate_hz)
        self._base = opening.needs.get("init_from")
        self._count_K: Tensor | None = None
        self._voices: Voices | None = None

    @property
    def training_metrics(self) -> Mapping[str, str]:
        """Return the terms of the loss, the accuracies, and what guessing codes by frequency costs."""
        return {
            "mel_loss": "nats", "text_loss": "nats", "mel_accuracy": "", "text_accuracy": "",
            "code_entropy": "nats",
        }  # fmt: skip

    @property
    def ahead_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the numbers of places of text and of codes, by which the terms are divided."""
        return {"places": (2,)}

    def look(self, model: nn.Module, batch: Batch, *, context: StepContext) -> dict[str, Tensor]:
        """Count the places of a micro-batch; the network is not run."""
        return {"places": count_places(batch).sum(dim=0)}

    def stages(self) -> Sequence[Stage]:
        """Return the stages: the codec, the vocabulary, pace and voices, the codes of all items.

        Codes come last: they may take hours, and by then no item has been refused that the model lacks places for.
        """
        codec, codes = self._codes.stages()
        voices = VoicesStage(
            self._model_config, lengths=self._lengths, references=lambda: self._references
        )
        return [codec, VocabularyStage(self.new_tokenizer), voices, codes]

    def use(self, stage: str, result: RecipeState) -> None:
        """Take the result of a stage."""
        self._codes.use(stage, result)
        if stage == CodesStage.name:
            self._count_K = result.tensors["count"]
        elif stage == VocabularyStage.name:
            self._tokenizer = tokenizer_in(result)
        elif stage == VoicesStage.name:
            self._voices = Voices.of_result(result)

    def build_model(self) -> VoiceModel:
        """Return the freshly initialised network, with its vocabulary and the codec's mean spectrum."""
        model = build_network(
            self._model_config, facts=self._codes.facts, tokenizer=self._tokenizer
        )
        network = self._codes.codec.network
        model.normalise_by(network.mean_F.cpu(), network.std_F.cpu())
        return model

    @property
    def token_tables(self) -> TokenTables:
        """Return the tensors that have a row for each token of text."""
        return tables()

    def manifest(self, split: Split) -> str:
        """Return the hash over the utterances and their speakers."""
        speakers = [item.speaker for item in self._dataset(split).utterances]
        about = [super().manifest(split), speakers]
        return sha256(json.dumps(about).encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read items: `text` (B, U), `text_length` (B,), `code` (B, C), `code_length` (B,), `reference` (B, R, F, L).

        Texts and codes are padded to the shape of the micro-batch, (seconds,) or (seconds, tokens), or to
        the longest where it has none. Reference clips depend on seed, epoch and item.
        """
        draws = micro_batch.draws
        texts = [self._tokens(split, draw.index) for draw in draws]
        codes = [torch.from_numpy(self._codes.codes(split, draw.index)) for draw in draws]
        clips = [self._references.mel(split, draw) for draw in draws]
        return self._collate(texts, codes, clips=clips, shape=micro_batch.shape)

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the loss of the micro-batch as its part of that of the update, and its places of codes."""
        assert isinstance(model, VoiceModel)
        text, mel = place_sums(model, batch)
        count_2 = count_places(batch).sum(dim=0)
        total_2 = context.ahead.get("places", count_2)
        texts, mels = count_2[TEXT], count_2[MEL]
        loss = self._loss
        # Divided by all places of codes at the end, each term is a mean over its own places.
        loss_sum = (
            loss.mel_loss_weight * mel.loss.sum()
            + loss.text_loss_weight * text.loss.sum() * (total_2[MEL] / total_2[TEXT])
        )
        known = float(self._count_K is not None)
        return StepOutput(
            loss_sum,
            mels,
            metrics={
                "mel_loss": (mel.loss.sum(), mels),
                "text_loss": (text.loss.sum(), texts),
                "mel_accuracy": (mel.correct.sum(), mels),
                "text_accuracy": (text.correct.sum(), texts),
                "code_entropy": (
                    self._entropy * torch.ones_like(mels),
                    known * torch.ones_like(mels),
                ),
            },
        )

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate the losses and accuracies by teacher forcing, and speak the first texts freely."""
        assert isinstance(model, VoiceModel)
        assert self._count_K is not None
        sums = ItemSums(self._num_valid, self._loss)
        cost_K = histogram_loss(self._count_K, len(self._dataset("train")))
        for rows in self._valid_rows:
            batch = self._valid_batch(rows)
            text, mel = place_sums(model, batch.to(device), with_top5=True)
            sums.add(rows, text=text, mel=mel, places_B2=count_places(batch))
            codes = [self._codes.codes("valid", row) for row in rows]
            sums.add_histogram(rows, [cost_K[code_C].sum() + cost_K[-1] for code_C in codes])
        spoken = self._spoken(model, device)
        for item, one in spoken.items():
            if item < self._num_valid:
                sums.add_spoken(item, one, codes=len(self._codes.codes("valid", item)))
        codec = self._codes.codec.to(device)
        clips = tuple(self._clips(spoken))
        evaluation = self._judge.added(
            sums.evaluation(self._items_key, clips=clips),
            lambda item: self._audio(spoken[self._judged_rows[item.place]].codes_N),
            could_say=lambda item: self._round_trip(self._judged_rows[item.place]),
            device=device,
        )
        evaluation = self._similarity.added(
            evaluation,
            sorted(spoken),
            says=lambda row: self._audio(spoken[row].codes_N),
            could_say=self._round_trip,
            device=device,
        )
        codec.to(torch.device("cpu"))
        return evaluation

    def on_training_items(self, count: int) -> Evaluate:
        """Return what evaluates a sample of training utterances by teacher forcing, and speaks nothing."""
        cached = ("_items_key", "_references", "_judged_rows")
        nobody = RunJudge(self._config, Opening())
        return self.with_training_items(count, forgets=cached, _judge=nobody).evaluate

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return `count` items of any codes and tokens of `shape` (seconds, tokens), or of both maxima."""
        seconds, most_tokens = self._worst_shape(shape)
        facts, generator = self._codes.facts, torch.Generator().manual_seed(0)
        codes = facts.codes_of(round(seconds * facts.rate_hz))
        text_BU = torch.randint(
            1, self._tokenizer.num_tokens, (count, ceil(most_tokens)), generator=generator
        )
        code_BC = torch.randint(facts.num_codes, (count, codes), generator=generator)
        bands, frames = facts.transform.num_mels, self._references.num_frames
        clips = torch.randn(count, self._data.references, bands, frames, generator=generator)
        return self._collate(list(text_BU), list(code_BC), clips=list(clips), shape=())

    def _collate(
        self,
        texts: Sequence[Tensor],
        codes: Sequence[Tensor],
        *,
        clips: Sequence[Tensor],
        shape: tuple[float, ...],
    ) -> Batch:
        """Pad with zeros; an item that exceeds the shape by rounding is not truncated."""
        code_BC = pad_sequence(list(codes), batch_first=True)
        if shape:
            facts = self._codes.facts
            more = facts.codes_of(ceil(shape[0] * facts.rate_hz)) - code_BC.shape[1]
            code_BC = nn.functional.pad(code_BC, (0, max(0, more)))
        return Batch(
            {
                "text": self._padded_tokens(texts, shape),
                "text_length": torch.tensor([len(text) for text in texts]),
                "code": code_BC,
                "code_length": torch.tensor([len(code) for code in codes]),
                "reference": torch.stack(list(clips)),
            }
        )

    def _spoken(self, model: VoiceModel, device: torch.device) -> dict[int, Spoken]:
        """Speak the first validation texts, and those that a judge hears, the same way at each evaluation."""
        assert self._voices is not None
        first = range(min(self._config.validation.spoken, self._num_valid))
        rows = sorted({*first, *self._judged_rows.values()})
        spoken: dict[int, Spoken] = {}
        size = self._config.validation.batch_items
        for some in (rows[start : start + size] for start in range(0, len(rows), size)):
            texts = [self._tokens("valid", row).tolist() for row in some]
            clips = [self._valid_clips(row) for row in some]
            vectors_BCD = model.reference_vectors(torch.stack(clips).to(device))
            limits = limits_of(
                texts, voices=self._voices, facts=self._codes.facts, room=model.max_codes - 2
            )
            found = generate(
                model,
                texts,
                vectors_BCD=vectors_BCD,
                seeds=some,
                limits=limits,
                sampling=Sampling(),
            )
            spoken.update(zip(some, found, strict=True))
        return spoken

    def _clips(self, spoken: Mapping[int, Spoken]) -> Iterator[Clip]:
        """Yield the first items: the recording, what the codec makes of its codes, and what was spoken."""
        items, validation = self._dataset("valid"), self._config.validation
        for item in range(min(validation.clips, validation.spoken, self._num_valid)):
            signals = {
                "input": items.audio(item),
                "target": self._round_trip(item),
                "estimate": self._audio(spoken[item].codes_N),
            }
            audio = {kind: wave_T[None] for kind, wave_T in signals.items()}
            said = items.utterances[item]
            texts = {"input": said.written or said.text}
            yield Clip(item, self._data.rate_hz, signals=audio, texts=texts)

    def _round_trip(self, row: int) -> np.ndarray:
        """Return what the codec makes of the codes of a validation item, float32 (T,)."""
        return self._audio(torch.from_numpy(self._codes.codes("valid", row)))

    def _audio(self, codes_C: Tensor) -> np.ndarray:
        codec = self._codes.codec
        wave_1T = codec.audio(codes_C[None].to(codec.network.mean_F.device))
        samples_T: np.ndarray = wave_1T[0].cpu().numpy()
        return samples_T

    @cached_property
    def _judged_rows(self) -> dict[str, int]:
        """The validation item of each recording that a judge hears, by its row in the manifest; none without a judge."""
        if not self._judge.is_there:
            return {}
        utterances = self._dataset("valid").utterances
        rows = {(item.path, item.start_s): row for row, item in enumerate(utterances)}
        # Names need not be unique: clips of one length in folders of several speakers who say the same.
        return {one.place: rows[one.info.path, one.start_s] for one in self._judge.sample}

    def _valid_batch(self, rows: Sequence[int]) -> Batch:
        texts = [self._tokens("valid", row) for row in rows]
        codes = [torch.from_numpy(self._codes.codes("valid", row)) for row in rows]
        return self._collate(texts, codes, clips=[self._valid_clips(row) for row in rows], shape=())

    def _valid_clips(self, row: int) -> Tensor:
        """Return the reference clips of a validation item, (R, F, L)."""
        return self._kept.get(row, lambda: self._references.mel("valid", ItemDraw(0, row)))

    def _lengths(self, split: Split) -> ItemLengths:
        tokens = [self._num_tokens(split, k) for k in range(len(self._dataset(split)))]
        return ItemLengths(
            split, np.array(tokens), self._codes.num_codes(split), 1 / self._codes.facts.codes_per_s
        )

    @cached_property
    def _items_key(self) -> str:
        """Sixteen hex digits that identify the validation items, their codes and their clips."""
        about = [
            self.manifest("valid"), self._num_valid, self._codes.facts.hash, self._data.references,
            self._data.reference_s, self._config.validation.spoken,
        ]  # fmt: skip
        return sha256(json.dumps(about).encode()).hexdigest()[:16]

    @cached_property
    def _entropy(self) -> float:
        if self._count_K is None:
            return 0.0
        return code_entropy(self._count_K, len(self._dataset("train")))

    @cached_property
    def _references(self) -> References:
        return References(
            self._data, self._dataset, transform=self._codes.facts.transform,
            seed=self._config.seed,
        )  # fmt: skip

    def new_tokenizer(self) -> Tokenizer:
        """Return the tokenizer of the training texts, which goes on from that of the base."""
        return vocabulary_for(self._data, lambda: self._dataset("train").texts, base=self._base)
