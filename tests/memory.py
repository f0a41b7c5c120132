"""What a step of a recipe keeps, and whether the memory law predicts it.

Counted is what a step keeps for its backward pass, which is most of the peak; unlike a peak it is the
same in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.recipes.base import KeepsState, StepContext
from engine.tuning.law import MemoryLaw, Probe, fit_law

LENGTHS_S = (1.0, 3.0, 6.0)

# (items, seconds of each) -> bytes
Kept = Callable[[int, float], int]


def kept_by(recipe: Any) -> Kept:
    """Return what counts the bytes that a step of noise keeps."""
    torch.manual_seed(0)
    network = recipe.build_model()
    if isinstance(recipe, KeepsState):
        recipe.start_state(network, torch.device("cpu"))

    def kept(count: int, length_s: float) -> int:
        batch = recipe.worst_batch(count, (length_s,))
        return kept_in(lambda: recipe.step(network, batch, context=StepContext(update=1)))

    return kept


def kept_in(forward: Callable[[], object], *, beside: Iterable[Tensor] = ()) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, `beside` those of some tensors."""
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    there = {tensor.untyped_storage().data_ptr() for tensor in beside}
    return sum(t.untyped_storage().nbytes() for place, t in storages.items() if place not in there)


def law_of(kept: Kept) -> MemoryLaw:
    """Return the law that six batches of 1 to 6 s give."""
    return fit_law([Probe(n, s, kept(n, s)) for s in LENGTHS_S for n in (1, 2)])


def assert_six_probes_predict_others(kept: Kept, *, error: float) -> None:
    """Check batches of other sizes and lengths against the law of six."""
    law = law_of(kept)
    for count, length_s in ((5, 1.5), (3, 4.4), (7, 2.2), (4, 6.0)):
        assert law.peak(count, length_s) == pytest.approx(kept(count, length_s), rel=error)
