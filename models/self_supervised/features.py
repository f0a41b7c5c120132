"""What a network offers whose frames are used as features: for clusters, probes and export.

Letters: B batch, T samples, L frames, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class GivesLayerFeatures(Protocol):
    """A network of waveforms whose frames of every layer can be asked for."""

    @property
    def num_layers(self) -> int:
        """Return the number of layers; `layer_features` returns one entry more."""

    def frames_of(self, samples: int) -> int:
        """Return how many frames a waveform of `samples` gives."""

    def layer_features(self, wave_BT: Tensor, lengths_B: Tensor | None = None) -> list[Tensor]:
        """Return frames (B, L, D) of every layer, without masks, dropout and gradients.

        Entry 0 is the input of layer 1, after projection and position; entry k the output of layer k.
        `lengths_B` are in samples, None where nothing is padded; frames after the length of an item
        mean nothing.
        """


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into its own afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
