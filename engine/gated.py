"""Writes that a flag on the device switches off: an update that is skipped leaves everything as it was.

The flag is () 1.0 where the update was not finite, else 0.0, on the device of what is written. On a
GPU nothing here waits for it. Owns no state: average, teacher and codebook are their owners'.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def lerp_unless(
    skipped: Tensor,
    averages: Sequence[Tensor],
    *,
    towards: Sequence[Tensor],
    share: float,
    one_by_one: bool = False,
) -> None:
    """Move each average by `share` of its distance to `towards`, unless the update was skipped.

    Nothing has changed when memory runs out in here, but with `one_by_one`.

    Args:
        skipped: the flag.
        averages: written in place.
        towards: as many tensors of the same shapes; must be finite.
        share: 0 leaves an average where it is, 1 copies.
        one_by_one: take memory for one tensor at a time, not for all; slower on a GPU.
    """
    averages, towards = list(averages), list(towards)
    if skipped.is_cpu:
        if not skipped.item():
            torch._foreach_lerp_(averages, towards, share)
        return
    # On a GPU the flag must stay on the device: a share of 0 leaves the average as it is.
    gated = (1.0 - skipped) * share
    if one_by_one:
        for average, param in zip(averages, towards, strict=True):
            average.add_((param - average).mul_(gated))
        return
    moves = torch._foreach_sub(towards, averages)
    torch._foreach_mul_(moves, gated)
    torch._foreach_add_(averages, moves)


@torch.no_grad()
def assign_unless(skipped: Tensor, tensors: Sequence[Tensor], *, values: Sequence[Tensor]) -> None:
    """Write each value into its tensor, unless the update was skipped; then values may be NaN."""
    if skipped.is_cpu:
        if not skipped.item():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        return
    kept = skipped > 0
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(torch.where(kept, tensor, value))
