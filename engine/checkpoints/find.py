"""Finding and loading checkpoints: for a resume, and for applying a trained model.

The layout of a run's `checkpoints` folder: `last-000123` directories hold everything a resume needs,
`best-<metric>` directories hold the weights that were measured best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from engine.checkpoints.files import MODEL, CheckpointError, Manifest, read_manifest
from engine.checkpoints.layout import MANIFEST
from engine.checkpoints.writer import list_last
from engine.config.errors import ConfigError
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.metrics.best import best_checkpoint
from models.registry import build_model

_DEVICES = "precision.devices"


class ResumeError(ValueError):
    """A run can't go on from its checkpoint, since it would not be the same run."""


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint directory meant by `path`.

    Args:
        path: a checkpoint, a run's folder or its `checkpoints` folder; of several it is the one that
            `engine.metrics.best.best_checkpoint` chooses.

    Raises:
        CheckpointError: when there is none.
    """
    for folder in (path, path / "checkpoints"):
        if (folder / MANIFEST).is_file():
            return folder
        by_kind = {
            place.name: read_manifest(place, verify=False).values.get("metrics", {})
            for place in folder.glob("best-*")
            if (place / MANIFEST).is_file()
        }
        if (kind := best_checkpoint(by_kind)) is not None:
            return folder / kind
        for newest in list_last(folder):
            if (newest / MANIFEST).is_file():
                return newest
    raise CheckpointError(
        f"{path} holds no checkpoint: expected a folder with {MANIFEST}, or the folder of a run that "
        "has saved one"
    )


def load_model(path: Path) -> tuple[RunConfig, nn.Module]:
    """Return the config of a checkpoint and its network, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: when there is no checkpoint, it is damaged, of another task, or does not fit
            the program.
    """
    manifest = read_manifest(find_checkpoint(path))
    config = config_of(manifest)
    if config.recipe != "separation":
        raise CheckpointError(
            f"{manifest.folder} is of a model that writes text; use `sepdash transcribe`"
        )
    model = build_model(
        config.model, channels=config.audio_data.channels, sources=config.num_sources
    )
    fill(model, manifest)
    return config, model.eval()


def config_of(manifest: Manifest) -> RunConfig:
    """Return the config that a checkpoint was made with.

    Raises:
        CheckpointError: when it is not one of this program.
    """
    try:
        return load_config(manifest.values["config"])
    except ConfigError as error:
        raise CheckpointError(
            f"{manifest.folder} has a config this program can't use: {error}"
        ) from None


def fill(model: nn.Module, manifest: Manifest) -> None:
    """Load the weights of a checkpoint into a model built for its config.

    Raises:
        CheckpointError: when they are those of another model.
    """
    weights = manifest.tensors(MODEL)
    wanted = model.state_dict()
    if set(weights) != set(wanted):
        odd = sorted(set(weights) ^ set(wanted))
        raise CheckpointError(f"{manifest.folder} holds other weights than its model: {odd[:4]}")
    model.load_state_dict(weights)


def newest_intact(folder: Path) -> tuple[Manifest | None, list[str]]:
    """Return the newest `last` checkpoint that is intact, and what is wrong with those passed over.

    Broken ones are renamed to `<name>.broken`, so that they are neither read nor counted again.
    """
    problems: list[str] = []
    for candidate in list_last(folder):
        try:
            return read_manifest(candidate), problems
        except CheckpointError as error:
            problems.append(str(error))
            candidate.rename(candidate.with_name(f"{candidate.name}.broken"))
    return None, problems


def require_same_run(manifest: Manifest, *, config: RunConfig, plan_hash: str) -> list[str]:
    """Check that a checkpoint belongs to this config and this data.

    A setting that is younger than the checkpoint counts as saved with its default. The number of
    processes may differ where the data of an update don't depend on it: in mode exact.

    Returns:
        What differs all the same, to be noted.

    Raises:
        ResumeError: naming every setting that differs.
    """
    saved = manifest.values["config"]
    # A setting that is gone by now is no config any more; it is named as a difference.
    with suppress(ConfigError):
        saved = load_config(saved).to_dict()
    differing = dict(_differences(saved, config.to_dict(), ""))
    notes = []
    if config.batch.mode == "exact" and _DEVICES in differing:
        old, new = differing.pop(_DEVICES)
        notes.append(
            f"goes on with {new} process(es) instead of {old}: the same items in every update, added "
            "up in another order, so that weights agree to rounding"
        )
    if differing:
        named = "; ".join(f"{key} (saved {a!r}, now {b!r})" for key, (a, b) in differing.items())
        raise ResumeError(
            f"can't resume from {manifest.folder}: the config differs in {named}. "
            "Enqueue a new run, or put the settings back"
        )
    if manifest.values["plan"] != plan_hash:
        raise ResumeError(
            f"can't resume from {manifest.folder}: the training files are not those it was made with "
            f"(plan {manifest.values['plan']}, now {plan_hash}). Put them back, or enqueue a new run"
        )
    return notes


def _differences(old: Any, new: Any, key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            inner = f"{key}.{name}" if key else name
            yield from _differences(old.get(name), new.get(name), inner)
    elif old != new:
        yield key, (old, new)
