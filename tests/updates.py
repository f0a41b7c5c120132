"""One update, made in ways that must have the gradients of one batch: in parts, with little memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.config.schema import RunConfig
from engine.recipes.base import StepContext
from engine.training.optimizer import FusedAdamW
from engine.training.ranks import Alone, Ranks
from engine.training.updates import Updater

# Items of each micro-batch; they are dealt to ranks in turn. Of two ranks, one has no item of "one batch".
SPLITS: Mapping[str, Sequence[Sequence[int]]] = {
    "one batch": ((0, 1, 2, 3, 4, 5),),
    "even": ((0, 1, 2), (3, 4, 5)),
    "ragged": ((5,), (3, 1, 0, 2), (4,)),
    "one each": ((0,), (1,), (2,), (3,), (4,), (5,)),
}


class KeepingAdamW(FusedAdamW):
    """Keeps the gradients that it steps by: those in the parameters are overwritten."""

    def step(self, *, lr: float, divisor: Tensor, skipped: Tensor) -> None:
        self.kept = [gradient / divisor for gradient in self.gradients()]
        super().step(lr=lr, divisor=divisor, skipped=skipped)


def limit_memory(recipe: Any, fits: int, where: str) -> None:
    """Let a recipe run out of memory with more than `fits` items in `where`: "look", "step", or a part of that.

    The parts are "begin" and "finish" (`BeginsSteps`).
    """
    if where == "finish":
        recipe.begin = finishing_short(recipe.begin, fits)
        return
    names = ["step", "begin"] if where == "step" and hasattr(recipe, "begin") else [where]
    for name in names:
        setattr(recipe, name, short(getattr(recipe, name), fits))


def short(whole: Callable[..., Any], fits: int) -> Callable[..., Any]:
    """Return a part of a recipe that runs out of memory with more than `fits` items."""

    def limited(model: nn.Module, batch: Batch, *, context: StepContext) -> Any:
        if len(next(iter(batch.tensors.values()))) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return whole(model, batch, context=context)

    return limited


def finishing_short(begin: Callable[..., Any], fits: int) -> Callable[..., Any]:
    """Return `begin` whose second part runs out of memory with more than `fits` items."""

    def begun(model: nn.Module, batch: Batch, *, context: StepContext) -> Any:
        found, finish = begin(model, batch, context=context)
        rest = short(lambda model, batch, *, context: finish(context), fits)
        return found, lambda context: rest(model, batch, context=context)

    return begun


def make_update(
    recipe: Any,
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    config: RunConfig,
    ranks: Ranks | None = None,
    lr: float = 0.0,
    number: int = 3,
) -> dict[str, Any]:
    """Make an update; return its gradients, as the optimizer got them, and what else it came to."""
    optimizer = KeepingAdamW(model, config.optimizer)
    updater = Updater(
        recipe, model, optimizer, config=config, device=torch.device("cpu"), ema=None, ranks=ranks or Alone(),
    )  # fmt: skip
    result = updater.run(number, list(batches), lr=lr)
    sums = torch.zeros(0, 2) if result.metrics is None else result.metrics.view(-1, 2)
    return {
        "gradients": optimizer.kept,
        "loss": (result.loss_sum / result.weight).item(),
        "metrics": (sums[:, 0] / sums[:, 1]).tolist(),
        "pieces": result.num_pieces,
        "shortages": len(result.shortages),
    }


def assert_equal_gradients(found: Sequence[Tensor], whole: Sequence[Tensor]) -> None:
    """Within 1e-6 of the largest."""
    scale = max(gradient.abs().max() for gradient in whole)
    assert scale > 0
    for ours, theirs in zip(found, whole, strict=True):
        assert (ours - theirs).abs().max() < 1e-6 * scale


def assert_equal_updates(found: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    """Gradients within 1e-6 of the largest; loss and curves, too."""
    assert_equal_gradients(found["gradients"], whole["gradients"])
    assert found["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert found["metrics"] == pytest.approx(whole["metrics"], rel=1e-5, nan_ok=True)
