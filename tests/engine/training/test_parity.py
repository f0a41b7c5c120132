"""Parity with the original: a minimal loop, written here from its description, makes the same losses.

The loop shares the network and the batches with the trainer and nothing else: objective, accumulation,
clipping, optimiser, schedule and average are its own. Letters: B batch, S sources, C channels,
T samples, F bins, L frames, N signals.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.checkpoints.files import MODEL, TRAINING, read_manifest
from engine.evaluation.result import Evaluation
from engine.recipes.base import StepContext
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.optimizer import FusedAdamW
from engine.training.trainer import Trainer
from engine.training.updates import Updater

CPU = torch.device("cpu")
LR = 3e-5
GAMMA = 0.98
DECAY = 0.9
RESTART = 20


class DoubleRecipe(SeparationRecipe):
    """Trains in float64, and keeps the first weights and every training batch in its order.

    Training with the logarithm of nearly empty bins is chaotic: a last bit that differs grows by up
    to three times an update. In float64, at this learning rate, 1e-13 is left of it after fifty, with
    clipping 4e-8 (the fused kernel takes the divisor in float32).
    """

    def __init__(self, config):
        super().__init__(config)
        self.batches: list[Batch] = []

    def build_model(self) -> nn.Module:
        model = super().build_model().double()
        self.first_model = deepcopy(model)
        return model

    def fetch(self, split, micro_batch):
        batch = super().fetch(split, micro_batch)
        batch = Batch({name: tensor.double() for name, tensor in batch.tensors.items()})
        if split == "train":
            self.batches.append(batch)
        return batch

    def evaluate(self, model, device):
        return Evaluation({"val_loss": 0.0, "si_sdr": 0.0}, 1, num_excluded=0)


def _spectral_sum(est_BSCT: Tensor, ref_BSCT: Tensor, windows: list[int]) -> Tensor:
    """Magnitudes by hand: zeros around, frames cut, windowed and transformed; all added up."""

    def magnitude(x_BSCT: Tensor, length: int) -> Tensor:
        padded_NT = nn.functional.pad(x_BSCT.flatten(0, 2), (length // 2, length // 2))
        frames_NLT = padded_NT.unfold(-1, length, length // 2)
        place_T = torch.arange(length, dtype=torch.float64)
        window_T = (0.5 - 0.5 * torch.cos(2 * torch.pi * place_T / length)).to(x_BSCT.dtype)
        return torch.fft.rfft(frames_NLT * window_T).abs()

    total = est_BSCT.new_zeros(())
    for length in windows:
        est_NLF, ref_NLF = magnitude(est_BSCT, length), magnitude(ref_BSCT, length)
        total = total + (est_NLF - ref_NLF).abs().sum()
        total = total + ((est_NLF + 1e-8).log() - (ref_NLF + 1e-8).log()).abs().sum()
    return total


def _original(
    model: nn.Module,
    batches: list[Batch],
    sizes: list[int],
    *,
    windows: list[int],
    clip: float = 0.0,
    eps: float = 1e-8,
    added: bool = False,
) -> tuple[list[float], list[Tensor]]:
    """Train as the notebook did; return the loss of each update and the average of the weights.

    The gradients of the micro-batches add up; our definition, and only it, divides them by the items.
    With `added` they are sums of means over the items of a micro-batch, as in the notebook.
    """
    params = list(model.parameters())
    optimizer = torch.optim.AdamW(params, lr=LR, weight_decay=0.01, eps=eps)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=GAMMA)
    average = [param.detach().clone() for param in params]
    losses, stream = [], iter(batches)
    for update in range(1, len(batches) // len(sizes) + 1):
        optimizer.zero_grad()
        total = 0.0
        for size in sizes:
            batch = next(stream).tensors
            assert len(batch["mix"]) == size
            loss = _spectral_sum(model(batch["mix"]), batch["target"], windows)
            loss.backward()
            total += loss.item()
        for param in params:
            param.grad /= sizes[0] if added else sum(sizes)
        nn.utils.clip_grad_norm_(params, clip or float("inf"))
        optimizer.step()
        schedule.step()
        losses.append(total / sum(sizes))
        n = update if update <= RESTART else update - RESTART
        decay = 0.0 if update == RESTART else min(DECAY, (1 + n) / (10 + n))
        average = [
            decay * old + (1 - decay) * new.detach()
            for old, new in zip(average, params, strict=True)
        ]
    return losses, average


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_fifty_updates_equal_the_original_loop(tmp_path, make_config, recorder, stop_after, clip):
    windows = [256, 32]
    config = make_config(
        data={"segment_s": 0.125},
        batch={"items": 5, "micro_batch": 2},
        loss={"windows": windows, "reduction": "sum"},
        optimizer={"lr": LR, "clip_norm": clip},
        schedule={"length": "50 updates", "kind": "exponential", "gamma": GAMMA},
        ema={"decay": DECAY, "restart_at": f"{RESTART} updates"},
        validation={"every": "50 updates", "at_start": False},
        checkpoint={"every": "50 updates"},
    )
    recipe = DoubleRecipe(config)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    model = deepcopy(recipe.first_model)
    theirs, average = _original(model, recipe.batches, [2, 2, 1], windows=windows, clip=clip)
    ours = recorder.curve("loss")
    assert list(ours) == list(range(1, 51))
    np.testing.assert_allclose(list(ours.values()), theirs, rtol=1e-5)
    saved = read_manifest(tmp_path / "checkpoints" / "last-000050")
    weights, state = saved.tensors(MODEL), saved.tensors(TRAINING)
    first = dict(recipe.first_model.named_parameters())
    for (name, param), expected in zip(model.named_parameters(), average, strict=True):
        moved = (param - first[name]).abs().max()
        assert moved > LR
        assert (weights[name] - param).abs().max() < 1e-3 * moved
        assert (state[f"ema.{name}"] - expected).abs().max() < 1e-3 * moved


@pytest.mark.parametrize(("eps", "equal"), [(0.25, True), (1.0, False)])
def test_added_gradients_are_averaged_ones_with_eps_divided(
    tmp_path, make_config, recorder, stop_after, eps, equal
):
    """AdamW's step is that of k times the gradient, if eps is k times as large.

    What the experiments of the notebook rely on; here with an eps large enough to matter.
    """
    windows = [256, 32]
    config = make_config(
        data={"segment_s": 0.125},
        batch={"items": 8, "micro_batch": 2},
        loss={"windows": windows, "reduction": "sum"},
        optimizer={"lr": LR, "clip_norm": 0.0, "eps": eps},
        schedule={"length": "20 updates", "kind": "exponential", "gamma": GAMMA},
        validation={"every": "20 updates", "at_start": False},
        checkpoint={"every": "20 updates"},
    )
    recipe = DoubleRecipe(config)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    model = deepcopy(recipe.first_model)
    _original(model, recipe.batches, [2] * 4, windows=windows, eps=1.0, added=True)
    weights = read_manifest(tmp_path / "checkpoints" / "last-000020").tensors(MODEL)
    first = dict(recipe.first_model.named_parameters())
    gaps = [
        (weights[name] - param).abs().max() / (param - first[name]).abs().max()
        for name, param in model.named_parameters()
    ]
    assert max(gaps) < 1e-8 if equal else max(gaps) > 0.1


class KeptGradients(FusedAdamW):
    """Keeps the gradients of the last update as the kernel gets them, divided."""

    def step(self, *, lr, divisor, skipped):
        self.kept = [grad / divisor for grad in self.gradients()]
        super().step(lr=lr, divisor=divisor, skipped=skipped)


@pytest.mark.parametrize("sizes", [[3, 3], [5, 1], [1, 4, 2], [1] * 6, [6]])
@pytest.mark.parametrize(
    "loss",
    [{"kind": "spectral"}, {"kind": "spectral", "reduction": "sum"}, {"kind": "si_sdr"},
     {"kind": "l1"}],
    ids=["mean", "sum", "si_sdr", "l1"],
)  # fmt: skip
def test_gradients_of_micro_batches_are_those_of_one_batch(make_config, loss, sizes):
    config = make_config(loss=loss, optimizer={"clip_norm": 0.0})
    recipe = SeparationRecipe(config)
    torch.manual_seed(0)
    model = recipe.build_model().double()
    whole = {name: x.double() for name, x in recipe.worst_batch(sum(sizes)).tensors.items()}
    parts = {name: x.split(sizes) for name, x in whole.items()}
    batches = [Batch({name: x[k] for name, x in parts.items()}) for k in range(len(sizes))]
    expected = torch.autograd.grad(
        recipe.step(model, Batch(whole), context=StepContext()).loss_sum / sum(sizes),
        list(model.parameters()),
    )
    optimizer = KeptGradients(model, config.optimizer)
    updater = Updater(recipe, model, optimizer, config=config, device=CPU, ema=None)
    result = updater.run(1, batches, lr=1e-3)
    assert result.weight == sum(sizes)
    # SI-SDR removes means, so the gradient of a last bias is zero, but for rounding.
    rounding = 1e-12 * max(theirs.norm() for theirs in expected)
    for ours, theirs in zip(optimizer.kept, expected, strict=True):
        assert ours.dtype == torch.float64
        assert (ours - theirs).norm() <= 1e-6 * theirs.norm() + rounding
