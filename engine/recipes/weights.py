"""What a recipe may say of its weights: which are trained alike, which come from another model, which are tables."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that are trained alike.

    Attributes:
        name: names the group in checkpoints.
        parameters: their names in the model.
        lr_ratio: their learning rate relative to that of the schedule.
    """

    name: str
    parameters: Sequence[str]
    lr_ratio: float = 1.0


@runtime_checkable
class GroupsParameters(Protocol):
    """A recipe whose parameters are trained at different rates, or some of them from a later update on.

    A group that has no gradient in an update stands still: its moments and its count of steps, too.
    """

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """Return groups that hold every trainable parameter of the model once."""


@runtime_checkable
class BorrowsWeights(Protocol):
    """A recipe whose model can start from a part of a model of another recipe, such as its encoder."""

    def borrowed(self, model: nn.Module, trained: Collection[str]) -> Mapping[str, str] | None:
        """Return which tensors come from where: name in the model -> name in the checkpoint.

        Every one of them must be there and fit; what is not named is new.

        Args:
            model: as `build_model` returned it.
            trained: names of the tensors of the checkpoint.

        Returns:
            None where the checkpoint is of a model of the same kind, to be taken as a whole.
        """


@dataclass(frozen=True, slots=True)
class TokenTables:
    """The tensors of a model that have a row for each token.

    Attributes:
        vocabulary: the tensor that names the tokens; a model keeps its own.
        tensors: the tables, (V, ...) each.
        names: the value of `vocabulary` -> V different names of tokens, in the order of their rows.
    """

    vocabulary: str
    tensors: Sequence[str]
    names: Callable[[Tensor], Sequence[str]]


@runtime_checkable
class HasTokenTables(Protocol):
    """A recipe whose weights can begin a run with another vocabulary: rows follow the names of tokens."""

    @property
    def token_tables(self) -> TokenTables:
        """Return the tables of the model."""
