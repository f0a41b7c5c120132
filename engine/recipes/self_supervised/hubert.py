"""HuBERT (Hsu et al., 2021): the clusters of masked frames are predicted from the frames around them.

Letters: B batch, T samples, L frames, N = B L, K clusters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from math import log
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.checkpoints.recipe_files import RecipeState
from engine.clustering.report import ClusterReport
from engine.config.hubert import HubertLoss
from engine.config.schema import RunConfig
from engine.data.unlabelled.dataset import UnlabelledDataset
from engine.evaluation.result import Evaluation
from engine.item_random import draws_seed, item_generator
from engine.recipes.base import Opening, Stage, StepContext, StepOutput
from engine.recipes.datasets import Datasets
from engine.recipes.self_supervised.hubert_evaluation import ItemSums
from engine.recipes.self_supervised.layer_drop import kept_layers
from engine.recipes.self_supervised.masked_prediction import (
    ALL,
    MASKED,
    NO_FRAME,
    UNMASKED,
    Divisors,
    FrameSums,
    count_frames,
    count_labels,
    frame_sums,
    num_penalised,
    total_weight,
)
from engine.recipes.self_supervised.recipe import PretrainingRecipe
from engine.recipes.self_supervised.span_masks import mean_run, span_masks
from engine.recipes.self_supervised.targets import Targets
from models.self_supervised.hubert import PredictsClusters, build_hubert
from models.self_supervised.settings import EncoderSettings, HubertHead


def open_hubert(config: RunConfig, *, opening: Opening) -> HubertRecipe:
    """Open the recipe; it may need the run whose features are clustered."""
    datasets = Datasets[UnlabelledDataset](config)
    return HubertRecipe(config, datasets=datasets, targets=Targets(config, opening, items=datasets))


class FrameLabels(Protocol):
    """What the recipe asks of its targets: `engine.recipes.self_supervised.targets.Targets`."""

    @property
    def identity(self) -> str:
        """Return what labels are equal by; there after the stages."""

    def stages(self) -> Sequence[Stage]:
        """Return the stages that make the labels."""

    def use(self, stage: str, result: RecipeState) -> None:
        """Take the result of a stage."""

    def labels(self, split: Split, index: int, *, first_frame: int, frames: int) -> np.ndarray:
        """Return the labels of some frames of an item, (L,) int64."""


class HubertRecipe(PretrainingRecipe):
    """Trains `models.self_supervised.hubert` on clusters.

    Args:
        config: the run.
        datasets: its items.
        targets: the labels of their frames.
    """

    item_labels = ("_targets",)

    def __init__(
        self, config: RunConfig, *, datasets: Datasets[UnlabelledDataset], targets: FrameLabels
    ) -> None:
        super().__init__(config, datasets)
        assert isinstance(config.model, HubertHead)
        assert isinstance(config.model, EncoderSettings)
        assert isinstance(config.loss, HubertLoss)
        self._loss, self._targets = config.loss, targets
        self._head, self._encoder = config.model, config.model
        self._report: ClusterReport | None = None

    @property
    def training_metrics(self) -> Mapping[str, str]:
        """Return the terms of the loss, the accuracies, and how much is masked."""
        return {
            "masked_loss": "nats", "unmasked_loss": "nats", "penalty": "", "masked_accuracy": "",
            "unmasked_accuracy": "", "masked_share": "", "mask_run": "frames", "label_entropy": "nats",
            "clusters_used": "",
        }  # fmt: skip

    @property
    def ahead_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the counts of masked, other and all frames, by which terms are divided."""
        return {"frames": (3,)}

    def look(
        self, model: torch.nn.Module, batch: Batch, *, context: StepContext
    ) -> dict[str, Tensor]:
        """Count the frames of a micro-batch; the network is not run."""
        return {"frames": _counts(batch).sum(dim=0)}

    def stages(self) -> Sequence[Stage]:
        """Return the stages that make the targets."""
        return self._targets.stages()

    def use(self, stage: str, result: RecipeState) -> None:
        """Take the result of a stage of the targets; the last one counts the labels of all items."""
        self._targets.use(stage, result)
        if "report" in result.values:
            self._report = ClusterReport(**result.values["report"])

    def build_model(self) -> PredictsClusters:
        """Return the freshly initialised network."""
        return build_hubert(self._head, clusters=self._loss.clusters)

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read `wave` (B, T), `label` (B, L) int64 and `mask` (B, L) bool; `length` (B,) where padded.

        Labels are those of the crop, `NO_FRAME` after the last frame of an item. Masks depend on seed,
        epoch, item and number of frames; those of validation are the same in every run.
        """
        batch = self._read(split, micro_batch)
        frames = [self._encoder.frames_of(n) for n in batch.tensors["length"].tolist()]
        firsts = batch.tensors["first_frame"].tolist()
        labels = [
            self._targets.labels(split, draw.index, first_frame=first, frames=count)
            for draw, first, count in zip(micro_batch.draws, firsts, frames, strict=True)
        ]
        return self._with_targets(
            batch, labels, masks=self._masks(split, micro_batch.draws, frames=frames)
        )

    def step(self, model: torch.nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the loss of the micro-batch as its part of that of the update, and its weight."""
        assert isinstance(model, PredictsClusters)
        loss = self._loss
        keep = kept_layers(self._config.seed, context.update, model=self._encoder)
        sums = self._sums(model, batch, keep_layers=keep)
        counts_B3 = _counts(batch)
        counts_3 = counts_B3.sum(dim=0)
        divisors = Divisors.of(context.ahead.get("frames", counts_3), loss)
        masked, unmasked, every = counts_3[MASKED], counts_3[UNMASKED], counts_3[ALL]
        return StepOutput(
            divisors.loss_sum(sums).sum(),
            total_weight(counts_3, loss),
            metrics={
                "masked_loss": (sums.masked_loss.sum(), masked),
                "unmasked_loss": (sums.unmasked_loss.sum(), unmasked),
                "penalty": (loss.penalty * sums.energy.sum(), num_penalised(counts_3, loss)),
                "masked_accuracy": (sums.masked_correct.sum(), masked),
                "unmasked_accuracy": (sums.unmasked_correct.sum(), unmasked),
                "masked_share": (masked, every),
                "mask_run": (masked, batch.tensors["runs"].sum().float()),
                **self._reference(every),
            },
        )

    def evaluate_loss(self, model: torch.nn.Module, device: torch.device) -> Evaluation:
        """Evaluate the loss, its terms and the accuracies on whole items, masked as in every run.

        Each is a sum over the frames of all items, divided once.
        """
        assert isinstance(model, PredictsClusters)
        sums = ItemSums(self._loss)
        for micro_batch in self._valid_batches:
            batch = self.fetch("valid", micro_batch)
            items = [draw.index for draw in micro_batch.draws]
            sums.add_counts(
                items,
                counts_B3=_counts(batch),
                num_runs=int(batch.tensors["runs"].sum()),
                labels_K=count_labels(batch.tensors["label"], self._loss.clusters),
            )
            sums.add(items, self._sums(model, batch.to(device)))
        return sums.evaluation(self._items_key)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return `count` items of noise of `shape` (seconds,), or of the longest item; any labels."""
        batch = self._noise(count, shape)
        frames = [self._encoder.frames_of(n) for n in batch.tensors["length"].tolist()]
        generator = np.random.default_rng(0)
        labels = [generator.integers(self._loss.clusters, size=number) for number in frames]
        draws = [ItemDraw(0, index) for index in range(count)]
        return self._with_targets(batch, labels, masks=self._masks("train", draws, frames=frames))

    def _reference(self, like: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return what is known of the labels of all training items, as metrics; NaN where nothing is.

        The entropy is what guessing by frequency alone would cost: a reference line for the loss. That of
        the few frames of an update would be lower.
        """
        known = self._report is not None
        entropy, used = (
            (log(self._report.perplexity), self._report.used) if self._report else (0.0, 0)
        )
        weight = torch.full_like(like, float(known))
        return {
            "label_entropy": (torch.full_like(like, entropy), weight),
            "clusters_used": (torch.full_like(like, float(used)), weight),
        }

    def _sums(
        self, model: PredictsClusters, batch: Batch, *, keep_layers: Sequence[bool] | None = None
    ) -> FrameSums:
        tensors = batch.tensors
        frames = model.frames(
            tensors["wave"], tensors.get("length"), mask_BL=tensors["mask"], keep_layers=keep_layers
        )
        # All frames in one product: gathering the masked ones would wait for the device, and the curve
        # of the others needs theirs anyway.
        return frame_sums(
            model.logits(frames.context.flatten(0, 1)),
            tensors["label"],
            mask_BL=tensors["mask"],
            local_BLC=frames.local,
            loss=self._loss,
        )

    def _masks(
        self, split: Split, draws: Sequence[ItemDraw], *, frames: Sequence[int]
    ) -> np.ndarray:
        """Return (B, L) bool."""
        loss = self._loss
        seed = draws_seed(self._config.seed, split)
        return span_masks(
            [item_generator(seed, draw.epoch, draw.index, f"{split}-mask") for draw in draws],
            frames=frames,
            prob=loss.mask_prob,
            length=loss.mask_length,
            min_spans=loss.min_masks,
        )

    def _with_targets(
        self, batch: Batch, labels: Sequence[np.ndarray], *, masks: np.ndarray
    ) -> Batch:
        """Add labels and masks to waveforms, padded to the frames of the batch."""
        wave_BT = batch.tensors["wave"]
        num_frames = self._encoder.frames_of(wave_BT.shape[1])
        label_BL = np.full((len(labels), num_frames), NO_FRAME, dtype=np.int64)
        mask_BL = np.zeros((len(labels), num_frames), dtype=bool)
        mask_BL[:, : masks.shape[1]] = masks
        for row_L, label_L in zip(label_BL, labels, strict=True):
            row_L[: len(label_L)] = label_L
        tensors = {
            "wave": wave_BT,
            "label": torch.from_numpy(label_BL),
            "mask": torch.from_numpy(mask_BL),
            "runs": torch.tensor([mean_run(row_L[None])[1] for row_L in mask_BL]),
        }
        # Crops are equally long, and then no frame has to be told apart from padding.
        if self._data.fit == "pad":
            tensors["length"] = batch.tensors["length"]
        return Batch(tensors)

    @cached_property
    def _items_key(self) -> str:
        """Sixteen hex digits that identify the validation items, their labels and their masks."""
        loss = self._loss
        masks = [loss.mask_prob, loss.mask_length, loss.min_masks]
        about = [
            self.manifest("valid"), self._config.validation.max_items, masks, self._targets.identity,
        ]  # fmt: skip
        return sha256(json.dumps(about).encode()).hexdigest()[:16]


def _counts(batch: Batch) -> Tensor:
    label_BL, mask_BL = batch.tensors["label"], batch.tensors["mask"]
    return count_frames(mask_BL, label_BL != NO_FRAME)
