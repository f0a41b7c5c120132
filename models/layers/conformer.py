"""torchaudio's Conformer layer, run so that padded frames enter no convolution and no norm.

The group norm of a convolution module runs over channels and time of the valid frames, which is what
torchaudio computes for an utterance without padding. Letters: B batch, T frames, D channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def conformer_layer(layer: Any, x_TBD: Tensor, *, padded_BT: Tensor | None) -> Tensor:
    """Run one `torchaudio.models.conformer.ConformerLayer`, convolution after attention.

    Args:
        layer: the layer, built with `use_group_norm=True`.
        x_TBD: its input; padded frames mean nothing.
        padded_BT: bool, which frames are padding; None where none is.
    """
    x_TBD = x_TBD + 0.5 * layer.ffn1(x_TBD)
    y_TBD = layer.self_attn_layer_norm(x_TBD)
    y_TBD, _ = layer.self_attn(y_TBD, y_TBD, y_TBD, key_padding_mask=padded_BT, need_weights=False)
    x_TBD = x_TBD + layer.self_attn_dropout(y_TBD)
    x_TBD = x_TBD + _convolution(layer.conv_module, x_TBD, padded_BT=padded_BT)
    x_TBD = x_TBD + 0.5 * layer.ffn2(x_TBD)
    normed_TBD: Tensor = layer.final_layer_norm(x_TBD)
    return normed_TBD


def _convolution(module: Any, x_TBD: Tensor, *, padded_BT: Tensor | None) -> Tensor:
    pointwise, gate, depthwise, norm, activation, out, dropout = module.sequential
    x_BDT = gate(pointwise(module.layer_norm(x_TBD).permute(1, 2, 0)))
    if padded_BT is None:
        x_BDT = norm(depthwise(x_BDT))
    else:
        hidden_B1T = padded_BT.unsqueeze(1)
        x_BDT = depthwise(x_BDT.masked_fill(hidden_B1T, 0.0))
        x_BDT = _group_norm(norm, x_BDT, hidden_B1T=hidden_B1T)
    y_BDT: Tensor = dropout(out(activation(x_BDT)))
    return y_BDT.permute(2, 0, 1)


def _group_norm(norm: nn.GroupNorm, x_BDT: Tensor, *, hidden_B1T: Tensor) -> Tensor:
    """Normalise each utterance by mean and variance of its valid frames, in one group, in float32."""
    wide = x_BDT if x_BDT.dtype == torch.float64 else x_BDT.float()
    count_B11 = (~hidden_B1T).sum(dim=2, keepdim=True) * x_BDT.shape[1]
    mean_B11 = wide.masked_fill(hidden_B1T, 0.0).sum((1, 2), keepdim=True) / count_B11
    centred = (wide - mean_B11).masked_fill(hidden_B1T, 0.0)
    variance_B11 = centred.square().sum((1, 2), keepdim=True) / count_B11
    y_BDT = centred * torch.rsqrt(variance_B11 + norm.eps)
    return y_BDT * norm.weight[:, None] + norm.bias[:, None]
