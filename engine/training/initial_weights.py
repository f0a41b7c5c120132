"""Trained weights as the beginning of another run: `init_from`.

Owns which tensors fit a fresh model. Optimizer, counters and schedules start from nothing, and the
average of the weights starts from what is loaded here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.checkpoints.files import MODEL, read_manifest
from engine.recipes.weights import BorrowsWeights, TokenTables
from engine.training.token_rows import Carried, carried, some_tokens

_MOST_NAMED = 6
_GONE = (
    "init_from: the weights this run started from are missing, and it has no intact checkpoint of its own; "
    "enqueue it again with other weights"
)


class InitError(ValueError):
    """Trained weights that can't be the beginning of this run."""


def load_initial_weights(
    model: nn.Module,
    folder: Path | None,
    *,
    strict: bool,
    borrower: BorrowsWeights | None = None,
    tables: TokenTables | None = None,
) -> str:
    """Copy the weights of a checkpoint into a freshly built model.

    Args:
        model: on the CPU, as the recipe built it.
        folder: the checkpoint; None where it is gone.
        strict: refuse a tensor that is missing, unknown or of another shape; otherwise what does not
            fit is left as it was built.
        borrower: says which tensors come from a model of another recipe.
        tables: those that have a row for each token: rows of tokens that both vocabularies have are kept.

    Returns:
        What was loaded and what was not, for the log.

    Raises:
        InitError: when they don't fit, naming tensors and shapes, or are gone.
        CheckpointError: when there is no checkpoint, or it is damaged.
    """
    if folder is None:
        raise InitError(_GONE)
    manifest = read_manifest(folder)
    trained, fresh = manifest.tensors(MODEL), model.state_dict()
    source = (
        f"starts from {folder}, saved after update {manifest.updates} (content {manifest.content})"
    )
    names = None if borrower is None else borrower.borrowed(model, trained.keys())
    if names is not None:
        return f"{source}: {_borrow(trained, model, names=names, strict=strict, folder=folder)}"
    kept = Carried(trained) if tables is None else carried(trained, fresh, tables=tables)
    if kept.lost and strict:
        raise _lost(kept.lost, folder)
    trained = kept.tensors
    misfits = _misfits(trained, fresh)
    if misfits and strict:
        raise InitError(
            f"init_from: the weights in {folder} do not match this model: {_some(misfits)}. Use the model "
            "and data settings they were trained with, or set init_strict = false to load the matching "
            "tensors"
        )
    fitting = {name: tensor for name, tensor in trained.items() if _fits(name, tensor, fresh=fresh)}
    if not fitting:
        raise InitError(
            f"init_from: no tensor in {folder} matches this model: {_some(misfits)}. Choose a run of a "
            "similar model"
        )
    _copy(fitting, fresh)
    text = f"{source}; {kept.text}" if kept.text else source
    if misfits:
        text += (
            f": {len(fitting)} of {len(fresh)} tensors of the model loaded, the others are "
            f"untrained; skipped: {_some(misfits)}"
        )
    return text


def _lost(tokens: Sequence[str], folder: Path) -> InitError:
    return InitError(
        f"init_from: the model in {folder} has tokens that this run has not ({some_tokens(tokens)}); add them "
        "to data.vocabulary, or set init_strict = false to drop them"
    )


def _borrow(
    trained: dict[str, Tensor],
    model: nn.Module,
    *,
    names: Mapping[str, str],
    strict: bool,
    folder: Path,
) -> str:
    """Copy a part of another model; return what was loaded, what is new, and what was not used."""
    fresh = model.state_dict()
    wanted = {name: fresh[name] for name in names}
    given = {name: trained[source] for name, source in names.items() if source in trained}
    misfits = _misfits(given, wanted)
    fitting = {name: tensor for name, tensor in given.items() if _fits(name, tensor, fresh=wanted)}
    if misfits and (strict or not fitting):
        raise InitError(
            f"init_from: the encoder in {folder} does not match that of this model: {_some(misfits)}. Use "
            "the model settings it was pre-trained with"
            + ("" if not strict else ", or set init_strict = false to load the matching tensors")
        )
    _copy(fitting, fresh)
    # Statistics and names of tokens come from the data: they are there, and not weights.
    new = sorted(name for name, _ in model.named_parameters() if name not in fitting)
    unused = sorted(trained.keys() - {names[name] for name in fitting})
    return "; ".join(
        f"{what}: {_some(found)}" if found else what
        for what, found in (
            (f"{len(fitting)} of {len(names)} tensors of the encoder loaded", misfits),
            ("new", new),
            ("not used", unused),
        )
        if found or what not in ("new", "not used")
    )


def _copy(tensors: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in tensors.items():
            fresh[name].copy_(tensor)


def _fits(name: str, tensor: Tensor, *, fresh: dict[str, Tensor]) -> bool:
    wanted = fresh.get(name)
    if wanted is None or wanted.shape != tensor.shape:
        return False
    # Byte tensors hold token names (transducer), not weights.
    return wanted.dtype != torch.uint8 or torch.equal(wanted, tensor)


def _misfits(trained: dict[str, Tensor], fresh: dict[str, Tensor]) -> list[str]:
    """Describe each tensor that does not match."""
    misfits = []
    for name in sorted({*trained, *fresh}):
        if name not in trained:
            misfits.append(f"{name} is missing in the checkpoint")
        elif name not in fresh:
            misfits.append(f"{name} is unknown to this model")
        elif trained[name].shape != fresh[name].shape:
            misfits.append(
                f"{name} has shape {_shape(trained[name])}, expected {_shape(fresh[name])}"
            )
        elif not _fits(name, trained[name], fresh=fresh):
            misfits.append(f"{name} has other content")
    return misfits


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _some(misfits: list[str]) -> str:
    more = len(misfits) - _MOST_NAMED
    return "; ".join(misfits[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
