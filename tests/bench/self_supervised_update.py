"""What an update of HuBERT or wav2vec 2.0 costs over a plain loop: `python tests/bench/self_supervised_update.py`.

The small presets: same network, batch, masks, labels or distractors, loss, fused AdamW and clipping; ours adds
sums for the curves, the gate on non-finite updates and seeded generators. Each is measured as one micro-batch,
and as two, which are looked at ahead. Both run in turn on one thread; the CPU time of pairs is compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.data.batch import Batch
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised.gumbel import gumbel_noise
from engine.recipes.self_supervised.hubert import HubertRecipe
from engine.recipes.self_supervised.wav2vec2_draws import masked_of
from engine.recipes.waveforms.recipe import Datasets
from engine.training.optimizer import FusedAdamW
from engine.training.updates import Updater
from models.self_supervised.wav2vec2 import Sampling
from presets.catalogue import Catalogue
from tests.pretraining import MadeUpTargets


def config_of(kind: str, folder: Path) -> RunConfig:
    """Return the small preset on two files of noise."""
    for split in ("train", "valid"):
        (folder / split).mkdir(exist_ok=True)
        samples_T = 0.1 * np.random.default_rng(0).normal(size=3 * 16_000)
        soundfile.write(folder / split / "noise.wav", samples_T, 16_000)
    values = Catalogue().read(f"ssl/{kind}-small")
    data = {"train": str(folder / "train"), "valid": str(folder / "valid")}
    return load_config({**values, "data": {**values["data"], **data}})


def opened(config: RunConfig) -> Any:
    """Open the recipe; the labels of HuBERT are made up."""
    if config.recipe == "hubert":
        loss: Any = config.loss
        targets = MadeUpTargets(loss.clusters)
        return HubertRecipe(config, datasets=Datasets(config), targets=targets)
    return open_recipe(config)


def hubert_loss(config: RunConfig, model: Any, tensors: dict[str, Tensor]) -> Tensor:
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


def wav2vec2_loss(config: RunConfig, model: Any, tensors: dict[str, Tensor]) -> Tensor:
    """Return contrastive loss and diversity, of a batch without padding."""
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
    mean_GV = output.quantised.logits_NGV.softmax(3)[inside_BM].mean(0)
    used = torch.exp(-torch.xlogy(mean_GV, mean_GV.clamp(min=1e-12)).sum(1)).sum()
    return contrastive + loss.diversity_weight * (1 - used / mean_GV.numel())


LOSSES: dict[str, Callable[[RunConfig, Any, dict[str, Tensor]], Tensor]] = {
    "hubert": hubert_loss, "wav2vec2": wav2vec2_loss,
}  # fmt: skip


class PlainLoop:
    """The least that trains this network."""

    def __init__(self, config: RunConfig, model: nn.Module) -> None:
        self.config, self.model = config, model.train()
        optimizer = config.optimizer
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=1e-4, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.eps,
            weight_decay=optimizer.weight_decay, fused=True,
        )  # fmt: skip

    def update(self, batches: Sequence[Batch]) -> float:
        """Train on micro-batches of equal weight; return the loss."""
        self.optimizer.zero_grad()
        total = torch.zeros(())
        for batch in batches:
            loss = LOSSES[self.config.recipe](self.config, self.model, batch.tensors) / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(total)


def measure(kind: str, options: argparse.Namespace, *, parts: int) -> None:
    """Print both times and their ratio, of an update in so many micro-batches."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(kind, Path(folder))
        recipe = opened(config)
        batches = [
            recipe.worst_batch(options.items // parts, (options.seconds,)) for _ in range(parts)
        ]
        torch.manual_seed(0)
        plain = PlainLoop(config, recipe.build_model())
        torch.manual_seed(0)
        model = recipe.build_model()
        updater = Updater(
            recipe, model, FusedAdamW(model, config.optimizer), config=config,
            device=torch.device("cpu"), ema=None,
        )  # fmt: skip
        times: dict[str, list[float]] = {"plain": [], "ours": []}
        for number in range(options.rounds + 2):
            started = thread_time()
            theirs = plain.update(batches)
            between = thread_time()
            result = updater.run(number + 1, batches, lr=1e-4)
            ended = thread_time()
            if number == 0:
                ours = float(result.loss_sum / result.weight)
                print(f"{kind}: loss of the first update {theirs:.5f} plain, {ours:.5f} ours")
            if number >= 2:
                times["plain"].append(between - started)
                times["ours"].append(ended - between)
    ratio = statistics.median(o / p for o, p in zip(times["ours"], times["plain"], strict=True))
    each = ", ".join(f"{name} {statistics.median(v) * 1e3:.0f} ms" for name, v in times.items())
    print(f"{kind}, {parts} micro-batch(es): {each}, ours / plain {ratio:.3f}")


def main() -> None:
    """Print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in LOSSES:
        for parts in (1, 2):
            measure(kind, options, parts=parts)


if __name__ == "__main__":
    main()
