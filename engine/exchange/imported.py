"""Writes what was imported as a checkpoint, as if a run had saved it before its first update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from engine.checkpoints.files import MODEL, write_checkpoint
from engine.checkpoints.layout import IMPORTED
from engine.checkpoints.recipe_files import RECIPE, RECIPE_VALUES, RecipeParts
from engine.config.counters import Counters
from engine.config.schema import RunConfig


def write_imported(out: Path, config: RunConfig, *, model: nn.Module, parts: RecipeParts) -> None:
    """Write a checkpoint of a model with the config of a run that would have trained it."""
    about = {
        "config": config.to_dict(), "fingerprint": config.fingerprint, "plan": "", "kind": IMPORTED,
        "metrics": {}, "counters": asdict(Counters()),
    }  # fmt: skip
    tensors: dict[str, Mapping[str, Tensor]] = {MODEL: model.state_dict()}
    documents: dict[str, Mapping[str, Any]] = {}
    if parts:
        tensors[RECIPE], documents[RECIPE_VALUES] = parts.tensors(), parts.values()
    write_checkpoint(out, about, tensors=tensors, documents=documents)
