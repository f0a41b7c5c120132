"""The memory law holds for codecs, whose steps keep frames of a crop and sums of a codebook.

Counted is what a step keeps for its backward pass, as for encoders.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from engine.recipes.base import StepContext
from engine.recipes.registry import open_recipe
from engine.tuning.law import Probe, fit_law


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_six_probes_predict_the_memory_of_other_batches(make: Any, quantiser: str) -> None:
    recipe = open_recipe(make(model={"quantiser": quantiser}))
    torch.manual_seed(0)
    network = recipe.build_model()

    def kept(count: int, length_s: float) -> int:
        storages: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        batch = recipe.worst_batch(count, (length_s,))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            recipe.step(network, batch, context=StepContext(update=1))
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())

    law = fit_law([Probe(n, s, kept(n, s)) for s in (1.0, 3.0, 6.0) for n in (1, 2)])
    for count, length_s in ((5, 1.5), (3, 4.4), (7, 2.2), (4, 6.0)):
        # A crop is in whole codes of 48 ms.
        assert law.peak(count, length_s) == pytest.approx(kept(count, length_s), rel=0.03)
