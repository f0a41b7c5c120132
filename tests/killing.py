"""A run of the trainer in a process of its own, which a test kills at some place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.events import CheckpointSaved, Event, StageProgressed
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer
from tests.ranks import ROOT


def train(
    config: RunConfig,
    folder: Path,
    *,
    kill_at: tuple[str, int] | None = None,
    needs: Mapping[str, Path] | None = None,
) -> None:
    """Train in a child, from where the folder is, to the end, or until it is killed.

    Args:
        config: the run.
        folder: of the run; made where it is missing.
        kill_at: (name of a stage, steps), or ("update", number of a saved one): killed once that was reached.
        needs: the checkpoints of runs that it needs, by setting.
    """
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    checkpoints = json.dumps({setting: str(path) for setting, path in (needs or {}).items()})
    child = subprocess.Popen(
        [
            sys.executable, "-P", "-m", __name__, json.dumps(config.to_dict()), str(folder), checkpoints,
        ],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        for line in child.stdout:
            name, number = line.split()
            if kill_at is not None and name == kill_at[0] and int(number) >= kill_at[1]:
                child.kill()
                break
    assert child.returncode == (0 if kill_at is None else -signal.SIGKILL)


class _Tell:
    def on_event(self, event: Event) -> None:
        if isinstance(event, StageProgressed):
            print(event.name, event.done, flush=True)
        if isinstance(event, CheckpointSaved) and event.kind == "last":
            print("update", event.counters.updates, flush=True)


class _Never:
    def stop_reason(self) -> str | None:
        return None


def main() -> None:
    """Be the child."""
    config, folder = load_config(json.loads(sys.argv[1])), Path(sys.argv[2])
    needs = {setting: Path(path) for setting, path in json.loads(sys.argv[3]).items()}
    recipe = open_recipe(config, opening=Opening(folder, needs))
    Trainer(config, recipe, folder=folder, observers=[_Tell()], control=_Never()).fit()


if __name__ == "__main__":
    main()
