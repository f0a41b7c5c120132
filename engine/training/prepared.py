"""What the loop of a run is built from: what is known from the start, and what is opened for it.

Owns the order of the preparations: the checkpoint to resume from, stages, plan, model and state, resume, then
readers and writer. `engine.training.trainer` owns what happens between them and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from engine.batching.plan import Plan
from engine.batching.recipe_plan import plan_of
from engine.batching.report import plan_warnings
from engine.checkpoints.files import CheckpointError, Manifest, tidy
from engine.checkpoints.find import newest_intact, require_same_run
from engine.checkpoints.recipe_files import RecipeState, read_recipe_parts
from engine.checkpoints.writer import CheckpointWriter
from engine.config.counters import Counters, UpdateSize
from engine.config.kinds import packages_of
from engine.config.schema import RunConfig
from engine.data.reading.loader import Loader
from engine.events import Control, Event, Noticed, RunStarted
from engine.metrics.best import BestMetrics
from engine.precision import card_name, number_format, place, unequal_cards
from engine.recipes.base import KeepsState, Recipe, WatchesCurves
from engine.recipes.weights import BorrowsWeights, HasTokenTables
from engine.torch_random import seed_everything
from engine.training.curves import SilentTelemetry, Telemetry
from engine.training.eight_bit import new_optimizer
from engine.training.ema import Ema
from engine.training.initial_weights import load_initial_weights
from engine.training.overfitting import OverfitWatch
from engine.training.parameter_groups import decay_text, groups_of, rates_text
from engine.training.ranks import Ranks, require_no_batch_norm, state_hash
from engine.training.recipe_parts import OwnParts
from engine.training.reference_rule import ReferenceCurve
from engine.training.schedules import total_updates
from engine.training.slow_metrics import SlowMetrics
from engine.training.stages import Stages
from engine.training.state import StateSaver, TrainingState
from engine.training.stopping import StopRules
from engine.training.updates import Updater
from engine.training.validator import Validator
from engine.training.watching import CurveWatch
from models.registry import count_parameters


@dataclass(frozen=True, slots=True)
class Setup:
    """What is known of a run before anything is read.

    Attributes:
        config: the run.
        recipe: the task.
        folder: the run's folder.
        device: where this process trains.
        ranks: the processes that train together.
        control: says whether to stop.
        resume: continue from the newest intact checkpoint in `folder`, if any.
        emit: sends an event to all observers.
    """

    config: RunConfig
    recipe: Recipe
    folder: Path
    device: torch.device
    ranks: Ranks
    control: Control
    resume: bool
    emit: Callable[[Event], None]

    @property
    def leads(self) -> bool:
        """Whether this process evaluates, saves and reports."""
        return self.ranks.rank == 0

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.folder / "checkpoints"

    @property
    def where(self) -> str:
        """Where the run trains: the device, preceded by the number of processes if there are several."""
        world = self.ranks.world
        return str(self.device) if world == 1 else f"{world} x {self.device.type}"


@dataclass(frozen=True, slots=True)
class Start:
    """Where the loop starts: at zero, or where a checkpoint was saved."""

    counters: Counters
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with.

    Attributes:
        plan: which items form which update.
        size: the mean size of an update.
        total: the number of updates of the run.
        start: where the loop starts.
        state: what moves during training, restored where the run resumes; holds model and telemetry.
        updater: runs the updates.
        validator: runs the evaluations.
        saver: builds the saves.
        loader: the batches, from the first update of the loop on.
        writer: writes the saves.
        slow: the metrics that other processes measure.
    """

    plan: Plan
    size: UpdateSize
    total: int
    start: Start
    state: TrainingState
    updater: Updater
    validator: Validator
    saver: StateSaver
    loader: Loader
    writer: CheckpointWriter
    slow: SlowMetrics


def newest_checkpoint(setup: Setup) -> Manifest | None:
    """Return the checkpoint to resume from; the first rank tidies the folder for all ranks."""
    if setup.leads:
        tidy(setup.checkpoints)
    search = setup.leads and setup.resume
    newest, problems = newest_intact(setup.checkpoints) if search else (None, [])
    for problem in problems:
        setup.emit(Noticed("warning", "checkpoint-broken", message=f"{problem}; skipped"))
    setup.ranks.gather(None)
    if setup.resume and not setup.leads:
        newest, _ = newest_intact(setup.checkpoints)
    return newest


def run_stages(
    setup: Setup, newest: Manifest | None
) -> tuple[Mapping[str, RecipeState], str | None]:
    """Run what comes before training; return its results by stage, and why the run stops here, or None.

    Raises:
        ResumeError: when a stage was saved by another config, or of other data.
        CheckpointError: when a stage can't be saved.
    """
    stages = Stages(
        setup.recipe, setup.config, folder=setup.folder, device=setup.device,
        ranks=setup.ranks, control=setup.control, emit=setup.emit,
    )  # fmt: skip
    known = read_recipe_parts(newest).stages if newest is not None else {}
    reason = stages.run(known, resume=setup.resume)
    return stages.results, reason


@contextmanager
def prepared(
    setup: Setup,
    newest: Manifest | None,
    *,
    results: Mapping[str, RecipeState],
    init_from: Path | None,
    reference: ReferenceCurve | None = None,
) -> Iterator[Parts]:
    """Build everything, resume and emit `RunStarted`; stop readers and writer on exit.

    Args:
        setup: the run.
        newest: the checkpoint to resume from.
        results: those of the stages.
        init_from: the checkpoint that `config.init_from` leads to; a resumed run does without.
        reference: the curve that `config.stop_when.reference` leads to.

    Raises:
        InitError: when the weights of `init_from` do not fit the model.
        CheckpointError: when `newest` does not match.
        ResumeError: when config or data differ from those of `newest`.
    """
    config, recipe, ranks = setup.config, setup.recipe, setup.ranks
    seed_everything(config.seed)
    sizes = recipe.sizes("train")
    num_valid = len(recipe.sizes("valid"))
    plan = plan_of(config, recipe, rank=ranks.rank, world=ranks.world)
    size = plan.mean_size
    total = total_updates(config.schedule.length, size)
    model = _build_model(setup, newest, init_from=init_from)
    rules = StopRules(config, size, reference=reference)
    updater, state = _build_state(setup, model, size=size, results=results, stop_rules=rules)
    validator = Validator(recipe, config, device=setup.device, ema=state.ema)
    saver = _new_saver(setup, plan, state=state)
    start = Start(Counters(), {})
    if newest is not None:
        start = _resume(setup, newest, plan=plan, size=size, state=state)
    ranks.require_equal("their weights", partial(state_hash, state.model.state_dict()))
    ranks.require_equal("the recipe's state", partial(state_hash, state.own.tensors()))
    cards = ranks.gather(card_name(setup.device))
    parameters = count_parameters(state.model)
    first = start.counters.updates
    slow = _open_slow_metrics(setup, saver=_new_saver(setup, plan, state=state))
    with closing(slow), _loader_and_writer(setup, plan, first=first) as (loader, writer):
        setup.emit(
            RunStarted(
                start.counters, total, resumed_from=first, device=setup.where, num_parameters=parameters,
                num_train_items=len(sizes), num_valid_items=num_valid,
            )
        )  # fmt: skip
        notices = _notices(setup, plan_warnings(plan, sizes), state=state, cards=cards)
        for level, kind, text in notices:
            setup.emit(Noticed(level, kind, message=text, counters=start.counters))
        if setup.leads:
            slow.resume(first)
        state.telemetry.restart_clock()
        yield Parts(
            plan, size, total=total, start=start, state=state, updater=updater, validator=validator,
            saver=saver, loader=loader, writer=writer, slow=slow,
        )  # fmt: skip


def _build_model(setup: Setup, newest: Manifest | None, *, init_from: Path | None) -> nn.Module:
    """Return the model on its device, with initial weights unless a checkpoint brings its own."""
    config = setup.config
    model = setup.recipe.build_model()
    if config.init_from is not None and newest is None:
        recipe = setup.recipe
        borrower = recipe if isinstance(recipe, BorrowsWeights) else None
        tables = recipe.token_tables if isinstance(recipe, HasTokenTables) else None
        text = load_initial_weights(
            model, init_from, strict=config.init_strict, borrower=borrower, tables=tables
        )
        setup.emit(Noticed("info", "init-from", message=text))
    model = place(model, config.precision, device=setup.device)
    model.train()
    require_no_batch_norm(model, setup.ranks)
    return model


def _build_state(
    setup: Setup,
    model: nn.Module,
    *,
    size: UpdateSize,
    results: Mapping[str, RecipeState],
    stop_rules: StopRules,
) -> tuple[Updater, TrainingState]:
    """Return the updater of the model, and the state of a run that has just begun."""
    config, recipe, device = setup.config, setup.recipe, setup.device
    ema = Ema(model, config.ema, size) if config.ema.enabled else None
    optimizer = new_optimizer(
        model, config.optimizer, groups=groups_of(recipe, model, config=config)
    )
    updater = Updater(
        recipe, model, optimizer, config=config, device=device, ema=ema, ranks=setup.ranks
    )
    watch = CurveWatch(recipe, emit=setup.emit) if isinstance(recipe, WatchesCurves) else None
    telemetry = (Telemetry if setup.leads else SilentTelemetry)(
        config.logging, size, loss_unit=recipe.loss_unit, emit=setup.emit, metrics=updater.extras.units,
        watch=watch, has_scale=updater.loss_scale is not None,
    )  # fmt: skip
    if isinstance(recipe, KeepsState):
        recipe.start_state(model, device)
    state = TrainingState(
        model, optimizer, ema=ema, loss_scale=updater.loss_scale, telemetry=telemetry,
        best=BestMetrics(config.checkpoint.best), limits=updater.limits, own=OwnParts(recipe, results),
        stop_rules=stop_rules, overfit=OverfitWatch(config), watch=watch, number_format=_format_if_auto(setup),
    )  # fmt: skip
    return updater, state


def _notices(
    setup: Setup, odd: list[str], *, state: TrainingState, cards: Sequence[str]
) -> list[tuple[Literal["info", "warning"], str, str]]:
    """Return level, kind and text of the notices at the start."""
    notices: list[tuple[Literal["info", "warning"], str, str]] = []
    config, model = setup.config, state.model
    if state.number_format:
        text = f"precision.dtype = auto: computing in {state.number_format} on {setup.where}"
        notices.append(("info", "precision", text))
    if text := config.loss.effect_on(config.model):
        notices.append(("info", "loss", text))
    if text := unequal_cards(cards):
        notices.append(("warning", "unequal-devices", text))
    if not config.optimizer.decay_embeddings:
        notices.append(("info", "weight-decay", decay_text(model, config.optimizer)))
    if config.optimizer.lr_scale:
        groups = groups_of(setup.recipe, model, config=config)
        notices.append(("info", "parameter-groups", rates_text(groups, model)))
    return notices + [("warning", "batch-plan", text) for text in odd]


def _format_if_auto(setup: Setup) -> str:
    precision = setup.config.precision
    return number_format(precision, setup.device) if precision.dtype == "auto" else ""


def _resume(
    setup: Setup, newest: Manifest, *, plan: Plan, size: UpdateSize, state: TrainingState
) -> Start:
    """Restore the state from a checkpoint; return where it was saved."""
    notes = require_same_run(newest, config=setup.config, plan_hash=plan.hash)
    notes += state.restore(newest)
    try:
        counters = Counters.of(newest.values["counters"])
        metrics = dict(newest.values["metrics"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{newest.folder} can't be resumed: {error}") from None
    # Checkpoints of earlier versions don't count epochs, which follow from the updates.
    counters = replace(counters, epochs=size.epochs_in(counters.updates))
    state.telemetry.start_at(counters)
    for note in notes:
        setup.emit(Noticed("info", "replanned", message=note, counters=counters))
    return Start(counters, metrics)


def _new_saver(setup: Setup, plan: Plan, *, state: TrainingState) -> StateSaver:
    config = setup.config
    values = config.to_dict()
    about = {"config": values, "fingerprint": config.fingerprint, "plan": plan.hash}
    if packages := packages_of(values):
        about["packages"] = packages
    return StateSaver(state, about)


def _open_loader(setup: Setup, plan: Plan, *, first: int) -> Loader:
    batch, on_gpu = setup.config.batch, setup.device.type == "cuda"
    return Loader(
        partial(setup.recipe.fetch, "train"),
        plan,
        workers=batch.workers,
        prefetch=batch.prefetch,
        start_update=first,
        background=on_gpu,
        pin_memory=on_gpu,
    )


def _open_slow_metrics(setup: Setup, *, saver: StateSaver) -> SlowMetrics:
    return SlowMetrics(
        setup.config,
        setup.recipe,
        folder=setup.folder,
        saver=saver,
        notice=lambda kind, text: setup.emit(Noticed("warning", kind, message=text)),
    )


@contextmanager
def _loader_and_writer(
    setup: Setup, plan: Plan, *, first: int
) -> Iterator[tuple[Loader, CheckpointWriter]]:
    with _open_loader(setup, plan, first=first) as loader, _open_writer(setup) as writer:
        yield loader, writer


def _open_writer(setup: Setup) -> CheckpointWriter:
    return CheckpointWriter(setup.checkpoints, keep_last=setup.config.checkpoint.keep_last)
