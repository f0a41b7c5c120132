"""The quantiser of wav2vec 2.0: product codes drawn by Gumbel-softmax, hard and straight-through.

Stateless: temperature and noise come from the caller. Source: Jang et al., 2017 (Gumbel-softmax); Baevski et
al., 2020, section 2 and appendix; initial values as in fairseq. Letters: N places (any leading shape), C
channels, G groups, V entries of a group, D channels of the codes, all groups side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Quantised:
    """What a quantiser returns.

    Attributes:
        vectors_ND: the chosen entries; their gradient reaches the logits as that of the soft choice would.
        codes_NG: int64, which entry of each group was chosen.
        logits_NGV: float32, before noise and temperature.
    """

    vectors_ND: Tensor
    codes_NG: Tensor
    logits_NGV: Tensor


class GumbelQuantiser(nn.Module):
    """Chooses one of V entries in each of G groups for every place.

    Args:
        channels: C.
        groups: G.
        entries: V.
        dim: D, a multiple of G.
    """

    def __init__(self, channels: int, *, groups: int, entries: int, dim: int) -> None:
        super().__init__()
        self.groups, self.entries = groups, entries
        self.to_logits = nn.Linear(channels, groups * entries)
        # Logits of layer-normed input have a deviation of sqrt(C), so choices are nearly hard from the start.
        nn.init.normal_(self.to_logits.weight)
        nn.init.zeros_(self.to_logits.bias)
        self.codebook = nn.Parameter(torch.rand(groups, entries, dim // groups))

    def logits(self, x_NC: Tensor) -> Tensor:
        """Return (N, G, V) in float32, whatever the autocast: bfloat16 has steps of 0.25 at their size."""
        with torch.autocast(x_NC.device.type, enabled=False):
            flat_NV = self.to_logits(x_NC.to(self.to_logits.weight.dtype))
        return flat_NV.view(*x_NC.shape[:-1], self.groups, self.entries)  # type: ignore[no-any-return]

    def forward(
        self, x_NC: Tensor, *, temperature: float = 1.0, noise_NGV: Tensor | None = None
    ) -> Quantised:
        """Quantise features.

        Args:
            x_NC: the features.
            temperature: of the soft choice that gradients see.
            noise_NGV: Gumbel noise; None takes the most likely entry, without a gradient to the logits.
        """
        logits_NGV = self.logits(x_NC)
        noisy_NGV = logits_NGV if noise_NGV is None else logits_NGV + noise_NGV
        codes_NG = noisy_NGV.argmax(dim=-1)
        choice_NGV = nn.functional.one_hot(codes_NG, self.entries).to(logits_NGV.dtype)
        if noise_NGV is not None:
            soft_NGV = (noisy_NGV / temperature).softmax(dim=-1)
            # The difference is exactly 0, so the choice stays exactly one-hot.
            choice_NGV = choice_NGV + (soft_NGV - soft_NGV.detach())
        with torch.autocast(x_NC.device.type, enabled=False):
            vectors_NGD = torch.einsum("...gv,gvd->...gd", choice_NGV, self.codebook)
        return Quantised(vectors_NGD.flatten(-2), codes_NG, logits_NGV)
