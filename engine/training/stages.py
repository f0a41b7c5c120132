"""Stages before training: run in order, saved as they go, stopped at any step, continued where they were.

A stage is a walk of pure steps (`engine.recipes.base.Stage`), so a kill costs what was done since
the last save and changes nothing; one whose product stays in memory (`Stage.feeds`) is run again. Owns
the folder `stages` of a run: below it one checkpoint for each stage, partial or complete. The first rank
walks; the others wait, and read what it has saved.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import torch

from engine.checkpoints.files import (
    STATE,
    CheckpointError,
    Manifest,
    read_manifest,
    tidy,
    write_checkpoint,
)
from engine.checkpoints.find import require_same_run
from engine.checkpoints.layout import BROKEN, MANIFEST
from engine.checkpoints.recipe_files import RecipeState
from engine.config.schema import RunConfig
from engine.events import Control, Event, Noticed, StageProgressed
from engine.recipes.base import Recipe, RunsStages, Stage
from engine.torch_random import seed_torch, torch_seed
from engine.training.ranks import Ranks
from models.folders import unused

FOLDER = "stages"

_TENSORS = "stage.safetensors"
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
# Progress is reported at most so often, but at the start and at the end of a stage.
_REPORT_EVERY_S = 0.5


class Stages:
    """Makes the stages of a recipe, if it has any.

    Args:
        recipe: the task.
        config: the run; a stage that another config saved is refused.
        folder: the run's own folder.
        device: where steps compute.
        ranks: the processes of the run.
        control: asked before each step whether to stop.
        emit: receives progress and notices.
    """

    def __init__(
        self,
        recipe: Recipe,
        config: RunConfig,
        *,
        folder: Path,
        device: torch.device,
        ranks: Ranks,
        control: Control,
        emit: Callable[[Event], None],
    ) -> None:
        self._recipe = recipe if isinstance(recipe, RunsStages) else None
        self._data = recipe.manifest("train") if self._recipe is not None else ""
        self._config = config
        self._folder = folder / FOLDER
        self._device = device
        self._ranks = ranks
        self._leads = ranks.rank == 0
        self._control = control
        self._emit = emit
        self.results: dict[str, RecipeState] = {}

    def run(self, known: Mapping[str, RecipeState], *, resume: bool) -> str | None:
        """Compute missing results and pass each to the recipe; return why the run stops, or None.

        Args:
            known: results that the checkpoint to go on from holds.
            resume: go on from what is in the run's folder; otherwise it is removed.

        Raises:
            ResumeError: when a stage was saved by another config, or of other data.
            CheckpointError: when a stage can't be saved.
        """
        if self._recipe is None:
            return None
        if self._leads:
            tidy(self._folder)
            if not resume:
                shutil.rmtree(self._folder, ignore_errors=True)
        stages = list(self._recipe.stages())
        _require_names(stages)
        for number, stage in enumerate(stages, 1):
            if stage.feeds and self._is_there(stage.feeds, stages, known=known):
                continue
            result = known.get(stage.name)
            if result is None or self._is_lost(stage, result):
                reason = self._make(stage, number=number, count=len(stages))
                if reason is not None:
                    return reason
                if stage.feeds:
                    continue
                result = self._result(stage)
            self._recipe.use(stage.name, result)
            self.results[stage.name] = result
        return None

    def _is_there(
        self, name: str, stages: Sequence[Stage], *, known: Mapping[str, RecipeState]
    ) -> bool:
        """Return whether a stage is complete."""
        if name in known:
            return True
        stage = next(stage for stage in stages if stage.name == name)
        saved = self._saved(stage) if self._leads else None
        return bool(self._ranks.gather(saved is not None and saved.values["complete"])[0])

    def _is_lost(self, stage: Stage, result: RecipeState) -> bool:
        """Return whether files of a stage are lost: it is then said, and forgotten what was saved."""
        why = stage.lost(result) if self._leads else ""
        if why:
            self._say_lost(stage, why)
        return bool(self._ranks.gather(why)[0])

    def _say_lost(self, stage: Stage, why: str) -> None:
        text = f"stage {stage.name} is run again: {why}"
        self._emit(Noticed("warning", "stage-lost", message=text))
        shutil.rmtree(self._folder / stage.name, ignore_errors=True)

    def _make(self, stage: Stage, *, number: int, count: int) -> str | None:
        """Have the stage complete in its folder when None is returned, partial otherwise."""
        saved = self._saved(stage) if self._leads and not stage.feeds else None
        complete = saved is not None and saved.values["complete"]
        if complete and saved is not None and (why := stage.lost(_read(saved))):
            self._say_lost(stage, why)
            saved, complete = None, False
        if self._ranks.gather(complete)[0]:
            return None
        walk = _Walk(stage, number=number, count=count, emit=self._emit)
        if self._leads:
            walk.begin(saved)
        while True:
            # The first rank says how far the walk is, and any of them that it has to stop.
            answers = self._ranks.gather((walk.has_ended, self._control.stop_reason()))
            reason = next((reason for _, reason in answers if reason is not None), None)
            ended = answers[0][0]
            if self._leads and (reason is not None or ended or walk.is_save_due):
                self._save(walk, complete=ended and reason is None)
            if reason is not None or ended:
                break
            if self._leads:
                seed_torch(torch_seed(self._config.seed, -number, micro_batch=walk.done))
                walk.step(self._device)
        # Nobody reads what is not yet on disk.
        self._ranks.gather(None)
        return reason

    def _save(self, walk: _Walk, *, complete: bool) -> None:
        state = walk.stage.finish(walk.state) if complete else walk.state
        for level, text in walk.stage.notices(state) if complete else ():
            self._emit(Noticed(level, f"stage-{walk.stage.name}", message=text))
        if walk.stage.feeds:
            return
        about = {
            "kind": "stage",
            "stage": walk.stage.name,
            "complete": complete,
            "done": walk.done,
            "counters": {"updates": 0},
            "config": self._config.to_dict(),
            "plan": self._data,
        }
        tensors = {n: t.detach().cpu().clone().contiguous() for n, t in state.tensors.items()}
        write_checkpoint(
            self._folder / walk.stage.name, about,
            tensors={_TENSORS: tensors}, documents={STATE: state.values},
        )  # fmt: skip
        walk.was_saved()

    def _saved(self, stage: Stage) -> Manifest | None:
        """Return the saved result of a stage; a damaged one is moved aside and reported."""
        folder = self._folder / stage.name
        if not (folder / MANIFEST).exists():
            return None
        try:
            manifest = read_manifest(folder)
        except CheckpointError as error:
            text = f"{error}; restarting stage {stage.name}"
            self._emit(Noticed("warning", "checkpoint-broken", message=text))
            folder.rename(unused(folder.with_name(f"{folder.name}{BROKEN}")))
            return None
        require_same_run(manifest, config=self._config, plan_hash=self._data)
        return manifest

    def _result(self, stage: Stage) -> RecipeState:
        return _read(read_manifest(self._folder / stage.name))


class _Walk:
    """How far one stage is."""

    def __init__(
        self, stage: Stage, *, number: int, count: int, emit: Callable[[Event], None]
    ) -> None:
        self.stage = stage
        self.done = self._total = 0
        self.state = RecipeState()
        self._number, self._count = number, count
        self._emit = emit
        self._reported_at = self._saved_at = perf_counter()
        self._is_new = False

    def begin(self, saved: Manifest | None) -> None:
        """Start from the beginning, or from where it was saved."""
        self._total = self.stage.num_steps()
        if saved is not None:
            self.done, self.state = int(saved.values["done"]), _read(saved)
        else:
            self.state = self.stage.start()
        self._report()

    def step(self, device: torch.device) -> None:
        """Make the next step."""
        self.state = self.stage.step(self.done, self.state, device=device)
        self.done += 1
        self._is_new = True
        if self.has_ended or perf_counter() - self._reported_at >= _REPORT_EVERY_S:
            self._report()

    def was_saved(self) -> None:
        """Note that all of it is on disk."""
        self._saved_at, self._is_new = perf_counter(), False
        self._report(saved=True)

    @property
    def has_ended(self) -> bool:
        """Whether no step is left."""
        return self.done >= self._total

    @property
    def is_save_due(self) -> bool:
        """Whether the last save is long enough ago."""
        return self._is_new and perf_counter() - self._saved_at >= self.stage.save_every_s

    def _report(self, *, saved: bool = False) -> None:
        self._reported_at = perf_counter()
        self._emit(
            StageProgressed(
                self.stage.name, self.done, total=self._total,
                number=self._number, count=self._count, saved=saved,
            )
        )  # fmt: skip


def _read(manifest: Manifest) -> RecipeState:
    return RecipeState(manifest.tensors(_TENSORS), manifest.state())


def _require_names(stages: list[Stage]) -> None:
    names = [stage.name for stage in stages]
    bad = [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]
    if bad:
        raise ValueError(
            f"the recipe has an invalid or duplicate stage name {bad[0]!r}; expected unique names of "
            "lower-case letters, digits, - and _"
        )
