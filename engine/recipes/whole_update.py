"""Loss terms of sums over a whole update, in its micro-batches; for recipes that look ahead.

With S = sum over micro-batches b of s_b, a loss g(S) has the gradient g'(S) * sum of ds_b. So each
micro-batch takes g at the whole S with its own gradient only (`with_own_gradient`), and counts its value
in part (`counted_in_part`): values and gradients of all of them sum to those of one batch.
"""

from __future__ import annotations

from torch import Tensor


def with_own_gradient(total: Tensor, own: Tensor) -> Tensor:
    """Return `total`, the sum over the update, with the gradient of `own`, this micro-batch's share."""
    return total + (own - own.detach()).to(total.dtype)


def counted_in_part(loss: Tensor, share: Tensor | float) -> Tensor:
    """Return `share` of the value of a loss, with all of its gradient; shares sum to 1 over the update."""
    return loss + (share - 1) * loss.detach()
