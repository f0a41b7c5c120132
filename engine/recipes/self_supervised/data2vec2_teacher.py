"""The teacher of data2vec 2.0: an average of the student's context encoder, and the targets it makes.

It reads the student's own local features, so the convolutions over the waveform have no average.
Letters: B batch, L frames, D channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from engine.config.counters import Counters
from engine.config.data2vec2 import Data2Vec2Loss
from engine.gated import lerp_unless
from models.self_supervised.data2vec2 import ContextEncoder

_EPS = 1e-5


class Teacher:
    """An average of a context encoder, in float32; its decay is a function of the counters."""

    def __init__(self, student: ContextEncoder, settings: Data2Vec2Loss) -> None:
        self._network = copy.deepcopy(student).float().requires_grad_(False).eval()
        self._settings = settings

    @torch.no_grad()
    def targets(self, local_BLD: Tensor, valid_BL: Tensor | None = None) -> Tensor:
        """Return what is to be predicted, float32 (B, L, D): the mean over the last layers.

        Of each layer it is the output of the feed-forward block, normalised over time.
        """
        total_BLD: Tensor | None = None
        count = self._settings.average_layers
        first = len(self._network.layers) - count + 1
        layers = self._network.over_all(local_BLD.detach().float(), valid_BL)
        for number, (_, ffn_BLD) in enumerate(layers):
            if number >= first:
                normed_BLD = normalised_over_time(ffn_BLD, valid_BL)
                total_BLD = normed_BLD if total_BLD is None else total_BLD.add_(normed_BLD)
        assert total_BLD is not None
        return total_BLD.div_(count)

    def decay(self, counters: Counters) -> float:
        """Return the decay at the update that follows `counters`."""
        span = self._settings.teacher_anneal
        return self._settings.decay_at(counters.on(span) / span.amount)

    def follow(self, student: ContextEncoder, *, decay: float, skipped: Tensor) -> None:
        """Move towards the student, unless the update was skipped; a decay of 1 leaves it as it is."""
        if decay < 1:
            lerp_unless(
                skipped,
                list(self._network.parameters()),
                towards=[param.detach().float() for param in student.parameters()],
                share=1 - decay,
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return its weights by name (no copies)."""
        return dict(self._network.state_dict())

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over weights with the names of `tensors()`."""
        self._network.load_state_dict(dict(tensors))


def normalised_over_time(x_BLD: Tensor, valid_BL: Tensor | None = None) -> Tensor:
    """Return each channel of an item with mean 0 and variance 1 over its valid frames, float32."""
    x_BLD = x_BLD.float()
    if valid_BL is None:
        var_B1D, mean_B1D = torch.var_mean(x_BLD, dim=1, correction=0, keepdim=True)
        return (x_BLD - mean_B1D) * (var_B1D + _EPS).rsqrt()
    weight_BL1 = valid_BL[..., None].float()
    count_B11 = weight_BL1.sum(dim=1, keepdim=True).clamp(min=1)
    centred_BLD = x_BLD - (x_BLD * weight_BL1).sum(dim=1, keepdim=True) / count_B11
    centred_BLD = centred_BLD * weight_BL1
    var_B1D = centred_BLD.square().sum(dim=1, keepdim=True) / count_B11
    return centred_BLD * (var_B1D + _EPS).rsqrt()
