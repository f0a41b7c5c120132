"""Separation: a mixture in, one or several signals out, evaluated by SI-SDR.

Bandwidth extension, denoising and stem separation differ only in their datasets. Letters: B batch,
S sources, C channels, T samples.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch, Split
from engine.batching.items import MicroBatch
from engine.config.losses import SpectralLoss
from engine.config.schema import RunConfig
from engine.data.separation.dataset import (
    AudioItem,
    Dataset,
    WholeItem,
    collate,
    fetch,
    fetch_padded,
)
from engine.data.separation.kept_items import KeptItems
from engine.data.separation.remix import mix_stems
from engine.data.separation.stems import StemsDataset, fetch_unmixed
from engine.evaluation.result import Clip, Evaluation
from engine.metrics.signal import si_sdr
from engine.recipes.base import Opening, StepContext, StepOutput, TakesEstimates, TakesItem
from engine.recipes.datasets import Datasets
from engine.recipes.separation.file_scores import BlockLoss, FileScores
from engine.recipes.separation.item_scores import ItemScores
from engine.recipes.separation.losses import Loss, build_loss
from engine.recipes.separation.overlap import Chunking, overlap_add
from engine.recipes.separation.permutations import best_order, in_order, permutation_invariant
from engine.recipes.training_items import Evaluate, judging, without_extras
from engine.recipes.validation_items import num_validated
from models.registry import build_model

# The chunks of a whole file overlap by a quarter of their length.
_OVERLAPPED = 4

# Data settings that don't affect the validation items; manifests identify the folders.
_NO_MATTER_OF_VALIDATION = (
    "train", "valid", "noise", "noise_valid", "segment_s", "short_files", "cache",
    "remix", "gain_db", "flip_polarity", "swap_channels", "speed_percent", "mix_on",
)  # fmt: skip


def open_separation(config: RunConfig, *, opening: Opening) -> SeparationRecipe:
    """Open the recipe; it needs no other run."""
    return SeparationRecipe(config)


class SeparationRecipe:
    """Trains any model of `models` on any dataset of `engine.data`; picklable for reader processes."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._dataset: Datasets[Dataset] = Datasets(config)
        self._weights: dict[tuple[int, torch.device], Tensor] = {}
        self._mixes_on_device = config.audio_data.mixes_on_device(
            gpu=config.precision.device != "cpu" and torch.cuda.is_available()
        )

    def __getstate__(self) -> dict[str, object]:
        """Return the state for a reader process: the config and the datasets opened so far."""
        return {
            "_config": self._config,
            "_dataset": self._dataset,
            "_weights": {},
            "_mixes_on_device": self._mixes_on_device,
        }

    @property
    def loss_unit(self) -> str:
        """Return the unit of the loss."""
        return self._config.loss.unit

    def build_model(self) -> nn.Module:
        """Return the network of the config, freshly initialised, on the CPU."""
        config = self._config
        return build_model(
            config.model, channels=config.audio_data.channels, sources=config.num_sources
        )

    def sizes(self, split: Split) -> np.ndarray:
        """Return (N, 1): the duration of each item in seconds; validation applies max_items."""
        durations = self._dataset(split).durations_s().reshape(-1, 1)
        return durations[: self._num_valid] if split == "valid" else durations

    def manifest(self, split: Split) -> str:
        """Return the hash over the names, lengths and rates of the files."""
        return self._dataset(split).manifest

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read and collate items: `mix` (B, C, T) and `target` (B, S, C, T), or the input of `mixed`."""
        dataset = self._dataset(split)
        if split == "train" and self._mixes_on_device and isinstance(dataset, StemsDataset):
            return fetch_unmixed(dataset, micro_batch)
        if split == "train" and self._config.audio_data.short_files == "whole":
            return fetch_padded(dataset, micro_batch, rate_hz=self._config.data.rate_hz)
        return fetch(dataset, micro_batch)

    def mixed(self, batch: Batch) -> Batch:
        """Mix the stems of a batch on its device; return a batch that has its mixture unchanged."""
        tensors = batch.tensors
        if "mix" in tensors:
            return batch
        mix_BCT, target_BSCT = mix_stems(
            tensors["stems"],
            tensors["gain"],
            swap_BS=tensors["swap"],
            num_targets=self._config.num_sources,
        )
        return Batch({"mix": mix_BCT, "target": target_BSCT})

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the sum of the loss over the items, and their number."""
        batch = self.mixed(batch)
        mix_BCT, target_BSCT = batch.tensors["mix"], batch.tensors["target"]
        est_BSCT = model(mix_BCT)
        if "length" in batch.tensors:
            loss_B = self._loss_of_each(est_BSCT, target_BSCT, length_B=batch.tensors["length"])
        else:
            loss_B = self._loss(est_BSCT, target_BSCT)
        return StepOutput(loss_B.sum(), self._weight(len(mix_BCT), mix_BCT.device))

    def _loss_of_each(self, est_BSCT: Tensor, target_BSCT: Tensor, *, length_B: Tensor) -> Tensor:
        """Return (B,) losses over the samples of each item, without the padding after them."""
        losses = [
            self._loss(
                est_BSCT[item : item + 1, ..., :frames], target_BSCT[item : item + 1, ..., :frames]
            )
            for item, frames in enumerate(length_B.tolist())
        ]
        return torch.cat(losses)

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate excerpts: val_loss, spectral, si_sdr, si_sdri, input_si_sdr, sdr, lsd (`ItemScores`)."""
        scores = ItemScores()
        clips: list[Clip] = []
        for items in self._batches():
            batch = collate(items).to(device)
            mix_BCT, ref_BSCT = batch.tensors["mix"], batch.tensors["target"]
            est_BSCT = self._ordered(model(mix_BCT), ref_BSCT)
            losses = {"val_loss": self._loss(est_BSCT, ref_BSCT)}
            losses["spectral"] = (
                losses["val_loss"]
                if self._judges_by_spectra
                else self._spectral_loss(est_BSCT, ref_BSCT)
            )
            scores.add(losses, est_BSCT, ref_BSCT, mix_BCT)
            for item, est_SCT in zip(items, est_BSCT, strict=True):
                if len(clips) < self._config.validation.clips:
                    clips.append(self._clip(len(clips), item, est_SCT=est_SCT))
        return replace(scores.evaluation(self._items_key), clips=tuple(clips))

    def on_training_items(self, count: int) -> Evaluate:
        """Return what evaluates the middles of training files, spread evenly over them, with training noise."""
        data = self._config.audio_data.validated_on_training()
        config = without_extras(self._config, max_items=count)
        config = config.model_copy(update={"data": data})
        return judging(self, _config=config, _dataset=Datasets(config)).evaluate

    def evaluate_whole(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate whole files by the same metrics; only one chunk of a file is in memory."""
        return self.evaluate_and_keep(model, device)

    def evaluate_and_keep(
        self, model: nn.Module, device: torch.device, *, taker: TakesEstimates | None = None
    ) -> Evaluation:
        """Evaluate whole files, and give their estimates to `taker`."""
        scores = ItemScores()
        for index in range(self._num_valid):
            item = self._dataset("valid").whole(index)
            shape = (self._config.num_sources, self._config.audio_data.channels, item.frames)
            into = taker.open(index, shape) if taker is not None else None
            file_scores = self._judged(model, item, device=device, into=into)
            losses = file_scores.losses()
            scores.note(
                {**losses, "spectral": losses.get("spectral", losses["val_loss"])},
                file_scores.levels(),
                bad_B=file_scores.bad(),
            )
        return scores.evaluation(self._items_key)

    def _judged(
        self, model: nn.Module, item: WholeItem, *, device: torch.device, into: TakesItem | None
    ) -> FileScores:
        """Process a file in chunks as `sepdash separate` does, one chunk on the device at a time."""
        data = self._config.audio_data
        length = max(64, round(self._config.validation.segment_s * data.rate_hz))
        chunking = Chunking(length, length // _OVERLAPPED)
        total = self._config.loss.adds_sources
        losses = {"val_loss": BlockLoss(build_loss(self._config.loss), total, own_order=True)}
        if not self._judges_by_spectra:
            losses["spectral"] = BlockLoss(build_loss(SpectralLoss()))
        scores = FileScores(losses, interchangeable=data.interchangeable)
        waiting: deque[AudioItem] = deque()

        def estimates() -> Iterator[np.ndarray]:
            for start, end in chunking.spans(item.frames):
                part = item.read(start, end - start)
                waiting.append(part)
                mix_BCT = torch.from_numpy(part.mix_CT).unsqueeze(0).to(device)
                yield model(mix_BCT).float()[0].cpu().numpy()

        # Each block starts with a chunk and ends at the start of the next.
        for block_SCT in overlap_add(
            estimates(), chunking.overlap, interchangeable=data.interchangeable
        ):
            part, frames = waiting.popleft(), block_SCT.shape[-1]
            signals = (block_SCT, part.target_SCT[..., :frames], part.mix_CT[..., :frames])
            scores.add(*(torch.from_numpy(x).to(device) for x in signals))
            if into is not None:
                into.add(block_SCT, signals[1])
        if into is not None:
            into.close(scores.order())
        return scores

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return `count` items of noise, `shape` (seconds,) long or as long as a training segment."""
        data = self._config.audio_data
        frames = round(shape[0] * data.rate_hz) if shape else data.segment_samples
        size = (data.channels, frames)
        generator = torch.Generator().manual_seed(0)
        mix_BCT = torch.randn(count, *size, generator=generator) * 0.1
        target_BSCT = torch.randn(count, self._config.num_sources, *size, generator=generator) * 0.1
        return Batch({"mix": mix_BCT, "target": target_BSCT})

    def _clip(self, index: int, item: AudioItem, *, est_SCT: Tensor) -> Clip:
        data = self._config.audio_data
        names = data.source_names
        ends = [f".{name}" for name in names] if len(names) > 1 else [""]
        estimates_SCT = est_SCT.float().cpu().numpy()
        signals = {"input": item.mix_CT}
        signals |= {f"target{end}": item.target_SCT[i] for i, end in enumerate(ends)}
        signals |= {f"estimate{end}": estimates_SCT[i] for i, end in enumerate(ends)}
        return Clip(index, data.rate_hz, signals=signals)

    @cached_property
    def _loss(self) -> Loss:
        loss = build_loss(self._config.loss)
        if not self._config.audio_data.interchangeable:
            return loss
        return permutation_invariant(loss, total=self._config.loss.adds_sources)

    @cached_property
    def _spectral_loss(self) -> Loss:
        """The spectral loss as a metric, independent of the training loss."""
        return build_loss(SpectralLoss())

    @property
    def _judges_by_spectra(self) -> bool:
        """Whether the loss equals that metric; interchangeable sources may be ordered differently by SI-SDR."""
        return self._config.loss == SpectralLoss() and not self._config.audio_data.interchangeable

    def _ordered(self, est_BSCT: Tensor, ref_BSCT: Tensor) -> Tensor:
        """Order interchangeable estimates like the references, by the best SI-SDR."""
        if not self._config.audio_data.interchangeable:
            return est_BSCT
        score_BSS = si_sdr(est_BSCT.unsqueeze(2), ref_BSCT.unsqueeze(1), joint_channels=True)
        return in_order(est_BSCT, best_order(score_BSS))

    @cached_property
    def _items_key(self) -> str:
        """Sixteen hex digits that identify the validation items: files, excerpts, and how they mix.

        Equal keys also mean equal whole files, evaluated in equal chunks.
        """
        config = self._config
        how = config.data.model_dump(mode="json", exclude=set(_NO_MATTER_OF_VALIDATION))
        where = (config.validation.segment_s, self._num_valid)
        about = json.dumps([self.manifest("valid"), how, where], sort_keys=True)
        return sha256(about.encode()).hexdigest()[:16]

    @cached_property
    def _valid_items(self) -> KeptItems:
        return KeptItems(self._dataset("valid"))

    @property
    def _num_valid(self) -> int:
        return num_validated(self._config, len(self._dataset("valid")))

    def _weight(self, count: int, device: torch.device) -> Tensor:
        key = (count, device)
        if key not in self._weights:
            self._weights[key] = torch.full((), float(count), device=device)
        return self._weights[key]

    def _batches(self) -> Iterator[list[AudioItem]]:
        """Yield batches of items in order; only neighbours of equal length share a batch (no padding)."""
        group = list[AudioItem]()
        most = self._config.validation.batch_items
        for index in range(self._num_valid):
            item = self._valid_items[index]
            full = len(group) == most
            if group and (full or item.mix_CT.shape != group[0].mix_CT.shape):
                yield group
                group = []
            group.append(item)
        if group:
            yield group
