"""Named tensors of declared shapes as one flat vector, so that they are summed in one go.

Owns the layout of that vector, (N,), in the order of the declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from torch import Tensor


class NamedSums:
    """The layout of tensors that a recipe declares by name and shape.

    Attributes:
        size: N.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], *, declared_in: str) -> None:
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._declared_in = declared_in
        self.size = sum(prod(shape) for shape in self._shapes.values())

    def flatten(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the parts of the vector, float32; `torch.cat` makes it.

        Raises:
            ValueError: when names or shapes differ from the declared ones.
        """
        require_names(self._declared_in, values, declared=self._shapes)
        parts = []
        for name, shape in self._shapes.items():
            value = values[name]
            if tuple(value.shape) != shape:
                raise ValueError(
                    f"the recipe's {name!r} has shape {tuple(value.shape)}, but "
                    f"`{self._declared_in}` declares {shape}"
                )
            parts.append(value.detach().float().reshape(-1))
        return parts

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the tensors by name, as views of the vector in their shapes."""
        values, start = {}, 0
        for name, shape in self._shapes.items():
            end = start + prod(shape)
            values[name] = vector[start:end].view(shape)
            start = end
        return values


def require_names(
    what: str, given: Mapping[str, object], *, declared: Mapping[str, object]
) -> None:
    """Refuse other names than those declared.

    Raises:
        ValueError: naming those that differ.
    """
    if given.keys() != declared.keys():
        odd = ", ".join(sorted(given.keys() ^ declared.keys()))
        raise ValueError(f"the {what} of the recipe's step differ from those it declares in: {odd}")
