"""Finding and loading checkpoints: for a resume, and for applying a trained model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from engine.checkpoints.files import MODEL, CheckpointError, Manifest, read_manifest
from engine.checkpoints.layout import BROKEN, MANIFEST, choose_checkpoint, list_last
from engine.config.errors import ConfigError
from engine.config.fields import shown
from engine.config.kinds import packages_of
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from models.folders import unused
from models.registry import build_model

_DEVICES = "precision.devices"
# When a run ends changes nothing of what it has learnt so far.
_STOP_RULES = "stop_when."
# The command that applies a checkpoint of a recipe; those of installed packages have none.
_COMMANDS = {
    "separation": "sepdash separate", "transducer": "sepdash transcribe", "ctc": "sepdash transcribe",
    "voice": "sepdash speak",
}  # fmt: skip


class ResumeError(ValueError):
    """A run can't resume from its checkpoint: config or data have changed."""


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint directory meant by `path`.

    Args:
        path: a checkpoint, a run's folder or its `checkpoints` folder; of several it is the one that
            `engine.checkpoints.layout.choose_checkpoint` chooses.

    Raises:
        CheckpointError: when there is none.
    """
    chosen = choose_checkpoint(path)
    if chosen is not None:
        return chosen
    raise CheckpointError(
        f"{path} contains no checkpoint: expected a folder with {MANIFEST}, or the folder of a run "
        "that has saved a checkpoint"
    )


def load_model(path: Path) -> tuple[RunConfig, nn.Module]:
    """Return the config of a checkpoint and its network, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: when there is no checkpoint, it is damaged, of another task, or does not match
            the program.
    """
    manifest = read_manifest(find_checkpoint(path))
    config = config_of(manifest)
    require_recipe(manifest, config, recipe="separation")
    model = build_model(
        config.model, channels=config.audio_data.channels, sources=config.num_sources
    )
    fill(model, manifest)
    return config, model.eval()


def config_of(manifest: Manifest) -> RunConfig:
    """Return the config that a checkpoint was saved with.

    Raises:
        CheckpointError: when this version can't read it.
    """
    try:
        return load_config(manifest.values.get("config", {}))
    except (ConfigError, TypeError, AttributeError, KeyError, RecursionError) as error:
        # A file that others wrote may hold anything where a section should be.
        packages = ", ".join(map(str, dict.fromkeys(manifest.values.get("packages", {}).values())))
        raise CheckpointError(
            f"{manifest.folder}: its config is not valid in this version of sepdash"
            f"{f' (it was saved with {packages})' if packages else ''}: {error}"
        ) from None


def require_recipe(manifest: Manifest, config: RunConfig, *, recipe: str) -> None:
    """Check that a checkpoint is of the recipe that a command applies.

    Raises:
        CheckpointError: naming what it was trained for, and the command for that where there is one.
    """
    if config.recipe == recipe:
        return
    command = _COMMANDS.get(config.recipe)
    advice = f"use `{command}`" if command else f"choose a run of the recipe {recipe!r}"
    raise CheckpointError(
        f"{manifest.folder} was trained for another task (recipe {config.recipe!r}, data.kind = "
        f"{config.data.kind!r}); {advice}"
    )


def fill(model: nn.Module, manifest: Manifest) -> None:
    """Load the weights of a checkpoint into a model built for its config.

    Raises:
        CheckpointError: when they belong to another model.
    """
    weights = manifest.tensors(MODEL)
    wanted = model.state_dict()
    if set(weights) != set(wanted):
        odd = sorted(set(weights) ^ set(wanted))
        raise CheckpointError(
            f"{manifest.folder}: weights do not match the model; they differ in {', '.join(odd[:4])}"
        )
    if odd := [name for name in wanted if weights[name].shape != wanted[name].shape]:
        raise CheckpointError(
            f"{manifest.folder}: weights do not match the model; {odd[0]} has the shape "
            f"{tuple(weights[odd[0]].shape)}, expected {tuple(wanted[odd[0]].shape)}"
        )
    model.load_state_dict(weights)


def newest_intact(folder: Path) -> tuple[Manifest | None, list[str]]:
    """Return the newest intact `last` checkpoint, and the problems of the newer ones that are damaged.

    Damaged ones are renamed to `<name>.broken`, so that no later search reads or counts them.
    """
    problems: list[str] = []
    for candidate in list_last(folder):
        try:
            return read_manifest(candidate), problems
        except CheckpointError as error:
            problems.append(str(error))
            candidate.rename(unused(candidate.with_name(f"{candidate.name}{BROKEN}")))
    return None, problems


def require_same_run(manifest: Manifest, *, config: RunConfig, plan_hash: str) -> list[str]:
    """Check that a checkpoint belongs to this config and this data.

    A setting added since the checkpoint was saved counts as saved with its default. The number of
    processes may differ in mode exact, where the data of an update don't depend on it, and so may the
    rules that end a run early.

    Returns:
        Notes on allowed differences.

    Raises:
        ResumeError: naming every setting that differs.
    """
    saved = manifest.values["config"]
    # A config with a removed setting no longer loads; the setting is then named as a difference.
    with suppress(ConfigError):
        saved = load_config(saved).to_dict()
    differing = dict(_differences(saved, config.to_dict(), key=""))
    notes = []
    if config.batch.mode == "exact" and _DEVICES in differing:
        old, new = differing.pop(_DEVICES)
        notes.append(
            f"continues with {new} process(es) instead of {old}: each update uses the same items, but "
            "sums gradients in another order, so weights agree only up to rounding"
        )
    for key in [key for key in differing if key.startswith(_STOP_RULES)]:
        old, new = differing.pop(key)
        notes.append(f"continues with {key} = {shown(new)} instead of {shown(old)}")
    now = packages_of(config.to_dict())
    notes += [
        f"{key} is of {now[key]}, but the checkpoint was saved with {source}: if it computes something "
        "else, the run is not what it would have been"
        for key, source in manifest.values.get("packages", {}).items()
        if key in now and now[key] != source
    ]
    if differing:
        named = "; ".join(f"{key} (saved {a!r}, now {b!r})" for key, (a, b) in differing.items())
        raise ResumeError(
            f"can't resume from {manifest.folder}: the config differs in {named}. "
            "Restore these settings or enqueue a new run"
        )
    if manifest.values["plan"] != plan_hash:
        raise ResumeError(
            f"can't resume from {manifest.folder}: the training files have changed since this run "
            f"started (plan {manifest.values['plan']}, now {plan_hash}). Restore them or enqueue a new run"
        )
    return notes


def _differences(old: Any, new: Any, *, key: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            inner = f"{key}.{name}" if key else name
            yield from _differences(old.get(name), new.get(name), key=inner)
    elif old != new:
        yield key, (old, new)
