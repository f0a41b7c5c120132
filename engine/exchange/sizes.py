"""The settings of an encoder from the shapes of its weights, and from what the library says of it.

Shapes tell all but the strides of the convolutions, the number of attention heads and where layer norms
stand: these come from the library's own config, from a person, or from what is published for the
size. Letters: C channels, D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from engine.exchange.spelling import Library
from engine.exchange.weight_files import WeightsError

_CONV = "feature_extractor.conv_layers.{}.{}"
_PROJECTION = "encoder.feature_projection.projection.weight"
_POSITION = "encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1"
_LAYER = re.compile(r"encoder\.transformer\.layers\.(\d+)\.")
_FFN = "encoder.transformer.layers.0.feed_forward.intermediate_dense.weight"

# Kernels and strides of every published size, and heads by width: BASE, LARGE, XLARGE.
_PUBLISHED_KERNELS, _PUBLISHED_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
_PUBLISHED_HEADS = {768: 12, 1024: 16, 1280: 16}
_STACK = re.compile(r"\((\d+), ?(\d+), ?(\d+)\)\]?(?: ?\* ?(\d+))?")


@dataclass(frozen=True, slots=True)
class Hints:
    """What shapes don't tell; None where nobody said it.

    Attributes:
        strides: of the convolutions.
        heads: per layer.
        layer_norm_first: before attention and feed-forward instead of after them.
    """

    strides: tuple[int, ...] | None = None
    heads: int | None = None
    layer_norm_first: bool | None = None

    def or_else(self, other: Hints) -> Hints:
        """Fill what is not said here from `other`."""
        return Hints(
            self.strides or other.strides,
            self.heads or other.heads,
            other.layer_norm_first if self.layer_norm_first is None else self.layer_norm_first,
        )


def hints_of(config: Mapping[str, Any], library: Library) -> Hints:
    """Return what the config of a library says; what it does not say, or not so, is None."""
    if library == "transformers":
        strides, heads = config.get("conv_stride"), config.get("num_attention_heads")
        first = config.get("do_stable_layer_norm")
    elif library == "fairseq":
        inner = config.get("model", config)
        inner = inner if isinstance(inner, Mapping) else {}
        if isinstance(inner.get("w2v_args"), Mapping):
            inner = inner["w2v_args"].get("model", inner)
        strides = _strides_in(inner.get("conv_feature_layers"))
        heads, first = inner.get("encoder_attention_heads"), inner.get("layer_norm_first")
    else:
        return Hints()
    whole = isinstance(strides, Sequence) and all(isinstance(one, int) for one in strides)
    return Hints(
        tuple(strides) if whole and strides and not isinstance(strides, str) else None,
        heads if isinstance(heads, int) and not isinstance(heads, bool) else None,
        first if isinstance(first, bool) else None,
    )


def encoder_settings(tensors: Mapping[str, Tensor], hints: Hints) -> dict[str, Any]:
    """Return the settings of `WaveformEncoderSettings` that weights, in the names of here, belong to.

    Raises:
        WeightsError: naming what is missing, or what can't be known.
    """
    convolutions = _convolutions(tensors)
    kernels = tuple(weight.shape[2] for weight in convolutions)
    strides = hints.strides
    if strides is None and kernels == _PUBLISHED_KERNELS:
        strides = _PUBLISHED_STRIDES
    if strides is None or len(strides) != len(kernels):
        raise WeightsError(
            f"the file does not say the strides of its {len(kernels)} convolutions (kernels "
            f"{', '.join(map(str, kernels))}); give them with --strides"
        )
    dim = _shape(tensors, _PROJECTION, dims=2)[0]
    heads = hints.heads or _PUBLISHED_HEADS.get(dim)
    if heads is None:
        raise WeightsError(
            f"the file does not say the number of attention heads of its layers (width {dim}); give it "
            "with --heads"
        )
    norms = [_CONV.format(n, "layer_norm.weight") in tensors for n in range(len(kernels))]
    if not (all(norms) or norms == [True] + [False] * (len(norms) - 1)):
        raise WeightsError(
            "some convolutions have a layer norm and some have none; expected all, or a group norm of the "
            "first"
        )
    _, shared, kernel = _shape(tensors, _POSITION, dims=3)
    has_layer_norm = all(norms) and len(norms) > 1
    first = has_layer_norm if hints.layer_norm_first is None else hints.layer_norm_first
    return {
        "conv_channels": [weight.shape[0] for weight in convolutions],
        "conv_kernels": list(kernels),
        "conv_strides": list(strides),
        "extractor_norm": "layer_norm" if has_layer_norm else "group_norm",
        "conv_bias": _CONV.format(0, "conv.bias") in tensors,
        "layers": 1 + max((int(m[1]) for name in tensors if (m := _LAYER.match(name))), default=-1),
        "dim": dim,
        "heads": heads,
        "ffn": _shape(tensors, _FFN, dims=2)[0],
        "layer_norm_first": first,
        "pos_conv_kernel": kernel,
        "pos_conv_groups": dim // max(1, shared),
    }


def _convolutions(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    found: list[Tensor] = []
    while (name := _CONV.format(len(found), "conv.weight")) in tensors:
        _shape(tensors, name, dims=3)
        found.append(tensors[name])
    if not found:
        raise WeightsError("the file has no convolutions of a waveform encoder")
    return found


def _shape(tensors: Mapping[str, Tensor], name: str, *, dims: int) -> tuple[int, ...]:
    tensor = tensors.get(name)
    if tensor is None or tensor.dim() != dims:
        what = "is missing" if tensor is None else f"has {tensor.dim()} dimensions, expected {dims}"
        raise WeightsError(f"{name} {what} in the file")
    return tuple(tensor.shape)


def _strides_in(text: object) -> list[int] | None:
    """Read fairseq's "[(512, 10, 5)] + [(512, 3, 2)] * 4"; it is never evaluated."""
    if not isinstance(text, str):
        return None
    return [
        int(m[3]) for m in _STACK.finditer(text) for _ in range(min(64, int(m[4] or 1)))
    ] or None
