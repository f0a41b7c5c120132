"""Tables with a row for each token, carried over to another vocabulary: rows follow the names of their tokens.

Owns which rows of a checkpoint mean the same in a fresh model; a token that is new keeps the row that it was
built with. Letters: V tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.config.errors import counted
from engine.recipes.weights import TokenTables

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Carried:
    """Weights whose tables fit another vocabulary.

    Attributes:
        tensors: those of the checkpoint; tables have the rows of the fresh model where a token is new.
        text: what became of the vocabulary, for the log; empty where it is the same.
        lost: the names of tokens that the fresh model does not have.
    """

    tensors: dict[str, Tensor]
    text: str = ""
    lost: tuple[str, ...] = ()


def carried(
    trained: Mapping[str, Tensor], fresh: Mapping[str, Tensor], *, tables: TokenTables
) -> Carried:
    """Return the weights of a checkpoint with its tables in the order of a fresh model's tokens.

    Args:
        trained: tensors of the checkpoint.
        fresh: those of the model; they are not changed.
        tables: which of them are tables, and how their rows are named.
    """
    held = tables.vocabulary
    if held not in trained or held not in fresh or torch.equal(trained[held], fresh[held]):
        return Carried(dict(trained))
    old, new = (list(tables.names(tensors[held])) for tensors in (trained, fresh))
    place = {name: row for row, name in enumerate(old)}
    pairs = [(row, place[name]) for row, name in enumerate(new) if name in place]
    to_V, from_V = (
        torch.tensor([pair[side] for pair in pairs], dtype=torch.long) for side in (0, 1)
    )
    result = {**trained, held: fresh[held]}
    for name in tables.tensors:
        ours, theirs = fresh.get(name), trained.get(name)
        if (
            ours is None
            or theirs is None
            or not _are_tables(ours, theirs, counts=(len(new), len(old)))
        ):
            continue
        rows = ours.clone()
        rows[to_V] = theirs[from_V].to(rows.dtype)
        result[name] = rows
    known = set(old)
    lost = tuple(name for name in old if name not in set(new))
    added = [name for name in new if name not in known]
    return Carried(result, _text(len(pairs), added=added, lost=lost), lost=lost)


def _are_tables(ours: Tensor, theirs: Tensor, *, counts: tuple[int, int]) -> bool:
    """Return whether both have a row for each of their tokens, and rows of one shape."""
    return (
        ours.ndim > 0 and (len(ours), len(theirs)) == counts and ours.shape[1:] == theirs.shape[1:]
    )


def _text(kept: int, *, added: list[str], lost: tuple[str, ...]) -> str:
    parts = [f"{counted(kept, 'token')} kept"]
    if added:
        parts.append(f"{len(added)} new and untrained ({some_tokens(added)})")
    if lost:
        parts.append(f"{len(lost)} not in this vocabulary ({some_tokens(lost)})")
    return f"the vocabulary is another one, so rows follow the names of tokens: {', '.join(parts)}"


def some_tokens(names: Sequence[str]) -> str:
    """Return the first of some tokens, as messages write them."""
    shown = ", ".join(map(repr, names[:_MOST_NAMED]))
    return f"{shown}, ..." if len(names) > _MOST_NAMED else shown
