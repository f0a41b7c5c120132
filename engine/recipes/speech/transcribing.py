"""From a checkpoint to what transcribes audio by it, whatever recipe trained it."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.checkpoints.files import read_manifest
from engine.checkpoints.find import config_of, find_checkpoint, require_recipe
from engine.recipes.specs import spec_of
from engine.recipes.speech.transcriber import Transcriber
from models.entry_points import load_target


def load_transcriber(path: Path, device: torch.device) -> Transcriber:
    """Return the transcriber of a checkpoint; no other file is needed.

    Raises:
        CheckpointError: when there is no checkpoint, it is damaged, or not of a speech recogniser.
    """
    manifest = read_manifest(find_checkpoint(path))
    config = config_of(manifest)
    target = spec_of(config.recipe).transcribes
    if not target:
        require_recipe(manifest, config, recipe="transducer")
    transcriber: Transcriber = load_target(target)(config, manifest, device=device)
    return transcriber
