"""Layer drop: which layers an update skips. Free of torch.

Drawn once per update from (seed, update), so that all micro-batches and processes skip the same
layers, and so does a resumed run or a repeated update.
"""

from __future__ import annotations

from typing import Protocol

from engine.item_random import item_generator


class DropsLayers(Protocol):
    """Settings of a network with layers that an update may skip."""

    @property
    def layers(self) -> int:
        """Number of layers."""

    @property
    def layer_drop(self) -> float:
        """Probability that a layer is skipped."""


def kept_layers(seed: int, update: int, *, model: DropsLayers) -> list[bool] | None:
    """Return whether each layer is applied in an update; None where all are.

    Args:
        seed: seed of the run.
        update: number of the update, from 1; 0 outside of training, where no layer is skipped.
        model: settings of the network.
    """
    if not (update and model.layer_drop):
        return None
    kept = item_generator(seed, 0, update, "layer-drop").random(model.layers) >= model.layer_drop
    return [bool(keep) for keep in kept]
