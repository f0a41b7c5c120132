"""The one training loop: step, log, save, evaluate, stop.

Owns the order of events in a run and nothing else: what the loop works with is made in `engine.training.prepared`,
an update runs in `engine.training.updates`, curves in `engine.training.curves`, evaluation in
`engine.training.validator`, state on disk in `engine.training.state`. Of several processes
(`engine.training.ranks`) all run the updates, and only the first does everything else.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import torch

from engine.checkpoints.files import Manifest
from engine.config.counters import Counters
from engine.config.schema import RunConfig
from engine.config.span import Span
from engine.evaluation.clips import write_clips
from engine.evaluation.result import Clip, Evaluation, bad_items_notice
from engine.events import (
    CheckpointSaved,
    ClipsWritten,
    Control,
    Evaluated,
    Event,
    Noticed,
    Observer,
    RunEnded,
)
from engine.precision import backend_settings, resolve_device
from engine.recipes.base import Recipe
from engine.training.evaluating import Attempts, EvaluationAbandoned
from engine.training.notices import ended, shortage_notice, stop_notice
from engine.training.prepared import Parts, Setup, newest_checkpoint, prepared, run_stages
from engine.training.ranks import Alone, Ranks
from engine.training.reading import Reading
from engine.training.reference_rule import ReferenceCurve
from engine.training.schedules import is_due, lr_factor
from engine.training.state import TrainingState
from engine.training.stopping import Stop
from engine.training.validator import metric_unit

_LOG = logging.getLogger(__name__)


class Trainer:
    """Trains one run until it ends or a stop is requested.

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
        ranks = ranks or Alone()
        self._setup = Setup(
            config,
            recipe,
            folder=folder,
            device=device or ranks.device or resolve_device(config.precision.device),
            ranks=ranks,
            control=control,
            resume=resume,
            emit=self._emit,
        )
        self._observers = list(observers) if self._setup.leads else []
        # The model and all that moves with it, to look into afterwards; None until training begins.
        self._state: TrainingState | None = None

    def fit(
        self, *, init_from: Path | None = None, reference: ReferenceCurve | None = None
    ) -> RunEnded:
        """Train, and return how the run ended.

        Args:
            init_from: the checkpoint that `config.init_from` leads to; a resumed run does without.
            reference: the curve that `config.stop_when.reference` leads to; the first rank needs it.

        Raises:
            InitError: when the weights of `init_from` do not fit the model.
            TrainingDiverged: when too many updates in a row were not finite.
            TrainingCollapsed: when the recipe finds a collapse in its curves.
            CheckpointError: when a checkpoint can't be written or does not match.
            ResumeError: when config or data differ from those of the checkpoint.
            DoesNotFit: when a single item does not fit in memory.
            Interrupted: when only a new process can continue, from the last checkpoint.
        """
        setup = self._setup
        with backend_settings(setup.config.precision):
            newest = newest_checkpoint(setup)
            results, reason = run_stages(setup, newest)
            if reason is not None:
                return ended(setup, Counters(), reason=reason)
            with prepared(
                setup, newest, results=results, init_from=init_from, reference=reference
            ) as parts:
                self._state = parts.state
                return _Loop(setup, parts).run()

    def _emit(self, event: Event) -> None:
        for observer in tuple(self._observers):
            try:
                observer.on_event(event)
            except Exception:  # noqa: BLE001  one of the three boundaries: a sink can't end a run
                _LOG.exception("event sink failed and was disabled: %r", observer)
                self._observers.remove(observer)


class _Loop:
    """The updates of a run, from where its parts start, and what happens between them."""

    def __init__(self, setup: Setup, parts: Parts) -> None:
        self._setup = setup
        self._config = setup.config
        self._emit = setup.emit
        self._parts = parts
        self._telemetry = parts.state.telemetry
        self._counters = parts.start.counters
        self._metrics: Mapping[str, float] = parts.start.metrics
        self._saved_at = parts.start.counters.updates
        self._new_best: list[str] = []
        self._stop: Stop | None = None
        # Why the run stops within an evaluation.
        self._abandoned: str | None = None
        num_items = len(setup.recipe.sizes("train"))
        self._reading = Reading(parts.loader, num_items, notice=self._notice)
        self._attempts = Attempts(setup.control, self._notice)

    def run(self) -> RunEnded:
        """Train until the last update, until a rule of `stop_when` says so, or until asked to stop."""
        reason = None
        if self._parts.state.evaluation_due:
            # It was saved in the middle of this update's evaluation.
            self._parts.state.evaluation_due = False
            self._evaluate()
            self._save()
        else:
            self._evaluate_initial()
            self._apply_rules()
            if self._stop is not None:
                self._measure_end(whole=False)
        while not self._is_last:
            own = self._abandoned or self._setup.control.stop_reason()
            reason = self._setup.ranks.stop_reason(own)
            if reason is not None:
                break
            self._step()
            self._log()
            self._evaluate()
            self._save()
        if reason is None:
            reason = self._abandoned or self._finish_slow_metrics()
        return self._end(reason)

    def _step(self) -> None:
        parts, before = self._parts, self._counters
        size = parts.plan.update_size(before.updates)
        batches = self._reading.update(save=self._save_before)
        factor = lr_factor(self._config.schedule, before, size=parts.size)
        lr = self._config.optimizer.lr * factor
        result = parts.updater.run(before.updates + 1, batches, lr=lr, counters=before)
        if result.num_pieces != size.micro_batches:
            size = replace(size, micro_batches=result.num_pieces)
        self._telemetry.add(result, lr, size)
        self._counters = before + size
        for shortage in result.shortages:
            self._emit(shortage_notice(shortage, self._counters))

    def _log(self) -> None:
        if self._telemetry.is_full():
            self._telemetry.flush()
            self._report_saved(self._parts.writer.poll())
            self._take_slow_metrics()

    def _evaluate_initial(self) -> None:
        """Measure trained weights before the first update changes them."""
        wanted = self._setup.leads and self._config.validation.at_start
        if wanted and self._config.init_from is not None and self._counters.updates == 0:
            self._measure(whole=False)
            self._save_now(last=False)

    def _evaluate(self) -> None:
        settings, is_first = self._config.validation, self._counters.updates == 1
        first = settings.at_start and is_first and self._config.init_from is None
        slow = bool(settings.metrics) and (self._is_last or self._is_due(settings.metrics_every))
        whole = settings.full_files and (self._is_last or self._is_due(settings.full_every))
        due = first or whole or slow or self._is_last or self._is_due(settings.every)
        if due and self._setup.leads:
            self._measure(whole=whole, slow=slow)
        if due:
            self._apply_rules()
        if self._stop is not None:
            self._measure_end(whole=whole)

    def _measure_end(self, *, whole: bool) -> None:
        """Measure what an end before the last update left out: whole files, slow metrics."""
        slow = bool(self._config.validation.metrics)
        slow = slow and not self._parts.slow.has_job(self._counters.updates)
        wanted = self._config.validation.full_files and (slow or not whole)
        if wanted and self._setup.leads:
            self._measure(whole=True, slow=slow)

    def _apply_rules(self) -> None:
        """Decide whether the run ends here; the first rank has the evaluations, and the others hear it."""
        rules, update = self._parts.state.stop_rules, self._counters.updates
        if rules.is_active and 0 < update < self._parts.total:
            known = self._setup.leads and not self._parts.state.evaluation_due
            own = rules.stop(update) if known else None
            self._stop = self._setup.ranks.gather(own)[0]

    def _measure(self, *, whole: bool, slow: bool = False) -> None:
        parts = self._parts
        self._telemetry.flush()
        self._take_slow_metrics()
        started = perf_counter()
        parts.state.evaluation_due = True
        try:
            evaluation = self._attempts.make(
                lambda: self._evaluated(whole, slow), save=self._save_before
            )
        except EvaluationAbandoned as abandoned:
            self._abandoned, self._stop = abandoned.reason, None
            return
        parts.state.evaluation_due = False
        if evaluation is None:
            return
        overfit = parts.state.overfit
        evaluation.metrics.update(overfit.add(self._counters, evaluation.metrics))
        parts.updater.extras.require_other_names(evaluation.metrics)
        self._metrics = evaluation.metrics
        # Of two evaluations of one update the second one repeats the first.
        better = parts.state.best.update(evaluation.metrics)
        self._new_best = list(dict.fromkeys([*self._new_best, *better]))
        parts.state.stop_rules.add(self._counters, evaluation.metrics)
        loss_unit = self._setup.recipe.loss_unit
        units = {name: metric_unit(name, loss_unit) for name in evaluation.metrics}
        self._emit(
            Evaluated(
                self._counters, evaluation.metrics, units=units, duration_s=perf_counter() - started,
                num_items=evaluation.num_items, num_excluded=evaluation.num_excluded, items=evaluation.items, items_key=evaluation.items_key,
            )
        )  # fmt: skip
        if text := bad_items_notice(evaluation):
            self._notice("non-finite-items", text)
        if text := overfit.report():
            self._notice("over-fitting", text)
        self._write_clips(evaluation.clips)
        self._telemetry.restart_clock()

    def _evaluated(self, whole: bool, slow: bool) -> Evaluation:
        """Evaluate, and leave the estimates to the processes that measure slow metrics."""
        parts = self._parts
        taker = parts.slow.begin(self._counters, is_last=self._is_last) if slow else None
        if taker is None:
            return parts.validator.run(parts.state.model, whole=whole)
        try:
            evaluation = parts.validator.run(parts.state.model, whole=True, taker=taker)
        except OSError as error:
            parts.slow.give_up(taker, error)
            return parts.validator.run(parts.state.model, whole=whole)
        except BaseException:
            parts.slow.drop(taker)
            raise
        parts.slow.submit(taker, evaluation)
        return evaluation

    def _take_slow_metrics(self) -> None:
        """Report the slow metrics that have arrived; keep the weights they were measured on if they are best."""
        parts = self._parts
        measured = parts.slow.poll(self._counters.updates) if self._setup.leads else None
        if measured is None:
            return
        found = measured.found
        units = {name: metric_unit(name, self._setup.recipe.loss_unit) for name in found.metrics}
        self._emit(
            Evaluated(
                measured.counters, found.metrics, units=units, duration_s=measured.duration_s,
                num_items=found.num_measured, num_excluded=found.num_absent, items=found.items,
                items_key=measured.info.items_key, late=True,
            )
        )  # fmt: skip
        if best := parts.state.best.update(found.metrics):
            self._report_saved(parts.writer.wait())
            parts.writer.submit([measured.save(name) for name in best])

    def _finish_slow_metrics(self) -> str | None:
        """Wait for what is still being measured; return why the run stops before that, or None."""
        slow, control = self._parts.slow, self._setup.control
        if self._setup.leads and slow.is_busy:
            self._report_saved(self._parts.writer.wait())
        while self._setup.leads and slow.is_busy:
            if (reason := slow.wait(control.stop_reason)) is not None:
                return reason
            self._take_slow_metrics()
        return None

    def _notice(self, kind: str, text: str) -> None:
        self._emit(Noticed("warning", kind, message=text, counters=self._counters))

    def _write_clips(self, clips: Sequence[Clip]) -> None:
        if not clips:
            return
        try:
            files = write_clips(self._setup.folder, self._counters.updates, clips=clips)
        except OSError as error:
            text = f"clips can't be written: {error}; training continues"
            self._notice("clips-failed", text)
            return
        self._emit(ClipsWritten(self._counters, tuple(files)))

    def _save(self) -> None:
        due = self._is_last or self._is_due(self._config.checkpoint.every)
        if self._setup.leads and (due or self._new_best):
            self._save_now(last=due)

    def _save_before(self) -> None:
        """Save what was trained, before an evaluation that failed is made again, or the run ends."""
        if self._setup.leads and self._saved_at < self._counters.updates:
            self._save_now(last=True)
            self._report_saved(self._parts.writer.wait())

    def _save_now(self, *, last: bool) -> None:
        parts, update = self._parts, self._counters.updates
        self._telemetry.flush()
        self._report_saved(parts.writer.wait())
        parts.writer.submit(
            parts.saver.snapshot(
                update=update,
                counters=asdict(self._counters),
                best=self._new_best,
                last=last,
                metrics=self._metrics,
            )
        )
        self._new_best = []
        if last:
            self._saved_at = update
        self._telemetry.restart_clock()

    def _end(self, reason: str | None) -> RunEnded:
        self._telemetry.flush()
        unsaved = self._saved_at < self._counters.updates
        if self._setup.leads and (unsaved or self._new_best):
            self._save_now(last=unsaved)
        self._report_saved(self._parts.writer.wait())
        if self._setup.leads and reason is None:
            self._parts.slow.forget()
        if self._stop is not None:
            metric = self._parts.state.stop_rules.name
            total = self._parts.total
            self._emit(stop_notice(self._stop, self._counters, metric=metric, total=total))
        return ended(self._setup, self._counters, reason=reason, stop=self._stop)

    def _is_due(self, interval: Span | None) -> bool:
        update, size = self._counters.updates, self._parts.size
        return interval is not None and is_due(interval, update, size=size)

    @property
    def _is_last(self) -> bool:
        return self._stop is not None or self._counters.updates == self._parts.total

    def _report_saved(self, manifests: Sequence[Manifest]) -> None:
        for manifest in manifests:
            self._parts.slow.saved(manifest)
            values = manifest.values
            self._emit(
                CheckpointSaved(
                    values["kind"], str(manifest.folder), counters=Counters.of(values["counters"]),
                    metrics=values["metrics"], size_bytes=manifest.size_bytes,
                )
            )  # fmt: skip
