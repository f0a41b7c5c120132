"""What an update of HuBERT or wav2vec 2.0 costs over a plain loop: `python tests/bench/self_supervised_update.py`.

The small presets: same network, batch, masks, labels or distractors, loss, fused AdamW and clipping; ours adds
sums for the curves, the gate on non-finite updates and seeded generators. Each is measured as one micro-batch,
and as two, which are looked at ahead: beside a plain loop whose diversity loss is that of each micro-batch (so
another loss), and beside one whose is that of the update, too. All run in turn on one thread; the CPU time of
pairs is compared. Last, what holding the convolutions of wav2vec 2.0 for their backward pass would take.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from engine.batching.batch import Batch
from engine.config.schema import RunConfig
from engine.recipes.base import StepContext
from engine.recipes.datasets import Datasets
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.gumbel import gumbel_noise
from engine.recipes.self_supervised.hubert import HubertRecipe
from engine.recipes.self_supervised.wav2vec2_draws import masked_of
from models.self_supervised.wav2vec2 import Sampling
from tests.bench.beside_plain import (
    milliseconds,
    our_update,
    plain_adamw,
    ratio,
    small_preset,
    timed,
)
from tests.memory import kept_in
from tests.pretraining import MadeUpTargets


def opened(config: RunConfig) -> Any:
    """Open the recipe; the labels of HuBERT are made up."""
    if config.recipe == "hubert":
        loss: Any = config.loss
        targets = MadeUpTargets(loss.clusters)
        return HubertRecipe(config, datasets=Datasets(config), targets=targets)
    return open_recipe(config)


def hubert_loss(
    config: RunConfig, model: Any, tensors: dict[str, Tensor], ahead: Ahead | None = None
) -> Tensor:
    """Return cross-entropy of masked frames and penalty, each a mean, of a batch without padding."""
    loss: Any = config.loss
    mask_BL = tensors["mask"]
    frames = model.frames(tensors["wave"], None, mask_BL=mask_BL)
    logits_NK = model.logits(frames.context.flatten(0, 1))
    own_BL = cross_entropy(logits_NK, tensors["label"].flatten(), reduction="none").view_as(mask_BL)
    masked = (own_BL * mask_BL).sum() / mask_BL.sum()
    unmasked = (own_BL * ~mask_BL).sum() / mask_BL.sum()
    energy = frames.local.square().mean()
    return masked * loss.masked_weight + unmasked * loss.unmasked_weight + loss.penalty * energy


def wav2vec2_loss(
    config: RunConfig, model: Any, tensors: dict[str, Tensor], ahead: Ahead | None = None
) -> Tensor:
    """Return contrastive loss and diversity, of a batch without padding; diversity is that of `ahead` if given."""
    loss: Any = config.loss
    sizes: Any = config.model
    shape = (tensors["place"].shape[1], sizes.code_groups, sizes.code_entries)
    sampling = Sampling(2.0, gumbel_noise(tensors["noise"], shape))
    batch = Batch(tensors)
    output = model(tensors["wave"], None, masked=masked_of(batch), sampling=sampling)
    inside_BM = torch.arange(shape[0]) < tensors["masked"][:, None]
    context_BMF, target_BMF = (
        normalize(output.context_BMF, dim=2),
        normalize(output.target_BMF, dim=2),
    )
    logits_BMM = context_BMF @ target_BMF.transpose(1, 2) / loss.logit_temperature
    place_BMK = tensors["distractor"].long()
    code_BMG = output.quantised.codes_NG
    rows = torch.arange(len(code_BMG))[:, None, None]
    same_BMK = (code_BMG[rows, place_BMK] == code_BMG[:, :, None]).all(dim=3)
    other_BMK = logits_BMM.gather(2, place_BMK).masked_fill(same_BMK, -torch.inf)
    own_BM1 = logits_BMM.diagonal(dim1=1, dim2=2)[..., None]
    logits_NX = torch.cat([own_BM1, other_BMK], dim=2)[inside_BM]
    contrastive = cross_entropy(logits_NX, torch.zeros(len(logits_NX), dtype=torch.int64))
    soft_NGV = output.quantised.logits_NGV.softmax(3)[inside_BM]
    if ahead is None:
        return contrastive + loss.diversity_weight * unused(soft_NGV.mean(0))
    own_GV = soft_NGV.sum(0)
    spread = unused((ahead.soft_GV + own_GV - own_GV.detach()) / ahead.count)
    # Of the mean over the parts, the whole gradient and a part of the value.
    spread = ahead.parts * spread + (1 - ahead.parts) * spread.detach()
    return contrastive + loss.diversity_weight * spread


def unused(mean_GV: Tensor) -> Tensor:
    """Return the diversity loss of a mean code."""
    used = torch.exp(-torch.xlogy(mean_GV, mean_GV.clamp(min=1e-12)).sum(1)).sum()
    return 1 - used / mean_GV.numel()


@dataclass(frozen=True, slots=True)
class Ahead:
    """The sum of the soft codes of an update, of how many frames and parts."""

    soft_GV: Tensor
    count: int
    parts: int


@torch.no_grad()
def looked(model: Any, batches: Sequence[Batch]) -> Ahead:
    """Look at all micro-batches of wav2vec 2.0."""
    found = []
    for batch in batches:
        tensors = batch.tensors
        logits_BMGV = model.code_logits(tensors["wave"], None, masked=masked_of(batch))
        inside_BM = torch.arange(logits_BMGV.shape[1]) < tensors["masked"][:, None]
        found.append(logits_BMGV.softmax(3)[inside_BM])
    soft_NGV = torch.cat(found)
    return Ahead(soft_NGV.sum(0), len(soft_NGV), len(batches))


LOSSES: dict[str, Callable[[RunConfig, Any, dict[str, Tensor], Ahead | None], Tensor]] = {
    "hubert": hubert_loss, "wav2vec2": wav2vec2_loss,
}  # fmt: skip


class PlainLoop:
    """The least that trains this network."""

    def __init__(self, config: RunConfig, model: nn.Module) -> None:
        self.config, self.model = config, model.train()
        self.optimizer = plain_adamw(config, model)

    def update(self, batches: Sequence[Batch], *, looks: bool = False) -> float:
        """Train on micro-batches of equal weight, with a look at all of them before if asked; return the loss."""
        self.optimizer.zero_grad()
        ahead = looked(self.model, batches) if looks else None
        total = torch.zeros(())
        for batch in batches:
            loss = LOSSES[self.config.recipe](self.config, self.model, batch.tensors, ahead)
            loss = loss / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(total)


def measure(kind: str, options: argparse.Namespace, *, parts: int) -> None:
    """Print the times and ratios of an update in so many micro-batches."""
    with tempfile.TemporaryDirectory() as folder:
        config = small_preset(f"ssl/{kind}-small", Path(folder))
        recipe = opened(config)
        batches = [
            recipe.worst_batch(options.items // parts, (options.seconds,)) for _ in range(parts)
        ]

        def fresh() -> nn.Module:
            torch.manual_seed(0)
            return recipe.build_model()  # type: ignore[no-any-return]

        loops = [PlainLoop(config, fresh()) for _ in range(2)]
        ours = our_update(config, recipe, fresh(), batches)
        arms: dict[str, Callable[[int], object]] = {
            "plain": lambda number: loops[0].update(batches), "ours": ours,
        }  # fmt: skip
        if parts > 1 and kind == "wav2vec2":
            arms["plain that looks ahead"] = lambda number: loops[1].update(batches, looks=True)
        times = timed(arms, rounds=options.rounds)
    ratios = ", ".join(
        f"ours / {name} {ratio(times, 'ours', name):.3f}" for name in times if name != "ours"
    )
    print(f"{kind}, {parts} micro-batch(es): {milliseconds(times)}; {ratios}")


def measure_held(kind: str, options: argparse.Namespace) -> None:
    """Print the share of what a step keeps for its backward pass that is kept by the convolutions."""
    with tempfile.TemporaryDirectory() as folder:
        config = small_preset(f"ssl/{kind}", Path(folder))
        recipe = opened(config)
        model = recipe.build_model().train()
        batch = recipe.worst_batch(2, (options.seconds,))
        weights = list(model.parameters())
        wave_BT = batch.tensors["wave"]
        convolutions = kept_in(lambda: model.encoder.local_features(wave_BT, None), beside=weights)
        context = StepContext(update=1)
        step = kept_in(lambda: recipe.step(model, batch, context=context), beside=weights)
    share = convolutions / step
    print(
        f"{kind}, items of {options.seconds:g} s: convolutions keep {share:.0%} of what a step keeps"
    )


def main() -> None:
    """Print times, ratios and shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in LOSSES:
        for parts in (1, 2):
            measure(kind, options, parts=parts)
    for kind in ("wav2vec2-small", "wav2vec2-base"):
        measure_held(kind, options)


if __name__ == "__main__":
    main()
