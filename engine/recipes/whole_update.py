"""Loss terms of sums over a whole update, in its micro-batches; for recipes that look ahead (`LooksAhead`).

With S = sum over micro-batches b of s_b, a loss g(S) has the gradient g'(S) * sum of ds_b. So each
micro-batch takes g at the whole S with its own gradient only (`with_own_gradient`), and counts its value
in part (`counted_in_part`): values and gradients of all of them sum to those of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from engine.batching.batch import Batch
from engine.recipes.base import LooksAhead, StepContext, StepOutput

Finish = Callable[[StepContext], StepOutput]


@runtime_checkable
class BeginsSteps(LooksAhead, Protocol):
    """A recipe whose steps go on from their look, so that one micro-batch of each process is not computed twice.

    The first one is begun after the others were looked at, and finished as soon as the sums of the update are
    known, before any other step: what it keeps is what a step keeps, so it takes no further memory. A process
    that has one micro-batch looks at nothing.
    """

    def begin(
        self, model: nn.Module, batch: Batch, *, context: StepContext
    ) -> tuple[Mapping[str, Tensor], Finish]:
        """Return the sums of `look`, detached, and what makes the rest of the step.

        Runs as `step` does, with gradients. The rest is called with the same context, `ahead` added, under
        the same autocast, and draws on; together they draw what `step` would, in the same order.
        """


def with_own_gradient(total: Tensor, own: Tensor) -> Tensor:
    """Return `total`, the sum over the update, with the gradient of `own`, this micro-batch's share."""
    return total + (own - own.detach()).to(total.dtype)


def counted_in_part(loss: Tensor, share: Tensor | float) -> Tensor:
    """Return `share` of the value of a loss, with all of its gradient; shares sum to 1 over the update."""
    return loss + (share - 1) * loss.detach()
