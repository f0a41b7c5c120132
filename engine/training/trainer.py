"""The one training loop: step, log, save, evaluate, stop.

Owns the order of events in a run and nothing else: an update runs in `engine.training.updates`, curves in
`engine.training.curves`, evaluation in `engine.training.validator`, state on disk in `engine.training.state`. Of
several processes (`engine.training.ranks`) all run the updates, and only the first does everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from engine.batching.open_plan import open_plan
from engine.batching.plan import Plan
from engine.batching.report import plan_warnings
from engine.checkpoints.files import Manifest, tidy
from engine.checkpoints.find import newest_intact, require_same_run
from engine.checkpoints.recipe_files import read_recipe_parts
from engine.checkpoints.writer import CheckpointWriter
from engine.config.counters import Counters
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.data.reading.loader import Loader
from engine.evaluation.clips import write_clips
from engine.evaluation.result import Clip
from engine.events import (
    CheckpointSaved,
    ClipsWritten,
    Control,
    Evaluated,
    Event,
    Noticed,
    Observer,
    RunEnded,
    RunStarted,
)
from engine.metrics.best import BestMetrics
from engine.precision import backend_settings, place, resolve_device
from engine.recipes.base import KeepsState, Recipe
from engine.torch_random import seed_everything
from engine.training.curves import SilentTelemetry, Telemetry
from engine.training.ema import Ema
from engine.training.initial_weights import load_initial_weights
from engine.training.optimizer import FusedAdamW
from engine.training.out_of_memory import Shortage
from engine.training.ranks import Alone, Ranks, require_no_batch_norm, state_hash
from engine.training.recipe_parts import OwnParts
from engine.training.schedules import is_due, lr_factor, total_updates
from engine.training.stages import Stages
from engine.training.state import StateSaver, TrainingState
from engine.training.updates import Updater
from engine.training.validator import Validator, metric_unit
from models.registry import count_parameters

_LOG = logging.getLogger(__name__)


class Trainer:
    """Trains one run until it ends or is asked to stop.

    Args:
        config: the run.
        recipe: the task.
        folder: the run's folder; checkpoints go below it.
        observers: receive every event, on the training thread.
        control: asked once per update whether to stop.
        resume: continue from the newest intact checkpoint in `folder`, if any.
        device: where to train; overrides `config.precision.device`.
        ranks: the processes that train together; only the first one has observers.
    """

    def __init__(
        self,
        config: RunConfig,
        recipe: Recipe,
        *,
        folder: Path,
        observers: Sequence[Observer],
        control: Control,
        resume: bool = True,
        device: torch.device | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._config = config
        self._recipe = recipe
        self._folder = folder / "checkpoints"
        self._ranks = ranks or Alone()
        self._leads = self._ranks.rank == 0
        self._observers = list(observers) if self._leads else []
        self._control = control
        self._resume = resume
        self._device = device or self._ranks.device or resolve_device(config.precision.device)
        self._update = self._saved_at = 0
        self._counters = Counters()
        self._metrics: dict[str, float] = {}
        self._new_best: list[str] = []

    def fit(self, *, init_from: Path | None = None) -> RunEnded:
        """Train, and return how the run ended.

        Args:
            init_from: the checkpoint that `config.init_from` leads to; a resumed run does without.

        Raises:
            InitError: when the weights of `init_from` do not fit the model.
            TrainingDiverged: when too many updates in a row were not finite.
            CheckpointError: when a checkpoint can't be written or does not match.
            ResumeError: when config or data differ from those of the checkpoint.
            DoesNotFit: when a single item does not fit in memory.
            Interrupted: when only a new process can continue, from the last checkpoint.
        """
        self._init_from = init_from
        with backend_settings(self._config.precision):
            self._found = self._newest()
            reason = self._make_stages()
            if reason is None:
                return self._train()
            ended = RunEnded("stopped", self._counters, reason=reason)
            self._emit(ended)
            return ended

    def _train(self) -> RunEnded:
        with self._prepared():
            reason = None
            self._evaluate_initial()
            while self._update < self._total:
                reason = self._ranks.stop_reason(self._control.stop_reason())
                if reason is not None:
                    break
                self._step()
                self._log()
                self._evaluate()
                self._save()
            return self._end(reason)

    def _step(self) -> None:
        size = self._plan.update_size(self._update)
        batches = self._loader.update()
        lr = self._peak_lr * lr_factor(self._config.schedule, self._counters, size=self._size)
        self._update += 1
        result = self._updater.run(self._update, batches, lr=lr, counters=self._counters)
        if result.num_pieces != size.micro_batches:
            size = replace(size, micro_batches=result.num_pieces)
        self._telemetry.add(result, lr, size)
        self._counters = self._counters + size
        for shortage in result.shortages:
            self._tell_shortage(shortage)

    def _log(self) -> None:
        if self._telemetry.is_full():
            self._telemetry.flush()
            self._tell_saved(self._writer.poll())

    def _evaluate_initial(self) -> None:
        """Measure trained weights before the first update changes them."""
        wanted = self._leads and self._config.validation.at_start
        if wanted and self._config.init_from is not None and self._update == 0:
            self._measure(whole=False)
            self._save_now(last=False)

    def _evaluate(self) -> None:
        settings = self._config.validation
        first = settings.at_start and self._update == 1 and self._config.init_from is None
        whole = settings.full_files and (self._is_last or self._is_due(settings.full_every))
        due = first or whole or self._is_last or self._is_due(settings.every)
        if due and self._leads:
            self._measure(whole=whole)

    def _measure(self, *, whole: bool) -> None:
        self._telemetry.flush()
        started = perf_counter()
        evaluation = self._validator.run(self._state.model, whole=whole)
        self._updater.extras.require_other_names(evaluation.metrics)
        self._metrics = evaluation.metrics
        self._new_best = self._state.best.update(evaluation.metrics)
        units = {name: metric_unit(name, self._loss_unit) for name in evaluation.metrics}
        self._emit(
            Evaluated(
                self._counters, evaluation.metrics, units=units, duration_s=perf_counter() - started,
                num_items=evaluation.num_items, num_excluded=evaluation.num_excluded, items=evaluation.items, items_key=evaluation.items_key,
            )
        )  # fmt: skip
        self._write_clips(evaluation.clips)
        self._telemetry.restart_clock()

    def _write_clips(self, clips: Sequence[Clip]) -> None:
        if not clips:
            return
        try:
            files = write_clips(self._folder.parent, self._update, clips=clips)
        except OSError as error:
            text = f"clips can't be written: {error}; training continues"
            self._emit(Noticed("warning", "clips-failed", message=text, counters=self._counters))
            return
        self._emit(ClipsWritten(self._counters, tuple(files)))

    def _save(self) -> None:
        due = self._is_last or self._is_due(self._config.checkpoint.every)
        if self._leads and (due or self._new_best):
            self._save_now(last=due)

    def _save_now(self, *, last: bool) -> None:
        self._telemetry.flush()
        self._tell_saved(self._writer.wait())
        self._writer.submit(
            self._saver.snapshot(
                update=self._update,
                counters=asdict(self._counters),
                best=self._new_best,
                last=last,
                metrics=self._metrics,
            )
        )
        self._new_best = []
        if last:
            self._saved_at = self._update
        self._telemetry.restart_clock()

    def _end(self, reason: str | None) -> RunEnded:
        self._telemetry.flush()
        if self._leads and self._saved_at < self._update:
            self._save_now(last=True)
        self._tell_saved(self._writer.wait())
        counters = self._counters
        if reason is None:
            ended = RunEnded("finished", counters, reason="all updates completed")
        else:
            ended = RunEnded("stopped", counters, reason=reason)
        self._emit(ended)
        return ended

    def _make_stages(self) -> str | None:
        """Make what comes before training; return why the run stops here, or None."""
        stages = Stages(
            self._recipe, self._config, folder=self._folder.parent, device=self._device,
            ranks=self._ranks, control=self._control, emit=self._emit,
        )  # fmt: skip
        manifest = self._found
        known = read_recipe_parts(manifest).stages if manifest is not None else {}
        reason = stages.run(known, resume=self._resume)
        self._results = stages.results
        return reason

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        """Build everything, resume and emit `RunStarted`; stop readers and writer on exit."""
        config = self._config
        seed_everything(config.seed)
        sizes = self._recipe.sizes("train")
        num_valid = len(self._recipe.sizes("valid"))
        ranks = self._ranks
        self._plan = plan = open_plan(
            config,
            sizes,
            manifest=self._recipe.manifest("train"),
            rank=ranks.rank,
            world=ranks.world,
        )
        self._size = plan.mean_size
        self._total = total_updates(config.schedule.length, self._size)
        self._peak_lr = config.optimizer.lr
        self._loss_unit = self._recipe.loss_unit
        self._build(plan)
        self._resume_from(plan)
        ranks.require_equal("their weights", partial(state_hash, self._state.model.state_dict()))
        ranks.require_equal("the recipe's state", partial(state_hash, self._state.own.tensors()))
        parameters = count_parameters(self._state.model)
        with self._open_loader(plan) as self._loader, self._new_writer() as self._writer:
            self._emit(
                RunStarted(
                    self._counters, self._total, resumed_from=self._update, device=self._where, num_parameters=parameters,
                    num_train_items=len(sizes), num_valid_items=num_valid,
                )
            )  # fmt: skip
            for text in plan_warnings(plan, sizes):
                self._emit(Noticed("warning", "batch-plan", message=text, counters=self._counters))
            self._telemetry.restart_clock()
            yield

    def _build(self, plan: Plan) -> None:
        config, device = self._config, self._device
        model = self._recipe.build_model()
        if config.init_from is not None and self._found is None:
            text = load_initial_weights(model, self._init_from, strict=config.init_strict)
            self._emit(Noticed("info", "init-from", message=text))
        model = place(model, config.precision, device=device)
        model.train()
        require_no_batch_norm(model, self._ranks)
        ema = Ema(model, config.ema, self._size) if config.ema.enabled else None
        optimizer = FusedAdamW(model, config.optimizer)
        self._updater = Updater(
            self._recipe, model, optimizer, config=config, device=device, ema=ema, ranks=self._ranks
        )
        self._telemetry = (Telemetry if self._leads else SilentTelemetry)(
            config.logging, self._size, loss_unit=self._loss_unit, emit=self._emit,
            metrics=self._updater.extras.units,
        )  # fmt: skip
        self._validator = Validator(self._recipe, config, device=device, ema=ema)
        if isinstance(self._recipe, KeepsState):
            self._recipe.start_state(model, device)
        self._state = TrainingState(
            model, optimizer, ema=ema, loss_scale=self._updater.loss_scale, telemetry=self._telemetry,
            best=BestMetrics(config.checkpoint.best), limits=self._updater.limits,
            own=OwnParts(self._recipe, self._results),
        )  # fmt: skip
        about = {
            "config": config.to_dict(), "fingerprint": config.fingerprint, "plan": plan.hash,
        }  # fmt: skip
        self._saver = StateSaver(self._state, about)

    def _resume_from(self, plan: Plan) -> None:
        manifest = self._found
        if manifest is None:
            return
        notes = require_same_run(manifest, config=self._config, plan_hash=plan.hash)
        self._state.restore(manifest)
        self._update = self._saved_at = manifest.updates
        self._metrics = dict(manifest.values["metrics"])
        counters = Counters.of(manifest.values["counters"])
        # Checkpoints of earlier versions don't count epochs, which follow from the updates.
        self._counters = replace(counters, epochs=self._size.epochs_in(counters.updates))
        self._telemetry.start_at(self._counters)
        for note in notes:
            self._emit(Noticed("info", "replanned", message=note, counters=self._counters))

    def _newest(self) -> Manifest | None:
        """Return the checkpoint to resume from; the first rank tidies the folder for all ranks."""
        if self._leads:
            tidy(self._folder)
        search = self._leads and self._resume
        newest, problems = newest_intact(self._folder) if search else (None, [])
        for problem in problems:
            self._emit(Noticed("warning", "checkpoint-broken", message=f"{problem}; skipped"))
        self._ranks.gather(None)
        if self._resume and not self._leads:
            newest, _ = newest_intact(self._folder)
        return newest

    def _open_loader(self, plan: Plan) -> Loader:
        on_gpu = self._device.type == "cuda"
        return Loader(
            partial(self._recipe.fetch, "train"),
            plan,
            workers=self._config.batch.workers,
            prefetch=self._config.batch.prefetch,
            start_update=self._update,
            background=on_gpu,
            pin_memory=on_gpu,
        )

    def _new_writer(self) -> CheckpointWriter:
        return CheckpointWriter(self._folder, keep_last=self._config.checkpoint.keep_last)

    def _is_due(self, interval: Span | None) -> bool:
        return interval is not None and is_due(interval, self._update, size=self._size)

    @property
    def _where(self) -> str:
        """Where the run trains: the device, preceded by the number of processes if there are several."""
        world = self._ranks.world
        return str(self._device) if world == 1 else f"{world} x {self._device.type}"

    @property
    def _is_last(self) -> bool:
        return self._update == self._total

    def _tell_shortage(self, shortage: Shortage) -> None:
        counters, text, details = self._counters, shortage.message, shortage.details
        self._emit(
            Noticed("warning", "out-of-memory", message=text, counters=counters, details=details)
        )

    def _tell_saved(self, manifests: Sequence[Manifest]) -> None:
        for manifest in manifests:
            values = manifest.values
            self._emit(
                CheckpointSaved(
                    values["kind"], str(manifest.folder), counters=Counters.of(values["counters"]),
                    metrics=values["metrics"], size_bytes=manifest.size_bytes,
                )
            )  # fmt: skip

    def _emit(self, event: Event) -> None:
        for observer in tuple(self._observers):
            try:
                observer.on_event(event)
            except Exception:  # noqa: BLE001  one of the three boundaries: a sink can't end a run
                _LOG.exception("event sink failed and was disabled: %r", observer)
                self._observers.remove(observer)
