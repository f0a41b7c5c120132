"""The complete state of a training run, saved and restored as one object.

Tensor names: `model.*`, `ema.*`, `optimizer.*`, `loss_scale.*`, `telemetry.*`, `watch.*`, `rng.*`. Pure
functions of the counters (schedule, plan position, EMA decay) are not state. What the recipe
keeps is in files of its own (`engine.checkpoints.recipe_files`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from engine.checkpoints.files import MODEL, STATE, TRAINING, CheckpointError, Manifest
from engine.checkpoints.layout import best_name, last_name
from engine.checkpoints.writer import Save, SnapshotBuffers
from engine.metrics.best import BestMetrics
from engine.metrics.registry import variant_of
from engine.precision import LossScale
from engine.torch_random import RngState, rng_state, set_rng_state
from engine.training.curves import Telemetry
from engine.training.ema import Ema
from engine.training.optimizer import FusedAdamW
from engine.training.out_of_memory import MemoryLimits
from engine.training.overfitting import OverfitWatch
from engine.training.recipe_parts import OwnParts
from engine.training.stopping import StopRules
from engine.training.watching import CurveWatch

# What comes of values that are not those of a state: of another type, too large, or missing.
_UNUSABLE = (
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    TypeError,
    ValueError,
    OverflowError,
)


@dataclass(slots=True)
class TrainingState:
    """The parts of a run that change during training.

    `number_format` is what `precision.dtype = auto` came to on this device; empty for any other.
    `evaluation_due` says that the evaluation of this update is still to be made.
    """

    model: nn.Module
    optimizer: FusedAdamW
    ema: Ema | None
    loss_scale: LossScale | None
    telemetry: Telemetry
    best: BestMetrics
    limits: MemoryLimits
    own: OwnParts
    stop_rules: StopRules
    overfit: OverfitWatch
    watch: CurveWatch | None = None
    number_format: str = ""
    evaluation_due: bool = False

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state except the model's (no copies)."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "optimizer": self.optimizer.state_dict(),
            "telemetry": self.telemetry.state_dict(),
            "rng": rng_state().tensors,
        }
        if self.ema is not None:
            groups["ema"] = self.ema.state_dict()
        if self.loss_scale is not None:
            groups["loss_scale"] = self.loss_scale.state_dict()
        if self.watch is not None:
            groups["watch"] = self.watch.tensors()
        return {
            f"{group}.{name}": tensor
            for group, some in groups.items()
            for name, tensor in some.items()
        }

    def values(self) -> dict[str, Any]:
        """Return the state that is not tensors, as JSON values."""
        return {
            "best": self.best.state_dict(),
            "rng": rng_state().values,
            "memory_limits": self.limits.state_dict(),
            "stop_rules": self.stop_rules.state_dict(),
            "overfit": self.overfit.state_dict(),
            **({} if self.watch is None else {"watch": self.watch.values()}),
            **({"number_format": self.number_format} if self.number_format else {}),
            **({"evaluation_due": True} if self.evaluation_due else {}),
        }

    def restore(self, manifest: Manifest) -> list[str]:
        """Restore the state from a checkpoint; return notes for the user.

        Raises:
            CheckpointError: when state is missing, or this run does not use all of it.
        """
        state = manifest.state()
        tensors = manifest.tensors(TRAINING)
        try:
            self.model.load_state_dict(manifest.tensors(MODEL))
            self.optimizer.load_state_dict(_pop_group(tensors, "optimizer"))
            self.telemetry.load_state_dict(_pop_group(tensors, "telemetry"))
            if self.ema is not None:
                self.ema.load_state_dict(_pop_group(tensors, "ema"))
            if self.loss_scale is not None:
                self.loss_scale.load_state_dict(_pop_group(tensors, "loss_scale"))
            if self.watch is not None:
                watched = _pop_group(tensors, "watch")
                self.watch.load_state_dict(watched, state.get("watch", {}))
            self.best.load_state_dict(state["best"])
            # Checkpoints of earlier versions have no limits and no evaluations.
            self.limits.load_state_dict(state.get("memory_limits", {}))
            note = self.stop_rules.load_state_dict(state.get("stop_rules", {}))
            self.overfit.load_state_dict(state.get("overfit", {}))
            self.evaluation_due = state.get("evaluation_due") is True
            self.own.restore(manifest)
            set_rng_state(RngState(_pop_group(tensors, "rng"), state["rng"]))
        except _UNUSABLE as error:
            raise CheckpointError(f"{manifest.folder} does not match this run: {error}") from error
        if tensors:
            odd = ", ".join(sorted(tensors)[:4])
            raise CheckpointError(
                f"{manifest.folder} contains state that this run does not use: {odd}"
            )
        notes = [note] if note else []
        before = state.get("number_format", self.number_format)
        if before != self.number_format:
            notes.append(
                f"precision.dtype = auto: this device computes in {self.number_format}, the updates so far "
                f"were made in {before}"
            )
        return notes


class StateSaver:
    """Builds the saves of a run from snapshots of its state."""

    def __init__(self, state: TrainingState, about: Mapping[str, Any]) -> None:
        self._state = state
        self._about = dict(about)
        self._buffers = SnapshotBuffers()

    def snapshot(
        self,
        *,
        update: int,
        counters: Mapping[str, Any],
        best: Sequence[str],
        last: bool,
        metrics: Mapping[str, float],
    ) -> list[Save]:
        """Copy the state; return a `best-<metric>` for each of `best`, and `last-<update>` if asked.

        Only the tensors are copied; nothing is written. Call it only once the previous snapshot is on disk.
        """
        state = self._state
        own = {f"model.{name}": tensor for name, tensor in state.model.state_dict().items()}
        kept = {f"recipe.{name}": tensor for name, tensor in state.own.tensors().items()}
        copies = self._buffers.take({**own, **state.tensors(), **kept})
        raw = _pop_group(copies, "model")
        recipe, documents = state.own.files(_pop_group(copies, "recipe"))
        average = {**raw, **{n[4:]: t for n, t in copies.items() if n.startswith("ema.")}}
        about = {**self._about, "counters": dict(counters)}
        saves = [
            Save(
                best_name(metric),
                {**about, "kind": best_name(metric), "metrics": dict(metrics)},
                tensors={MODEL: average if variant_of(metric).ema else raw, **recipe},
                documents=documents,
            )
            for metric in best
        ]
        if not last:
            return saves
        whole = Save(
            last_name(update),
            {**about, "kind": "last", "metrics": dict(metrics)},
            tensors={MODEL: raw, TRAINING: copies, **recipe},
            documents={STATE: state.values(), **documents},
        )
        return [*saves, whole]


def _pop_group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    """Take the tensors named `group.*` out of `tensors`."""
    prefix = f"{group}."
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
