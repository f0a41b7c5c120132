"""The codec recipe: log-mel spectrograms are coded, decoded and compared; a codebook follows, where there is one.

Sums of an update run over all elements of all spectrograms, counts of codes over all its vectors, so neither
losses nor codebooks depend on how an update is split. Letters: B batch, T samples, F mel bands, L frames,
N codes of an item, D dimensions of a code, K codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from engine.audio.log_mel import Normalisation
from engine.batching.batch import Batch, Split
from engine.batching.items import MicroBatch
from engine.checkpoints.recipe_files import RecipeState
from engine.config.codec import MelCodecLoss, code_rate_text
from engine.config.schema import RunConfig
from engine.data.speech.spoken_texts import SpokenText
from engine.evaluation.result import Clip, Evaluation
from engine.item_random import item_generator
from engine.recipes.base import (
    CurvePoints,
    Finding,
    Opening,
    Stage,
    StepContext,
    StepOutput,
    UpdateMade,
)
from engine.recipes.codec.code_counts import (
    LASTS_UPDATES,
    code_metrics,
    count,
    find_collapse,
    usage,
)
from engine.recipes.codec.codebook_updates import follow, start_codebook, statistics_of, sums_of
from engine.recipes.codec.evaluation import ItemSums
from engine.recipes.codec.mel_statistics import MelStatistics, in_whole_codes, normalisation_of
from engine.recipes.codec.transform import transform_of
from engine.recipes.judge.run_judge import RunJudge
from engine.recipes.training_items import Evaluate
from engine.recipes.waveforms.recipe import WaveformRecipe
from models.codec.codebook import Codebook
from models.codec.mel_codec import CodecOutput, MelCodec
from models.codec.settings import MelCodecConfig


def open_codec(config: RunConfig, *, opening: Opening) -> CodecRecipe:
    """Open the recipe; of other runs it may need the judge of its evaluations."""
    return CodecRecipe(config, opening)


class CodecRecipe(WaveformRecipe):
    """Trains a `models.codec.mel_codec.MelCodec`; picklable for reader processes.

    Args:
        config: of the run.
        opening: in the folder of a run, it trains: a codebook then starts at k-means centroids. May have the
            checkpoint of a judge.
    """

    def __init__(self, config: RunConfig, opening: Opening) -> None:
        super().__init__(config)
        assert isinstance(config.model, MelCodecConfig)
        assert isinstance(config.loss, MelCodecLoss)
        self._model_config, self._loss = config.model, config.loss
        self._has_codebook = config.model.quantiser == "vq"
        self._in_run = opening.folder is not None
        self._judge = RunJudge(config, opening)
        self._transform = transform_of(config.model, config.data.rate_hz)
        self._normalisation = Normalisation.none(config.model.mel_bands)

    @property
    def training_metrics(self) -> Mapping[str, str]:
        """Return the terms of the loss."""
        return {"reconstruction": ""} | ({"commitment": ""} if self._has_codebook else {})

    @property
    def update_metrics(self) -> Mapping[str, str]:
        """Return how codes are used over a whole update."""
        return {
            "codes_used": "", "codebook_perplexity": "", "largest_code": "", "code_usage": "",
        }  # fmt: skip

    @property
    def statistics(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the counts of codes, and of the sums that a codebook follows."""
        counts: dict[str, tuple[int, ...]] = {"code_count": (self._model_config.num_codes,)}
        return {**counts, **(statistics_of(self._model_config) if self._has_codebook else {})}

    @property
    def watch_updates(self) -> int:
        """Return how long a collapse has to last."""
        return LASTS_UPDATES

    def stages(self) -> Sequence[Stage]:
        """Return the measurement of the mel bands."""
        about = code_rate_text(self._model_config, self._data.rate_hz)
        return [MelStatistics(lambda: self._dataset("train"), self._transform, about=about)]

    def use(self, stage: str, result: RecipeState) -> None:
        """Take mean and deviation of the bands."""
        self._normalisation = normalisation_of(result)

    def build_model(self) -> MelCodec:
        """Return the freshly initialised network, on the CPU."""
        model = MelCodec(self._model_config)
        model.normalise_by(self._normalisation.mean_F, self._normalisation.std_F)
        return model

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read `wave` (B, T), as `engine.recipes.waveforms.batches.read_waveforms` does."""
        return self._read(split, micro_batch)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return `count` items of noise of `shape` (seconds,), or of the longest training item."""
        return self._noise(count, shape)

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the loss summed over all elements of the spectrograms, and their number."""
        assert isinstance(model, MelCodec)
        output = model(self._frames(batch.tensors["wave"]))
        error = self._error(output).sum()
        elements = torch.full_like(error, float(output.target_BFL.numel()))
        index_BN, distance_BN = output.quantised.index_N, output.quantised.distance_N
        statistics = {"code_count": count(index_BN, model.num_codes)}
        loss_sum, metrics = error, {"reconstruction": (error, elements)}
        if self._has_codebook:
            vectors = torch.full_like(error, float(index_BN.numel()))
            commitment = distance_BN.sum()
            loss_sum = error + self._loss.commitment * commitment * (elements / vectors)
            metrics["commitment"] = (commitment, vectors)
            statistics |= sums_of(
                output.vectors_BND, index_BN, distance_N=distance_BN, codes=model.num_codes
            )
        return StepOutput(loss_sum, elements, metrics=metrics, statistics=statistics)

    def measure(self, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return how codes were used in an update."""
        count_K = statistics["code_count"]
        return code_metrics(count_K) | {"code_usage": usage(count_K)}

    def watch(self, points: CurvePoints) -> Sequence[Finding]:
        """Return whether the codebook has collapsed."""
        return find_collapse(points, quantiser=self._model_config.quantiser)

    def start_state(self, model: nn.Module, device: torch.device) -> None:
        """Start the codebook at the centroids of encoder outputs, unless the weights bring one."""
        assert isinstance(model, MelCodec)
        codebook = model.quantiser
        if isinstance(codebook, Codebook) and self._model_config.kmeans_start and self._in_run:
            vectors = self._start_vectors(model, device)
            start_codebook(codebook, vectors, seed=self._config.seed)

    def state_dict(self) -> RecipeState:
        """Return nothing: the codebook is among the weights of the model."""
        return RecipeState()

    def load_state_dict(self, state: RecipeState) -> None:
        """Take nothing."""

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        """Move the codebook towards the vectors of the update."""
        assert isinstance(model, MelCodec)
        if isinstance(model.quantiser, Codebook):
            follow(model.quantiser, made, config=self._model_config, seed=self._config.seed)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate the losses, the distance of spectrograms, and the use of codes over all items."""
        assert isinstance(model, MelCodec)
        weight = self._loss.commitment if self._has_codebook else None
        sums = ItemSums(self._num_valid, commitment=weight)
        for micro_batch in self._valid_batches:
            mel_BFL = self._frames(self.fetch("valid", micro_batch).to(device).tensors["wave"])
            output = model(mel_BFL)
            index_BN = output.quantised.index_N
            decoded_BFL = model.to_mel(output.estimate_BFL)
            ones_B = torch.ones(len(mel_BFL), device=device)
            of_items = {
                "error": self._error(output).sum(dim=(1, 2)),
                "distance_nats": (decoded_BFL - mel_BFL).abs().sum(dim=(1, 2))
                / self._transform.power,
                "elements": ones_B * mel_BFL[0].numel(),
                "commitment": output.quantised.distance_N.sum(dim=1),
                "codes": ones_B * index_BN.shape[1],
            }
            items = [draw.index for draw in micro_batch.draws]
            sums.add(items, of_items, count_K=count(index_BN, model.num_codes))
        clips = tuple(self._clips(model, device))
        return self._judge.added(
            sums.evaluation(self._items_key, clips=clips),
            lambda item: self._round_trip(model, item, device=device),
            could_say=lambda item: self._round_trip(None, item, device=device),
            device=device,
        )

    def on_training_items(self, count: int) -> Evaluate:
        """Return what evaluates a sample of training items, without a judge."""
        return self.with_training_items(count, _judge=RunJudge(self._config, Opening())).evaluate

    def _clips(self, model: MelCodec, device: torch.device) -> Iterator[Clip]:
        """Yield the first items: the recording, what Griffin-Lim makes of its frames, and of their codes."""
        dataset = self._dataset("valid")
        for index in range(min(self._config.validation.clips, self._num_valid)):
            wave_T = torch.from_numpy(dataset.audio(index)).to(device)
            mel_BFL = self._frames(wave_T[None])
            signals = {
                "input": wave_T[None],
                "target": self._transform.waveform(mel_BFL),
                "estimate": self._transform.waveform(model.decode(model.encode(mel_BFL))),
            }
            audio = {kind: wave_CT.float().cpu().numpy() for kind, wave_CT in signals.items()}
            yield Clip(index, self._data.rate_hz, signals=audio)

    def _round_trip(
        self, model: MelCodec | None, item: SpokenText, *, device: torch.device
    ) -> np.ndarray:
        """Return what Griffin-Lim makes of the codes of a recording, or of its frames where there is no model."""
        wave_T = self._judge.audio(item)
        # Not every recording of a manifest has to be an item: some may be too short for a code.
        if self._transform.frames_of(len(wave_T)) < self._model_config.frames_per_code:
            return np.zeros(0, np.float32)
        mel_BFL = self._frames(torch.from_numpy(wave_T).to(device)[None])
        if model is not None:
            mel_BFL = model.decode(model.encode(mel_BFL))
        samples_T: np.ndarray = self._transform.waveform(mel_BFL)[0].cpu().numpy()
        return samples_T

    @torch.no_grad()
    def _frames(self, wave_BT: Tensor) -> Tensor:
        """Return log-mel frames (B, F, L) in whole codes."""
        return in_whole_codes(self._transform.log_mel(wave_BT), self._model_config.frames_per_code)

    def _error(self, output: CodecOutput) -> Tensor:
        """Return (B, F, L) the distance of each element, float32."""
        difference_BFL = output.estimate_BFL - output.target_BFL
        return difference_BFL.abs() if self._loss.distance == "l1" else difference_BFL.square()

    @torch.no_grad()
    def _start_vectors(self, model: MelCodec, device: torch.device) -> Iterator[Tensor]:
        """Yield encoder outputs (N, D) of training items in an order drawn by the seed."""
        dataset = self._dataset("train")
        order = item_generator(self._config.seed, 0, 0, "codebook-start").permutation(len(dataset))
        for index in order.tolist():
            wave_T = torch.from_numpy(dataset.audio(index)).to(device)
            yield model.vectors(self._frames(wave_T[None]))[0]

    @cached_property
    def _items_key(self) -> str:
        """Sixteen hex digits that identify the validation items and their spectrograms."""
        about = json.dumps([self.manifest("valid"), self._num_valid, repr(self._transform)])
        return sha256(about.encode()).hexdigest()[:16]
