"""A loss that is not linear in means over the whole update, and updates of it; also one of several processes.

Letters: B batch, T frames, V codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.config.loading import load_config
from engine.recipes.base import StepContext, StepOutput
from engine.recipes.whole_update import Finish, counted_in_part, with_own_gradient
from engine.training.ranks import Ranks
from tests.ranks import take_part
from tests.updates import SPLITS, limit_memory, make_update

LENGTHS = (7, 1, 4, 9, 2, 5)
LONGEST, V = max(LENGTHS), 5
DIVERSITY, PENALTY = 3.0, 0.7


class Net(nn.Module):
    """Gives each frame an estimate and a soft code; counts the frames it has seen, as a batch norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, 8), nn.Tanh())
        self.estimate, self.code = nn.Linear(8, 1), nn.Linear(8, V)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.calls += 1
        hidden_BTD = self.body(x_BT[..., None])
        return hidden_BTD, self.estimate(hidden_BTD)[..., 0], self.code(hidden_BTD).softmax(-1)


def terms(model: Net, batch: Batch) -> dict[str, Tensor]:
    """Return sums of one batch: of the error, soft codes and squares, and what each is divided by."""
    x_BT, length_B = batch.tensors["x"], batch.tensors["length"]
    inside_BT = torch.arange(x_BT.shape[1]) < length_B[:, None]
    masked_BT = inside_BT & (x_BT > 0)
    hidden_BTD, est_BT, code_BTV = model(x_BT)
    return {
        "error": ((est_BT - 2 * x_BT - 1).square() * inside_BT).sum(), "frames": inside_BT.sum(),
        "codes": (code_BTV * masked_BT[..., None]).sum((0, 1)), "masked": masked_BT.sum(),
        "squares": (hidden_BTD.square().mean(-1) * inside_BT).sum(), "items": torch.tensor(len(x_BT)),
    }  # fmt: skip


def negative_entropy(codes_V: Tensor, masked: Tensor) -> Tensor:
    """Return the sum of p ln p of the mean soft code."""
    mean_V = codes_V / masked
    return (mean_V * mean_V.log()).sum()


def one_batch_gradients(batch: Batch) -> list[Tensor]:
    """Return the gradients by the definition, of all items at once."""
    model = new_model()
    found = terms(model, batch)
    loss = found["error"] / found["frames"] + PENALTY * found["squares"] / found["items"]
    loss = loss + DIVERSITY * negative_entropy(found["codes"], found["masked"])
    return list(torch.autograd.grad(loss, list(model.parameters())))


class LookingRecipe:
    """The same loss from micro-batches; keeps what its passes were."""

    loss_unit = ""
    ahead_shapes: Mapping[str, tuple[int, ...]] = {
        "codes": (V,),
        "masked": (),
        "frames": (),
        "items": (),
    }

    def __init__(self) -> None:
        self.passes: list[tuple[str, int, StepContext, float]] = []

    def look(self, model: Net, batch: Batch, *, context: StepContext) -> Mapping[str, Tensor]:
        assert not torch.is_grad_enabled()
        assert not context.ahead
        self._note("look", batch, context)
        found = terms(model, batch)
        return {name: found[name] for name in self.ahead_shapes}

    def step(self, model: Net, batch: Batch, *, context: StepContext) -> StepOutput:
        self._note("step", batch, context)
        own = terms(model, batch)
        ahead = context.ahead or {name: value.detach() for name, value in own.items()}
        return self.made(own, ahead)

    def made(self, own: dict[str, Tensor], ahead: Mapping[str, Tensor]) -> StepOutput:
        """Return the loss of a micro-batch, given the sums of the update."""
        diversity = negative_entropy(
            with_own_gradient(ahead["codes"], own["codes"]), ahead["masked"]
        )
        loss = own["error"] + PENALTY * own["squares"] * ahead["frames"] / ahead["items"]
        share = own["frames"] / ahead["frames"]
        loss = loss + counted_in_part(DIVERSITY * ahead["frames"] * diversity, share)
        return StepOutput(loss, own["frames"].float())

    def _note(self, kind: str, batch: Batch, context: StepContext) -> None:
        self.passes.append((kind, len(batch.tensors["x"]), context, torch.rand(()).item()))


class BeginningRecipe(LookingRecipe):
    """Goes on from its first look."""

    def begin(
        self, model: Net, batch: Batch, *, context: StepContext
    ) -> tuple[Mapping[str, Tensor], Finish]:
        assert torch.is_grad_enabled()
        assert not context.ahead
        self._note("begin", batch, context)
        own = terms(model, batch)

        def finish(context: StepContext) -> StepOutput:
            self._note("finish", batch, context)
            return self.made(own, context.ahead)

        return {name: own[name].detach() for name in self.ahead_shapes}, finish


def new_model() -> Net:
    torch.manual_seed(0)
    return Net()


def batch_of(*items: int) -> Batch:
    """Return items, padded to the longest of all."""
    generator = torch.Generator().manual_seed(1)
    x_BT = torch.randn(len(LENGTHS), LONGEST, generator=generator)
    length_B = torch.tensor(LENGTHS)
    x_BT = x_BT * (torch.arange(LONGEST) < length_B[:, None])
    return Batch({"x": x_BT[list(items)], "length": length_B[list(items)]})


def update(
    recipe: Any, batches: list[Batch], *, ranks: Ranks | None = None, **sections: Any
) -> dict[str, Any]:
    """Make an update that changes nothing; return its gradients and what it came to."""
    config = load_config(
        {
            "data": {"kind": "bandwidth", "train": "unused", "valid": "unused"},
            "optimizer": {"clip_norm": 0.0},
            **sections,
        }
    )
    model = new_model()
    made = make_update(recipe, model, batches, config=config, ranks=ranks)
    return {**made, "calls": model.calls.item()}


def work(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Make the updates of one of several processes; memory is short on the last one."""
    found = {}
    for name, split in SPLITS.items():
        batches = [batch_of(*items) for items in split][ranks.rank :: ranks.world]
        found[name] = update(LookingRecipe(), batches, ranks=ranks)
        for where in ("look", "step"):
            recipe = LookingRecipe()
            if ranks.rank == ranks.world - 1:
                limit_memory(recipe, 1, where)
            found[f"{name}, short in {where}"] = update(recipe, batches, ranks=ranks)
        beginner = BeginningRecipe()
        found[f"{name}, begun"] = update(beginner, batches, ranks=ranks)
        found[f"{name}, begun"]["kinds"] = [kind for kind, *_ in beginner.passes]
        for where in ("begin", "finish"):
            recipe = BeginningRecipe()
            if ranks.rank == ranks.world - 1:
                limit_memory(recipe, 1, where)
            found[f"{name}, short in {where}"] = update(recipe, batches, ranks=ranks)
    return found


if __name__ == "__main__":
    take_part(work)
