"""A causal stack of transformer layers as in GPT-2, with a cache of keys and values for generation.

Pre-norm layers, learned positions are not its business. Letters: B batch, S places, D channels, H heads,
E channels of a head.
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_INIT_STD = 0.02


class Cache:
    """Keys and values of the places that were read; room for all that will be.

    Args:
        layers: of the stack.
        places: how many there is room for.

    Attributes:
        length: places that were read.
        hidden_BS: bool, the places that later ones must not attend to: padding. None: there is none.
    """

    def __init__(self, layers: int, places: int) -> None:
        self.length = 0
        self.hidden_BS: Tensor | None = None
        self._places = places
        # As the layers compute them, whatever an autocast makes of that.
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * layers

    def extend(
        self, layer: int, key_BHSE: Tensor, *, value_BHSE: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add the new places of a layer; return all keys and values, and the mask (B, 1, 1, S), if any."""
        end = self.length + key_BHSE.shape[2]
        kept = self._kept[layer]
        if kept is None:
            batch, heads, _, each = key_BHSE.shape
            shape = (batch, heads, self._places, each)
            kept = self._kept[layer] = (key_BHSE.new_empty(shape), value_BHSE.new_empty(shape))
        keys, values = kept
        keys[:, :, self.length : end] = key_BHSE
        values[:, :, self.length : end] = value_BHSE
        hidden_BS = self.hidden_BS
        seen = None if hidden_BS is None else ~hidden_BS[:, None, None, :end]
        return keys[:, :, :end], values[:, :, :end], seen


class CausalAttention(nn.Module):
    """Self-attention in which a place sees itself and those before it."""

    def __init__(self, dim: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self._heads, self._dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BSD: Tensor, *, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """Return (B, S, D). With a cache, its first filling takes many places, later ones one each."""
        batch, places, dim = x_BSD.shape
        q, k, v = (
            part.view(batch, places, self._heads, dim // self._heads).transpose(1, 2)
            for part in self.qkv(x_BSD).chunk(3, dim=-1)
        )
        mask: Tensor | None = None
        if cache is not None:
            k, v, mask = cache.extend(layer, k, value_BHSE=v)
            assert places == 1 or cache.length == 0, "places are added one by one"
        # Padding comes last in a first filling, so that no place sees it there.
        first = k.shape[2] == places
        y_BHSE = scaled_dot_product_attention(
            q, k, v,
            attn_mask=None if first else mask,
            is_causal=first and places > 1,
            dropout_p=self._dropout if self.training else 0.0,
        )  # fmt: skip
        return self.drop(self.out(y_BHSE.transpose(1, 2).reshape(batch, places, dim)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention and a feed-forward network of four times the width, each on normalised input."""

    def __init__(self, dim: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, heads, dropout=dropout)
        self.feed_norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU(approximate="tanh")
        self.down = nn.Linear(4 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BSD: Tensor, *, cache: Cache | None = None, layer: int = 0) -> Tensor:
        """Return (B, S, D)."""
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), cache=cache, layer=layer)
        fed_BSD: Tensor = self.drop(self.down(self.act(self.up(self.feed_norm(x_BSD)))))
        return x_BSD + fed_BSD


class CausalStack(nn.Module):
    """The layers, and the norm after the last one.

    Fresh weights as in GPT-2: deviation 0.02, that of what is added to the residual smaller by the root of
    the number of such sums; biases 0.
    """

    def __init__(self, *, layers: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer(dim, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                adds = name.endswith(("attention.out", "down"))
                init_normal(module, std=_INIT_STD / sqrt(2 * layers) if adds else _INIT_STD)

    def forward(self, x_BSD: Tensor, *, cache: Cache | None = None) -> Tensor:
        """Return (B, S, D); padding, if any, stands after the places of an item."""
        x_BSD = self.drop(x_BSD)
        for number, layer in enumerate(self.layers):
            x_BSD = layer(x_BSD, cache=cache, layer=number)
        if cache is not None:
            cache.length += x_BSD.shape[1]
        return self.norm(x_BSD)  # type: ignore[no-any-return]

    def new_cache(self, places: int) -> Cache:
        """Return an empty cache with room for `places`."""
        return Cache(len(self.layers), places)


def init_normal(module: nn.Linear | nn.Embedding, *, std: float = _INIT_STD) -> None:
    """Draw fresh weights as GPT-2 does."""
    nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
