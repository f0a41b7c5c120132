"""Sends a run's curves to Weights & Biases, if its config enables it.

wandb is imported inside the constructor: most runs never load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.config.schema import RunConfig
from engine.events import Evaluated, Event, PointsRecorded
from jobs.sinks.pump import Pump, Stamped

# Timeout of wandb's own process, generous because a training machine is busy.
_PATIENCE_S = 180.0


class WandbSink:
    """An observer that logs one row for each block of points (the means) and each evaluation.

    Files go to `folder`; a resumed run continues its earlier W&B run, identified by `key`. W&B requires increasing steps, so it drops rows that a resumed run repeats.

    Raises:
        ValueError: when wandb can't start (not logged in, no network).
    """

    def __init__(self, config: RunConfig, *, name: str, key: str, folder: Path) -> None:
        mode = config.logging.wandb
        assert mode != "off", "open_wandb decides"
        import wandb

        try:
            self._run: Any = wandb.init(
                project=config.logging.wandb_project,
                name=name,
                id=key,
                resume="allow" if mode == "online" else None,
                mode=mode,
                dir=folder,
                config=config.to_dict(),
                settings=wandb.Settings(
                    console="off", silent=True, x_disable_stats=True, x_service_wait=_PATIENCE_S
                ),
            )
        except wandb.Error as error:
            raise ValueError(
                f"logging.wandb = {mode!r}: Weights & Biases can't start ({error}); log in with "
                "`wandb login`, or set logging.wandb to 'offline' or 'off'"
            ) from error
        self._teardown = wandb.teardown
        self._pump = Pump(self._log, name="wandb-sink")

    def on_event(self, event: Event) -> None:
        """Buffer one event; returns at once."""
        if isinstance(event, PointsRecorded | Evaluated):
            self._pump.put(event)

    def close(self) -> None:
        """Log the remaining rows and end the W&B run; all rows are on disk when this returns."""
        self._pump.close()
        self._run.finish()
        # wandb's own process writes the last rows after it reports that the run is finished.
        self._teardown()

    def _log(self, batch: Sequence[Stamped]) -> None:
        for _, event in batch:
            if isinstance(event, Evaluated):
                row = {f"valid/{name}": value for name, value in event.metrics.items()}
            elif isinstance(event, PointsRecorded):
                row = {f"train/{name}": _mean(values) for name, values in event.series.items()}
            else:
                continue
            if isinstance(event, Evaluated) and event.late:
                # W&B drops rows of earlier steps: this one joins the next row, with its update beside it.
                self._run.log(
                    {**row, "valid/measured_update": event.counters.updates}, commit=False
                )
            else:
                self._run.log(row, step=event.counters.updates)


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


class NoWandb:
    """The sink where W&B is off."""

    def on_event(self, event: Event) -> None:
        """Ignore the event."""

    def close(self) -> None:
        """Do nothing."""


def open_wandb(config: RunConfig, *, name: str, key: str, folder: Path) -> WandbSink | NoWandb:
    """Return the sink for `logging.wandb` asks for; `key` is the id of the W&B run, of a run for good."""
    if config.logging.wandb == "off":
        return NoWandb()
    return WandbSink(config, name=name, key=key, folder=folder)
