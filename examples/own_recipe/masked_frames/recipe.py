"""Predicts hidden frames of a log spectrogram.

Mean and variance of each band follow the training audio: a hook after each step moves them, they are
saved with every checkpoint, and frames are normalised by them. Letters: B batch, T samples, F bands,
N frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching.items import ItemDraw, MicroBatch
from engine.checkpoints.recipe_files import RecipeState
from engine.data.batch import Batch, Split
from engine.data.kinds import open_dataset
from engine.evaluation.result import Evaluation, evaluation_of
from engine.gated import assign_unless
from engine.item_random import item_generator
from engine.recipes.base import Opening, StepContext, StepOutput, UpdateMade

WINDOW, HOP = 512, 256
F = WINDOW // 2 + 1


class MaskedFrames:
    """A recipe is a class with these methods; `engine.recipes.base` describes each of them."""

    loss_unit = ""
    # Curves beside the loss, with their units.
    training_metrics: Mapping[str, str] = {"visible_error": ""}
    # Sums that each step gathers for `after_step`, with their shapes.
    statistics: Mapping[str, tuple[int, ...]] = {"frames": (), "sum": (F,), "sum_of_squares": (F,)}

    def __init__(self, config: Any, *, opening: Opening) -> None:
        self._config = config
        self._datasets: dict[Split, Any] = {}

    # The data.

    def _dataset(self, split: Split) -> Any:
        # Opened when first needed: `sepdash tune` measures on `worst_batch` and reads no files.
        if split not in self._datasets:
            self._datasets[split] = open_dataset(self._config, split)
        return self._datasets[split]

    def sizes(self, split: Split) -> np.ndarray:
        """Return (N, 1), the length of each item in seconds."""
        return np.asarray(self._dataset(split).durations_s())[:, None]

    def manifest(self, split: Split) -> str:
        """Return a hash of the files: a resumed run refuses others."""
        return str(self._dataset(split).manifest)

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read `audio` (B, T) and draw `hidden` (B, N); equal draws give equal batches."""
        dataset = self._dataset(split)
        audio = [dataset.item(draw.epoch, draw.index) for draw in micro_batch.draws]
        seed = self._config.seed if split == "train" else 0
        num_frames = len(audio[0]) // HOP + 1
        hidden = [
            item_generator(seed, draw.epoch, draw.index, "hidden").random(num_frames)
            < self._config.loss.hidden_share
            for draw in micro_batch.draws
        ]
        return Batch(
            {
                "audio": torch.from_numpy(np.stack(audio)),
                "hidden": torch.from_numpy(np.stack(hidden)),
            }
        )

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        """Return noise of the largest size, on which memory is measured."""
        data = self._config.data
        num_samples = round(shape[0] * data.rate_hz) if shape else data.segment_samples
        audio_BT = torch.randn(count, num_samples, generator=torch.Generator().manual_seed(0))
        return Batch({"audio": audio_BT, "hidden": torch.rand(count, num_samples // HOP + 1) < 0.5})

    # The model, and a step from a batch to a loss.

    def build_model(self) -> nn.Module:
        """Return the network of the settings in `[model]`."""
        network: nn.Module = self._config.model.build(num_bands=F)
        return network

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        """Return sums and weights; the trainer adds them up over the update and divides once."""
        frames_BFN = log_spectrogram(batch.tensors["audio"])
        hidden_BN = batch.tensors["hidden"]
        error_BN = self._error(model, frames_BFN, hidden_BN=hidden_BN)
        visible_BN = ~hidden_BN
        return StepOutput(
            loss_sum=(error_BN * hidden_BN).sum(),
            weight=hidden_BN.sum(),
            metrics={
                "visible_error": ((error_BN * visible_BN).detach().sum(), visible_BN.sum()),
            },
            statistics={
                "frames": torch.full((), hidden_BN.numel(), device=hidden_BN.device),
                "sum": frames_BFN.sum(dim=(0, 2)),
                "sum_of_squares": frames_BFN.square().sum(dim=(0, 2)),
            },
        )

    def _error(self, model: nn.Module, frames_BFN: Tensor, *, hidden_BN: Tensor) -> Tensor:
        """Return (B, N), the mean squared error of each frame."""
        scale_F = (self._variance_F + 1e-3).rsqrt()
        x_BFN = (frames_BFN - self._mean_F[:, None]) * scale_F[:, None]
        seen_BFN = x_BFN.masked_fill(hidden_BN[:, None], 0.0)
        return (model(seen_BFN).float() - x_BFN).square().mean(dim=1)

    # What moves once in each update, and is saved with the weights.

    def start_state(self, model: nn.Module, device: torch.device) -> None:
        """Make the state of a fresh run."""
        self._mean_F = torch.zeros(F, device=device)
        self._variance_F = torch.ones(F, device=device)

    def state_dict(self) -> RecipeState:
        """Return what a checkpoint holds beside the weights."""
        return RecipeState({"mean": self._mean_F, "variance": self._variance_F})

    def load_state_dict(self, state: RecipeState) -> None:
        """Take over the state of a checkpoint."""
        self._mean_F.copy_(state.tensors["mean"])
        self._variance_F.copy_(state.tensors["variance"])

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        """Move mean and variance towards those of the update, unless it was skipped."""
        frames = made.statistics["frames"]
        mean_F = made.statistics["sum"] / frames
        variance_F = (made.statistics["sum_of_squares"] / frames - mean_F.square()).clamp(min=0)
        rate = self._config.loss.norm_rate
        # `made.skipped` stays on the device; reading it would make a GPU wait.
        assign_unless(
            made.skipped,
            [self._mean_F, self._variance_F],
            values=[self._mean_F.lerp(mean_F, rate), self._variance_F.lerp(variance_F, rate)],
        )

    # The evaluation.

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        """Return the loss on the validation items, of which the same frames are hidden each time."""
        losses = []
        for index in range(len(self._dataset("valid"))):
            batch = self.fetch("valid", MicroBatch((ItemDraw(0, index),))).to(device)
            hidden_BN = batch.tensors["hidden"]
            frames_BFN = log_spectrogram(batch.tensors["audio"])
            error_BN = self._error(model, frames_BFN, hidden_BN=hidden_BN)
            losses.append(float((error_BN * hidden_BN).sum() / hidden_BN.sum().clamp(min=1)))
        # The mean, and what `sepdash compare` needs to pair runs item by item. An item whose loss is not
        # finite makes the mean infinite: it is counted, never left out.
        return evaluation_of(
            {"val_loss": np.array(losses)},
            items_key=f"{self.manifest('valid')}-{len(losses)}-{self._config.loss.hidden_share}",
        )


def log_spectrogram(audio_BT: Tensor) -> Tensor:
    """Return the logarithm of the power (B, F, N) in float32."""
    window = torch.hann_window(WINDOW, device=audio_BT.device)
    spectrum = torch.stft(audio_BT.float(), WINDOW, HOP, window=window, return_complex=True)
    return (spectrum.abs().square() + 1e-6).log()
