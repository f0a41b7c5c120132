"""data2vec 2.0 (Baevski et al., 2023): masked frames are predicted as the student's average sees them.

An item has several masks; its local features and its targets are computed once for all of them, and its
masks stay together, however an update is split. Letters: B batch, M masks of an item, N = B M, T samples,
L frames, K kept frames, Q masked frames, D channels, P places at which local features are compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch, Split
from engine.batching.items import ItemDraw, MicroBatch
from engine.checkpoints.recipe_files import RecipeState
from engine.config.data2vec2 import Data2Vec2Loss
from engine.config.schema import RunConfig
from engine.evaluation.result import Evaluation, evaluation_of
from engine.item_random import draws_seed, item_generator
from engine.recipes.base import (
    CurvePoints,
    Finding,
    Opening,
    StepContext,
    StepOutput,
    UpdateMade,
)
from engine.recipes.self_supervised.block_masks import MaskShape, Use, block_masks, places_of
from engine.recipes.self_supervised.data2vec2_teacher import Teacher
from engine.recipes.self_supervised.layer_drop import kept_layers
from engine.recipes.self_supervised.recipe import PretrainingRecipe
from engine.recipes.self_supervised.spread import (
    COLLAPSE_UPDATES,
    NUM_PLACES,
    VARIANCES,
    deviations,
    feature_sums,
    find_collapse,
    frame_sums,
    spread_shapes,
)
from models.self_supervised.data2vec2 import Data2Vec2, Masks, take
from models.self_supervised.data2vec2_settings import Data2Vec2Config


def open_data2vec2(config: RunConfig, *, opening: Opening) -> Data2Vec2Recipe:
    """Open the recipe; it needs no other run."""
    return Data2Vec2Recipe(config)


class Data2Vec2Recipe(PretrainingRecipe):
    """Trains `models.self_supervised.data2vec2`."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        assert isinstance(config.model, Data2Vec2Config)
        assert isinstance(config.loss, Data2Vec2Loss)
        self._model_config, self._loss = config.model, config.loss
        loss = config.loss
        self._masks = MaskShape(
            loss.clones, loss.mask_prob, loss.mask_prob_adjust, loss.mask_length, loss.inverse_mask
        )

    @property
    def training_metrics(self) -> Mapping[str, str]:
        """Return the curve of the teacher's decay."""
        return {"ema_decay": ""}

    @property
    def update_metrics(self) -> Mapping[str, str]:
        """Return the deviations over a whole update."""
        return dict.fromkeys(VARIANCES, "")

    @property
    def watch_updates(self) -> int:
        """Return how long a collapse has to last."""
        return COLLAPSE_UPDATES

    @property
    def statistics(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of the sums that the deviations follow from."""
        return spread_shapes(self._model_config.dim)

    def build_model(self) -> Data2Vec2:
        """Return the freshly initialised student."""
        return Data2Vec2(self._model_config)

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read `wave` (B, T), `length` (B,), `first_frame` (B,), and the masks of the cropped items.

        Those are `mask` (B, M, L), `kept` (B, M, K), `masked` (B, M, Q), `num_kept` and `num_masked` (B,),
        as in `models.self_supervised.data2vec2.Masks`; they depend on seed, epoch, item and length only,
        those of validation not on the seed.
        """
        return self._with_masks(self._read(split, micro_batch), micro_batch.draws, split=split)

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return the loss summed over all masked frames of all masks, and their number."""
        assert isinstance(model, Data2Vec2)
        keep = kept_layers(self._config.seed, context.update, model=self._model_config)
        loss_NQ, used_NQ, sums = self._losses(model, batch, keep_layers=keep)
        one = torch.ones((), device=loss_NQ.device)
        return StepOutput(
            loss_NQ.sum(),
            used_NQ.sum(),
            metrics={"ema_decay": (one * self._teacher.decay(context.counters), one)},
            statistics=sums,
        )

    def measure(self, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the deviations of an update from its sums."""
        return deviations(statistics)

    def watch(self, points: CurvePoints) -> Sequence[Finding]:
        """End a run whose targets, predictions or local features have been alike for a while."""
        return find_collapse(points, self._loss)

    def start_state(self, model: nn.Module, device: torch.device) -> None:
        """Start the teacher as a copy of the student."""
        assert isinstance(model, Data2Vec2)
        self._teacher = Teacher(model.context, self._loss)

    def state_dict(self) -> RecipeState:
        """Return the weights of the teacher; its decay is a function of the counters."""
        return RecipeState({f"teacher.{n}": t for n, t in self._teacher.tensors().items()}, {})

    def load_state_dict(self, state: RecipeState) -> None:
        """Take over the weights of the teacher."""
        self._teacher.load({n.removeprefix("teacher."): t for n, t in state.tensors.items()})

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        """Move the teacher towards the student."""
        assert isinstance(model, Data2Vec2)
        decay = self._teacher.decay(made.counters)
        self._teacher.follow(model.context, decay=decay, skipped=made.skipped)

    def evaluate_loss(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Evaluate val_loss, the mean over items of the loss of their masked frames, and the deviations.

        Masks are those of the first epoch, the same at every evaluation.
        """
        assert isinstance(model, Data2Vec2)
        losses_N = np.zeros(self._num_valid)
        sums: dict[str, Tensor] = {}
        for micro_batch in self._valid_batches:
            batch = self.fetch("valid", micro_batch).to(device)
            loss_NQ, used_NQ, more = self._losses(model, batch)
            shape = (len(micro_batch), -1)
            loss_B = loss_NQ.reshape(shape).sum(dim=1) / used_NQ.reshape(shape).sum(dim=1)
            losses_N[[draw.index for draw in micro_batch.draws]] = loss_B.double().cpu().numpy()
            sums = {name: value + sums.get(name, 0.0) for name, value in more.items()}
        found = evaluation_of({"val_loss": losses_N}, items_key=self._items_key)
        spread = {f"val_{name}": float(value) for name, value in deviations(sums).items()}
        found.metrics.update(spread)
        return found

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return `count` items of noise of `shape` (seconds,), or of the longest item."""
        draws = [ItemDraw(0, index) for index in range(count)]
        return self._with_masks(self._noise(count, shape), draws, split="train")

    def _with_masks(self, batch: Batch, draws: Sequence[ItemDraw], *, split: Split) -> Batch:
        """Add masks to a batch of waveforms."""

        def generator_of(item: int, use: Use) -> np.random.Generator:
            draw = draws[item]
            stream = f"{split}-mask-{use}"
            seed = draws_seed(self._config.seed, split)
            return item_generator(seed, draw.epoch, draw.index, stream)

        wave_BT, length_B = batch.tensors["wave"], batch.tensors["length"]
        longest = self._model_config.frames_of(wave_BT.shape[1])
        frames = [self._model_config.frames_of(length) for length in length_B.tolist()]
        mask_BML = block_masks(self._masks, frames, generator_of=generator_of)
        mask_BML = np.pad(mask_BML, ((0, 0), (0, 0), (0, longest - mask_BML.shape[2])))
        inside_BL = np.arange(longest) < np.asarray(frames)[:, None]
        kept_BML = ~mask_BML & inside_BL[:, None]
        masks = {
            "mask": mask_BML, "kept": places_of(kept_BML), "masked": places_of(mask_BML),
            "num_kept": kept_BML[:, 0].sum(axis=1), "num_masked": mask_BML[:, 0].sum(axis=1),
        }  # fmt: skip
        return Batch(batch.tensors | {name: torch.from_numpy(m) for name, m in masks.items()})

    def _losses(
        self, model: Data2Vec2, batch: Batch, *, keep_layers: Sequence[bool] | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss of each masked frame (N, Q), which of them are some, and sums of the batch."""
        # Cropped items are equally long, and then no frame has to be told apart from padding.
        lengths_B = None if self._data.fit == "crop" else batch.tensors["length"]
        local_BLD, valid_BL = model.local_features(batch.tensors["wave"], lengths_B)
        masks = _masks_of(batch)
        pred_NQD = model.predict(local_BLD, masks, valid_BL=valid_BL, keep_layers=keep_layers)
        target_BLD = self._teacher.targets(local_BLD, valid_BL)
        target_NLD = target_BLD.repeat_interleave(masks.clones, dim=0)
        target_NQD = take(target_NLD, masks.masked_BMQ.flatten(0, 1))
        used_NQ = masks.of_masked()
        loss_NQ = self._distance(pred_NQD, target_NQD) * used_NQ
        sums = frame_sums(pred_NQD, target_NQD, used_NQ=used_NQ)
        return loss_NQ, used_NQ, sums | feature_sums(local_BLD, valid_BL, step=self._place_step)

    def _distance(self, pred_NQD: Tensor, target_NQD: Tensor) -> Tensor:
        """Return (N, Q) the loss of each frame, float32: a sum over channels, over sqrt(D)."""
        beta = self._loss.smooth_beta
        pred_NQD = pred_NQD.float()
        if beta:
            loss = nn.functional.smooth_l1_loss(pred_NQD, target_NQD, reduction="none", beta=beta)
        else:
            loss = (pred_NQD - target_NQD).square()
        return loss.sum(dim=2) / sqrt(pred_NQD.shape[2])

    @cached_property
    def _place_step(self) -> int:
        """Frames from one place to the next at which items are compared: all items reach the last one."""
        frames = self._model_config.frames_of(self._data.shortest_samples)
        return max(1, frames // NUM_PLACES)

    @cached_property
    def _items_key(self) -> str:
        """Sixteen hex digits that identify the validation items and their masks."""
        masks = self._masks
        about = [self.manifest("valid"), self._config.validation.max_items, repr(masks)]
        return sha256(json.dumps(about).encode()).hexdigest()[:16]


def _masks_of(batch: Batch) -> Masks:
    tensors = batch.tensors
    return Masks(
        tensors["mask"],
        tensors["kept"],
        tensors["masked"],
        num_kept_B=tensors["num_kept"],
        num_masked_B=tensors["num_masked"],
    )
