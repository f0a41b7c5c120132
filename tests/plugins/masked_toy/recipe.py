"""A toy of masked prediction that uses all that a recipe may have; trains in milliseconds on the CPU.

Frames of made-up audio are clustered before training, masked frames are classified into clusters, a
teacher follows the network, a codebook follows its hidden frames, and the codebook of another run can
be the first one. Letters: B batch, T frames, F features, D hidden, K clusters, V codes.

A file in the run's folder named `kill-clusters-3`, `stop-update-7` and the like kills the process
(SIGKILL) or asks it to stop (SIGTERM) there, once: in the middle of a step, as chance would.
"""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.batching.items import ItemDraw, MicroBatch
from engine.checkpoints.files import read_manifest
from engine.checkpoints.recipe_files import RecipeState, read_recipe_parts
from engine.data.batch import Batch, Split
from engine.evaluation.result import Evaluation
from engine.gated import assign_unless, lerp_unless
from engine.item_random import item_generator
from engine.recipes.base import Opening, Stage, StepContext, StepOutput, UpdateMade
from masked_toy.data_settings import NUM_ITEMS
from masked_toy.model_settings import ToyNetwork

T, F, D, K, V = 12, 6, 10, 4, 5
BASE = "loss.codebook_from"
CLUSTER_STEPS, CODE_STEPS = 30, 8


class Network(nn.Module):
    """Two layers with dropout, and what stands for a masked frame."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.zeros(F))
        self.encoder = nn.Sequential(
            nn.Linear(F, D), nn.Tanh(), nn.Dropout(dropout), nn.Linear(D, D)
        )
        self.head = nn.Linear(D, K)

    def forward(self, x_BTF: Tensor, mask_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return hidden frames (B, T, D) and logits (B, T, K)."""
        if mask_BT is not None:
            x_BTF = torch.where(mask_BT[..., None], self.mask, x_BTF)
        # Neighbours are all that a masked frame can be told by.
        x_BTF = (x_BTF + x_BTF.roll(1, 1) + x_BTF.roll(-1, 1)) / 3
        hidden_BTD = self.encoder(x_BTF)
        return hidden_BTD, self.head(hidden_BTD)


def frames(seed: int, split: str, index: int) -> Tensor:
    """Return the (T, F) frames of an item: slow walks between four tones and noise."""
    rng = item_generator(seed, 0, index, f"frames-{split}")
    tone_T = (rng.integers(K) + np.arange(T) // 5) % K
    x_TF = np.eye(K, F)[tone_T] * 2 + 0.2 * rng.normal(size=(T, F))
    return torch.from_numpy(x_TF.astype(np.float32))


def nearest(x_NF: Tensor, centres_KF: Tensor) -> Tensor:
    """Return the number of the nearest centre of each row."""
    return torch.cdist(x_NF, centres_KF).argmin(dim=1)


class Accidents:
    """Kills or stops this process at named places, once each."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def at(self, place: str) -> None:
        """Have the accident that waits at a place."""
        for word, number in (("kill", signal.SIGKILL), ("stop", signal.SIGTERM)):
            if self._folder is not None and (file := self._folder / f"{word}-{place}").exists():
                file.unlink()
                os.kill(os.getpid(), number)


class Clusters(Stage):
    """K-means by mini-batches that are drawn anew in each step."""

    name = "clusters"
    save_every_s = 0.0

    def __init__(self, recipe: MaskedToy) -> None:
        self._recipe = recipe

    def num_steps(self) -> int:
        return CLUSTER_STEPS

    def start(self) -> RecipeState:
        first_NF = torch.cat([self._recipe.frames("train", index) for index in range(2)])
        return RecipeState(
            {"centres": first_NF[:: len(first_NF) // K][:K].clone(), "counts": torch.ones(K)},
            {"drawn": 0},
        )

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        self._recipe.accidents.at(f"clusters-{index}")
        items = torch.randint(NUM_ITEMS["train"], (4,)).tolist()
        x_NF = torch.cat([self._recipe.frames("train", item) for item in items]).to(device)
        centres_KF, counts_K = (state.tensors[n].to(device) for n in ("centres", "counts"))
        one_hot_NK = nn.functional.one_hot(nearest(x_NF, centres_KF), K).float()
        counts_K = counts_K + one_hot_NK.sum(0)
        centres_KF += (one_hot_NK.T @ x_NF - one_hot_NK.sum(0)[:, None] * centres_KF) / counts_K[
            :, None
        ]
        return RecipeState(
            {"centres": centres_KF, "counts": counts_K},
            {"drawn": state.values["drawn"] + len(items)},
        )


class Codes(Stage):
    """Names the most frequent cluster of every item, from the clusters of the stage before."""

    name = "codes"
    save_every_s = 0.0

    def __init__(self, recipe: MaskedToy) -> None:
        self._recipe = recipe

    def num_steps(self) -> int:
        return CODE_STEPS

    def start(self) -> RecipeState:
        return RecipeState({}, {"codes": []})

    def step(self, index: int, state: RecipeState, *, device: torch.device) -> RecipeState:
        self._recipe.accidents.at(f"codes-{index}")
        share = NUM_ITEMS["train"] // CODE_STEPS
        for item in range(index * share, (index + 1) * share):
            labels_T = nearest(self._recipe.frames("train", item), self._recipe.centres_KF)
            state.values["codes"].append(int(labels_T.mode().values))
        return state


class MaskedToy:
    """Masked prediction of clusters."""

    loss_unit = "nats"
    training_metrics: Mapping[str, str] = {"toy_accuracy": "", "toy_kept_accuracy": ""}
    statistics: Mapping[str, tuple[int, ...]] = {"code_count": (V,), "code_sum": (V, D)}

    def __init__(self, config: Any, opening: Opening, *, teacher_share: float = 0.1) -> None:
        self.config = config
        self.teacher_share = teacher_share
        self.opening = opening
        self.accidents = Accidents(opening.folder)
        self.centres_KF = torch.eye(K, F)
        self.codes: list[int] = []
        self.fits = 10**9
        self.poisoned: frozenset[int] = frozenset()
        self.num_calls = 0

    def frames(self, split: str, index: int) -> Tensor:
        """Return the frames of an item."""
        return frames(self.config.seed, split, index)

    def stages(self) -> Sequence[Stage]:
        return [Clusters(self), Codes(self)]

    def use(self, stage: str, result: RecipeState) -> None:
        if stage == "clusters":
            self.centres_KF = result.tensors["centres"]
        else:
            self.codes = list(result.values["codes"])

    def build_model(self) -> nn.Module:
        model = self.config.model
        return model.build() if isinstance(model, ToyNetwork) else Network()

    def sizes(self, split: Split) -> np.ndarray:
        return np.ones((NUM_ITEMS[split], 1))

    def manifest(self, split: Split) -> str:
        return f"masked-toy-{split}"

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        """Read `x` (B, T, F), `label` (B, T), `mask` (B, T) and `poison` (B,)."""
        x_BTF = torch.stack([self.frames(split, draw.index) for draw in micro_batch.draws])
        masks = [
            item_generator(self.config.seed, draw.epoch, draw.index, "mask").random(T) < 0.5
            for draw in micro_batch.draws
        ]
        label_N = nearest(x_BTF.flatten(0, 1), self.centres_KF)
        poison = [draw.index in self.poisoned for draw in micro_batch.draws]
        return Batch(
            {
                "x": x_BTF, "label": label_N.view(x_BTF.shape[:2]),
                "mask": torch.from_numpy(np.stack(masks)), "poison": torch.tensor(poison),
            }
        )  # fmt: skip

    def start_state(self, model: nn.Module, device: torch.device) -> None:
        self._teacher = copy.deepcopy(model).requires_grad_(False).eval()
        generator = torch.Generator().manual_seed(self.config.seed)
        self._codebook_VD = torch.randn(V, D, generator=generator).to(device)
        self._usage_V = torch.zeros(V, device=device)
        self._origin = "fresh"
        base = self.opening.needs.get(BASE)
        if base is not None:
            parts = read_recipe_parts(read_manifest(base))
            assert parts.state is not None
            self._codebook_VD.copy_(parts.state.tensors["codebook"])
            self._origin = "base"

    def state_dict(self) -> RecipeState:
        teacher = {f"teacher.{n}": t for n, t in self._teacher.state_dict().items()}
        return RecipeState(
            {**teacher, "codebook": self._codebook_VD, "usage": self._usage_V},
            {"codes": self.codes, "origin": self._origin},
        )

    def load_state_dict(self, state: RecipeState) -> None:
        own = self.state_dict().tensors
        for name, tensor in state.tensors.items():
            own[name].copy_(tensor)
        self.codes, self._origin = list(state.values["codes"]), str(state.values["origin"])

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        self.accidents.at(f"update-{context.update}")
        x_BTF, label_BT, mask_BT, poison_B = batch.tensors.values()
        if len(x_BTF) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        hidden_BTD, logits_BTK = model(x_BTF, mask_BT)
        with torch.no_grad():
            target_BTD, _ = self._teacher(x_BTF)
        # The teacher weighs more as the run goes on: a schedule inside a step.
        share = min(1.0, context.counters.updates / 10)
        loss_BT = nn.functional.cross_entropy(
            logits_BTK.transpose(1, 2), label_BT, reduction="none"
        )
        loss_BT = loss_BT + share * (hidden_BTD - target_BTD).square().mean(dim=2)
        loss_BT = torch.where(poison_B[:, None], torch.nan, loss_BT)
        right_BT = (logits_BTK.argmax(dim=2) == label_BT).float()
        kept_BT = ~mask_BT
        flat_ND = hidden_BTD.detach().flatten(0, 1)
        code_NV = nn.functional.one_hot(nearest(flat_ND, self._codebook_VD), V).float()
        return StepOutput(
            (loss_BT * mask_BT).sum(),
            mask_BT.sum(),
            metrics={
                "toy_accuracy": ((right_BT * mask_BT).sum(), mask_BT.sum()),
                "toy_kept_accuracy": ((right_BT * kept_BT).sum(), kept_BT.sum()),
            },
            statistics={"code_count": code_NV.sum(0), "code_sum": code_NV.T @ flat_ND},
        )

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        self.accidents.at(f"after-{made.update}")
        lerp_unless(
            made.skipped,
            list(self._teacher.parameters()),
            towards=list(model.parameters()),
            share=self.teacher_share,
        )
        count_V, sum_VD = made.statistics["code_count"], made.statistics["code_sum"]
        mean_VD = sum_VD / count_V.clamp(min=1.0)[:, None]
        moved_VD = torch.where(
            count_V[:, None] > 0, self._codebook_VD.lerp(mean_VD, 0.2), self._codebook_VD
        )
        assign_unless(
            made.skipped,
            [self._codebook_VD, self._usage_V],
            values=[moved_VD, self._usage_V + count_V],
        )

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        draws = tuple(ItemDraw(0, index) for index in range(NUM_ITEMS["valid"]))
        batch = self.fetch("valid", MicroBatch(draws)).to(device)
        _, logits_BTK = model(batch.tensors["x"], batch.tensors["mask"])
        loss = nn.functional.cross_entropy(logits_BTK.transpose(1, 2), batch.tensors["label"])
        return Evaluation({"val_loss": float(loss)}, len(draws), num_excluded=0)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        draws = tuple(ItemDraw(0, index % NUM_ITEMS["train"]) for index in range(count))
        return self.fetch("train", MicroBatch(draws))


def open_masked_toy(config: Any, *, opening: Opening) -> MaskedToy:
    """Return the toy for a run."""
    return MaskedToy(config, opening, teacher_share=config.loss.teacher_share)
