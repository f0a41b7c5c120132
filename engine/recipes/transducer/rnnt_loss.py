"""The transducer loss, and how the joint network runs in slices.

The joint network's output, (B, T, U + 1, V), is by far the largest tensor of a transducer. In slices
of a batch only one slice of it exists at a time. Letters: B batch, T encoder frames, U tokens, D
channels, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.speech import BLANK
from models.transducer import Transducer


@dataclass(frozen=True, slots=True)
class Lattices:
    """The inputs of the joint network: encodings and predictions, with their valid lengths.

    Attributes:
        enc_BTD: encodings.
        pred_BUD: (B, U + 1, D), predictions before each token and after the last.
        tokens_BU: targets.
        enc_lengths: B lengths, 1 <= length <= T; plain numbers, since slices are cut by them.
        token_lengths: B lengths, 0 <= length <= U.
    """

    enc_BTD: Tensor
    pred_BUD: Tensor
    tokens_BU: Tensor
    enc_lengths: Sequence[int]
    token_lengths: Sequence[int]

    def costs(self) -> list[int]:
        """Return T (U + 1) of each utterance: its share of the joint network's output."""
        return [
            frames * (tokens + 1)
            for frames, tokens in zip(self.enc_lengths, self.token_lengths, strict=True)
        ]

    def part(self, rows: list[int]) -> Lattices:
        """Return some utterances, cut to the longest of them."""
        enc_lengths = [self.enc_lengths[row] for row in rows]
        token_lengths = [self.token_lengths[row] for row in rows]
        return Lattices(
            self.enc_BTD[rows, : max(enc_lengths)],
            self.pred_BUD[rows, : max(token_lengths) + 1],
            tokens_BU=self.tokens_BU[rows, : max(token_lengths)],
            enc_lengths=enc_lengths,
            token_lengths=token_lengths,
        )

    def detached(self, dtype: torch.dtype) -> Lattices:
        """Return the same with encodings and predictions as leaves of a graph of their own."""
        return replace(
            self,
            enc_BTD=self.enc_BTD.detach().to(dtype).requires_grad_(),
            pred_BUD=self.pred_BUD.detach().to(dtype).requires_grad_(),
        )


def transducer_loss(model: Transducer, lattices: Lattices, *, slices: int = 1) -> Tensor:
    """Return the sum over utterances of -log P(tokens | audio), ().

    With more than one slice, forward and backward of joint network and loss run here, slice after
    slice, and what comes back carries the gradients of encoder, predictor and joint network; the
    result and its gradients are those of one slice, up to the order of sums.
    """
    parts = cut(lattices.costs(), slices)
    if len(parts) == 1 or not torch.is_grad_enabled():
        return item_losses(model, lattices, slices=slices).sum()
    parameters = [p for p in model.joiner.parameters() if p.requires_grad]
    inputs = (lattices.enc_BTD, lattices.pred_BUD, *parameters)
    total: Tensor = _Sliced.apply(model, lattices, parts, parameters, *inputs)  # type: ignore[no-untyped-call]
    return total


def item_losses(model: Transducer, lattices: Lattices, *, slices: int = 1) -> Tensor:
    """Return -log P(tokens | audio) of each utterance, (B,); slices spare memory without gradients."""
    parts = cut(lattices.costs(), slices)
    losses = torch.cat([_losses_of(model, lattices.part(rows)) for rows in parts])
    places = torch.tensor([row for rows in parts for row in rows], device=losses.device)
    return losses[places.argsort()]


def cut(costs: Sequence[int], slices: int) -> list[list[int]]:
    """Deal utterances into at most `slices` groups, sizes as equal as can be, like beside like."""
    order = sorted(range(len(costs)), key=lambda row: (-costs[row], row))
    count = min(slices, len(order))
    size, more = divmod(len(order), count)
    ends = [number * size + min(number, more) for number in range(count + 1)]
    return [order[start:end] for start, end in pairwise(ends)]


def rnnt_losses(
    logits_BTUV: Tensor, tokens_BU: Tensor, enc_lengths: Sequence[int], token_lengths: Sequence[int]
) -> Tensor:
    """Return -log P of each utterance, (B,); shapes must be those of the longest of the batch.

    float64 goes through `reference_losses`, everything else through torchaudio in float32.
    """
    if logits_BTUV.dtype == torch.float64:
        return reference_losses(logits_BTUV, tokens_BU, enc_lengths, token_lengths)
    from torchaudio.functional import rnnt_loss

    losses_B: Tensor = rnnt_loss(
        logits_BTUV.float(),
        tokens_BU.int().contiguous(),
        tokens_BU.new_tensor(list(enc_lengths), dtype=torch.int32),
        tokens_BU.new_tensor(list(token_lengths), dtype=torch.int32),
        blank=BLANK,
        reduction="none",
    )
    return losses_B


def reference_losses(
    logits_BTUV: Tensor, tokens_BU: Tensor, enc_lengths: Sequence[int], token_lengths: Sequence[int]
) -> Tensor:
    """Return -log P of each utterance, (B,), by the forward recursion of Graves (2012) in plain torch.

    alpha(t, u) = logaddexp(alpha(t - 1, u) + blank(t - 1, u), alpha(t, u - 1) + token(t, u - 1)), where
    the second way is a cumulative sum along u. For float64, and to check torchaudio's kernel.
    """
    log_BTUV = torch.log_softmax(logits_BTUV, dim=-1)
    frames = log_BTUV.shape[1]
    blank_BTU = log_BTUV[..., BLANK]
    index_BTU1 = tokens_BU[:, None, :, None].expand(-1, frames, -1, 1)
    token_BTU = log_BTUV[:, :, :-1].gather(3, index_BTU1).squeeze(3)
    along_BTU = nn.functional.pad(token_BTU.cumsum(dim=2), (1, 0))
    alphas = [along_BTU[:, 0]]
    for t in range(1, frames):
        from_before_BU = alphas[-1] + blank_BTU[:, t - 1] - along_BTU[:, t]
        alphas.append(along_BTU[:, t] + torch.logcumsumexp(from_before_BU, dim=1))
    ends = enumerate(zip(enc_lengths, token_lengths, strict=True))
    return torch.stack([-(alphas[t - 1][b, u] + blank_BTU[b, t - 1, u]) for b, (t, u) in ends])


class _Sliced(torch.autograd.Function):
    """Joint network and loss, forward and backward, one slice after another.

    The backward pass happens in `forward`, on detached encodings and predictions; `backward` only
    returns these gradients, multiplied by the incoming gradient of the loss: the loss scale of fp16
    training. That comes too late to bring gradients inside the slices into the range of fp16, so under
    fp16 autocast the slices run in float32, which the loss needs anyway; bf16 stays bf16.
    """

    @staticmethod
    def forward(
        ctx: Any,
        model: Transducer,
        lattices: Lattices,
        parts: Sequence[list[int]],
        parameters: Sequence[nn.Parameter],
        *inputs: Tensor,
    ) -> Tensor:
        grads = [_wide_zeros(tensor) for tensor in inputs]
        total = torch.zeros((), device=inputs[0].device, dtype=grads[0].dtype)
        fp16 = _is_fp16(inputs[0])
        for rows in parts:
            part = lattices.part(rows).detached(total.dtype if fp16 else inputs[0].dtype)
            leaves = (part.enc_BTD, part.pred_BUD, *parameters)
            with torch.enable_grad(), _without_autocast(total) if fp16 else nullcontext():
                loss = _losses_of(model, part).sum()
            # Products of a backward pass would be cast as well.
            with _without_autocast(total):
                enc_BTD, pred_BUD, *joint = torch.autograd.grad(loss, leaves)
            total += loss.detach()
            grads[0][rows, : enc_BTD.shape[1]] += enc_BTD
            grads[1][rows, : pred_BUD.shape[1]] += pred_BUD
            for grad, more in zip(grads[2:], joint, strict=True):
                grad += more
        ctx.save_for_backward(*grads)
        ctx.dtypes = [tensor.dtype for tensor in inputs]
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad_output,) = grad_outputs
        grads = [
            (grad * grad_output).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return None, None, None, None, *grads


def _losses_of(model: Transducer, lattices: Lattices) -> Tensor:
    logits_BTUV = model.join(lattices.enc_BTD, lattices.pred_BUD)
    return rnnt_losses(
        logits_BTUV, lattices.tokens_BU, lattices.enc_lengths, lattices.token_lengths
    )


def _is_fp16(tensor: Tensor) -> bool:
    device = tensor.device.type
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def _without_autocast(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


def _wide_zeros(tensor: Tensor) -> Tensor:
    """Return zeros to sum gradients in: float32 where the tensor is of less precision."""
    dtype = tensor.dtype if tensor.dtype == torch.float64 else torch.float32
    return torch.zeros_like(tensor, dtype=dtype)
