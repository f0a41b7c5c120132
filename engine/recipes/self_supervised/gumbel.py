"""Temperature and noise of the Gumbel-softmax, both without state.

The temperature is a function of the counters. The noise is a function of the item, so that it is the same
however an update is split: a counter-based generator in integer arithmetic (the finaliser of SplitMix64,
Steele et al., 2014), on the device, from one key an item. Letters: B items, M places, G groups, V entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.config.counters import Counters
from engine.config.self_supervised import Wav2Vec2Loss
from engine.config.span import Span

# Of SplitMix64, as signed numbers: the odd step between states, and the two multipliers.
_STEP, _FIRST, _SECOND = (
    value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
# Numbers of 23 bits and a half are exact in float32 and never round to 0 or 1.
_BITS = 23


def gumbel_temperature(loss: Wav2Vec2Loss, counters: Counters, *, length: Span) -> float:
    """Return the temperature of the update that follows `counters`.

    It falls by the factor `gumbel_decay` an update, as published; where that is none, by equal factors so
    that it reaches its end after `gumbel_share` of the run, whatever the clock of `length` is.

    Args:
        loss: the settings.
        counters: what was done before the update.
        length: that of the run.
    """
    start, end = loss.gumbel_start, loss.gumbel_end
    if loss.gumbel_decay is not None:
        return float(max(end, start * loss.gumbel_decay**counters.updates))
    done = counters.on(length) / (loss.gumbel_share * length.amount)
    return float(start * (end / start) ** min(1.0, done))


def gumbel_noise(key_B: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return (B, M, G, V) float32 of standard Gumbel noise, between -2.8 and 16.7.

    Args:
        key_B: int64, drawn by the generator of each item.
        shape: M, G, V; a place has the same noise whatever M is.
    """
    places, groups, entries = shape
    count = torch.arange(1, places * groups * entries + 1, device=key_B.device)
    # The key is mixed first, so that neighbouring keys share no stretch of states.
    state = _mixed(key_B)[:, None] + count * _STEP
    number = (_mixed(state) >> (64 - _BITS)) & (2**_BITS - 1)
    uniform = (number.float() + 0.5) * 2.0**-_BITS
    noise: Tensor = -(-uniform.log()).log()
    return noise.view(-1, places, groups, entries)


def _mixed(state: Tensor) -> Tensor:
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    mixed: Tensor = state ^ _shifted(state, 31)
    return mixed


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Return the logical shift to the right; that of a signed number repeats its sign."""
    shifted: Tensor = (state >> bits) & (2 ** (64 - bits) - 1)
    return shifted
