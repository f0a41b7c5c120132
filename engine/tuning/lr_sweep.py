"""The updates of a learning-rate range test: a run's own start, its data and clipping, another clock.

The run is prepared as for training (`engine.training.prepared`), so that weights, stages, batches and
seeds are those of its first updates. Schedule, warm-up, averaging, evaluations and rules that end a
run are out of the way; non-finite updates are skipped as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from engine.config.counters import Counters
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.events import Event
from engine.precision import backend_settings, resolve_device
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.training.prepared import Setup, prepared, run_stages
from engine.training.ranks import Alone
from engine.tuning.lr_curve import LrPoint, has_diverged


class _Never:
    """A control that never asks to stop."""

    def stop_reason(self) -> str | None:
        return None


def config_of_test(config: RunConfig) -> RunConfig:
    """Return the config of a test: one process, no averaging, no copies of the audio."""
    values: dict[str, Any] = config.to_dict()
    values["ema"]["enabled"] = False
    values["precision"]["devices"] = 1
    values["stop_when"] = {}
    values["schedule"] = {"length": values["schedule"]["length"]}
    values["checkpoint"] = {}
    if "cache" in values["data"]:
        # Only runs create copies of the audio.
        values["data"]["cache"] = None
    return load_config(values)


def sweep(
    config: RunConfig,
    lrs: list[float],
    *,
    device: str,
    folder: Path,
    needs: Mapping[str, Path],
    emit: Callable[[Event], None],
) -> Iterator[LrPoint]:
    """Yield the measurement of each update; ends early once the loss has diverged.

    Args:
        config: the run, as `config_of_test` returns it.
        lrs: learning rate of each update.
        device: auto, cpu, cuda or cuda:N.
        folder: an empty folder for what the run would write.
        needs: key of a setting that refers to another run -> its checkpoint.
        emit: receives the events of the preparation.
    """
    with backend_settings(config.precision):
        setup = Setup(
            config,
            open_recipe(config, opening=Opening(folder, needs)),
            folder=folder,
            device=resolve_device(device),
            ranks=Alone(),
            control=_Never(),
            resume=False,
            emit=emit,
        )
        results, _ = run_stages(setup, None)
        with prepared(setup, None, results=results, init_from=needs.get("init_from")) as parts:
            points: list[LrPoint] = []
            counters = Counters()
            for update, lr in enumerate(lrs, 1):
                batches = parts.loader.update()
                result = parts.updater.run(update, batches, lr=lr, counters=counters)
                counters = counters + parts.plan.update_size(update - 1)
                numbers = torch.stack([result.loss_sum, result.weight, result.grad_norm])
                loss_sum, weight, grad_norm = numbers.double().tolist()
                loss = loss_sum / weight if weight else float("nan")
                skipped = not torch.isfinite(numbers).all()
                points.append(LrPoint(lr, float("nan") if skipped else loss, grad_norm=grad_norm))
                yield points[-1]
                if has_diverged(points):
                    return
