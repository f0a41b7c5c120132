"""User requests on runs: enqueue, stop, resume, remove, move.

The only entry point for the dashboard and the command line. Loads neither torch nor textual, but
sqlite-utils and Huey, so screens import this module in a thread.
"""

from __future__ import annotations

import logging
import re
import shutil
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from engine.checkpoints.choosing import choose_state, go_on_from
from engine.config.iterations import iterations_of
from engine.config.loading import load_config
from engine.config.references import with_absolute_folders
from engine.config.schema import RunConfig
from engine.data.checks import before_queue
from engine.data.update_size import counts_items, mean_update_size
from engine.recipes.specs import spec_of
from engine.training.schedules import total_updates
from jobs.home import Home
from jobs.machine.processes import is_alive
from jobs.needs import note_needs
from jobs.queue import RunQueue
from jobs.readiness import check_all
from jobs.stop_rules import change_rules
from jobs.store.errors import StateError, StoreError, UnknownRun
from jobs.store.needs import dependents
from jobs.store.records import RunState
from jobs.store.row_types import json_object
from jobs.store.writer import StoreWriter

logger = logging.getLogger(__name__)

# Kinds of events of a run that a search ends early: when it is asked to stop, and when it has stopped.
PRUNING, PRUNED = "pruning", "pruned"

Place = Literal["up", "down", "top", "bottom"]

_NAME = re.compile(r"(?!\d+$)[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to enqueue; without a name it gets the preset's name and a number."""

    config: RunConfig
    name: str | None = None
    variant: str = ""
    parent: int | None = None


def enqueue(
    home: Home,
    config: RunConfig,
    *,
    name: str | None = None,
    preset: str = "",
    experiment: str = "",
    variant: str = "",
    parent: int | None = None,
) -> int:
    """Add a run to the end of the queue and return its id; data paths become absolute.

    Every audio file is checked first, so that a damaged one does not end the run later. A run that refers
    to another one waits in the queue until that has finished.

    Raises:
        ConfigError: when no installed package has the recipe or the metrics, or a run it refers to can't be had.
        DataError: with every problem of the data folders.
        StoreError: when the name is taken or invalid, or the store can't be written.
    """
    run = NewRun(config, name=name, variant=variant, parent=parent)
    return enqueue_all(home, [run], preset=preset, experiment=experiment)[0]


def enqueue_all(
    home: Home, runs: Sequence[NewRun], *, preset: str = "", experiment: str = ""
) -> list[int]:
    """Add runs to the end of the queue, all or none, and return their ids in order.

    They may refer to each other by the names that they are given. A run of several iterations
    (`engine.config.iterations`) is queued as one for each, of which the last one has its name and id.

    Raises:
        ConfigError: when no installed package has the recipe or the metrics, or a run it refers to can't be had.
        DataError: with every problem of the data folders.
        StoreError: when a name is taken or invalid, or the store can't be written.
    """
    configs = [absolute(run.config) for run in runs]
    # With any name in place of one that the store will choose.
    all_runs = [
        one
        for run, config in zip(runs, configs, strict=True)
        for one in iterations_of(config, "run" if run.name is None else run.name)
    ]
    for name, _ in all_runs:
        check_name(name)
    check_all([config for _, config in all_runs])
    home.create()
    queued: dict[int, RunConfig] = {}
    ids: list[int] = []
    with StoreWriter(home.store) as store, store.transaction() as connection:
        store.keep_ids_above(home.highest_folder())
        for run, config in zip(runs, configs, strict=True):
            stem = PurePosixPath(preset).name or config.data.kind
            own = run.name or _free_name(connection, stem)
            for name, one in iterations_of(config, own):
                fields = _fields(
                    name, one, preset=preset, metric=spec_of(one.recipe).listed_by(one)
                )
                if name == own:
                    # Only the last one is what was asked for; a comparison must not mix them.
                    asked = {"experiment": experiment, "variant": run.variant}
                    fields |= {**asked, "parent": run.parent}
                queued[store.insert_run(fields)] = one
            ids.append(max(queued))
        note_needs(home, connection, configs=queued)
    for run_id in queued:
        _push(home, run_id)
    return ids


def _fields(name: str, config: RunConfig, *, preset: str, metric: str) -> dict[str, Any]:
    return {
        "name": name,
        "preset": preset,
        "config": config.to_json(),
        "fingerprint": config.fingerprint,
        "seed": config.seed,
        "metric": metric,
        "total_updates": _total_updates(config),
    }


def stop(home: Home, run_id: int, *, pruned: str = "") -> None:
    """Stop a run: a queued one leaves the queue, a running one saves a checkpoint and exits.

    Args:
        home: where the store and the queue are.
        run_id: the run.
        pruned: why a search ends it early, such as "pruned at 40 items: ..."; an event says that it is to be,
            or where no process has to stop first, that it is.

    Raises:
        StateError: when the run has ended already.
    """
    with StoreWriter(home.store) as store, store.transaction() as connection:
        state, living = _state(connection, run_id)
        if state not in ("queued", "running"):
            raise StateError(f"run {run_id} can't be stopped: it is {state}")
        if pruned:
            kind, text = (PRUNING, f"to be {pruned}") if living else (PRUNED, pruned)
            store.add_event(run_id, "info", kind=kind, message=text)
        if living:
            store.update_run(run_id, stopping=1)
        else:
            store.move(
                run_id, "stopped", (state,),
                stopping=0, pid=None, message=pruned or "stopped by request", ended_at=time.time(),
            )  # fmt: skip


def resume(
    home: Home,
    run_id: int,
    *,
    devices: int | None = None,
    assignments: Sequence[str] = (),
    checkpoint: str = "",
) -> None:
    """Add a stopped or failed run to the end of the queue; it resumes from its last checkpoint.

    So does a finished run that `stop_when` ended early, once its rules are changed.

    Args:
        home: where the store and the queue are.
        run_id: the run.
        devices: new number of processes; None leaves `precision.devices` unchanged.
        assignments: `key=value` for settings of `stop_when`, the only ones that may change.
        checkpoint: name of an older resume state, or its update; newer ones are set aside, and curves after it
            are deleted once the run starts.

    Raises:
        ValueError: when there is no such resume state.
        ConfigError: when an assignment is invalid, or its reference can't be had.
        StateError: when the run has completed its length, is queued or running, or `devices` or an
            assignment would change what it learns.
    """
    with StoreWriter(home.store) as store, store.transaction() as connection:
        state, living = _state(connection, run_id)
        early = state == "finished" and _ended_early(connection, run_id)
        if state == "queued" or living or (state == "finished" and not early):
            reason = f"it is {state}" + ("; stop it first" if living else "")
            raise StateError(f"run {run_id} can't be resumed: {reason}")
        changed = change_rules(home, store, run_id=run_id, assignments=assignments)
        if early and not changed:
            raise StateError(
                f"run {run_id} can't be resumed: stop_when ended it early, and would again; change the "
                f"rule, for example `sepdash resume {run_id} --set stop_when.patience=none`"
            )
        if devices is not None:
            _replan(store, connection, run_id=run_id, devices=devices)
        store.move(
            run_id, "queued", (state,),
            stopping=0, attempts=0, pid=None, ended_at=None, message="", position=store.last_position() + 1.0,
        )  # fmt: skip
        if checkpoint:
            # Last, so that a refusal above leaves the files as they are.
            folder = home.run_folder(run_id)
            go_on_from(folder, choose_state(folder, checkpoint))
    _push(home, run_id)


def _ended_early(connection: sqlite3.Connection, run_id: int) -> bool:
    sql = "SELECT updates < total_updates FROM runs WHERE id = ?"
    return bool(connection.execute(sql, (run_id,)).fetchone()[0])


def _replan(
    store: StoreWriter, connection: sqlite3.Connection, *, run_id: int, devices: int
) -> None:
    """Change the number of processes of a run, if that leaves its data unchanged."""
    (text,) = connection.execute("SELECT config FROM runs WHERE id = ?", (run_id,)).fetchone()
    config = load_config(json_object(text, f"the config of run {run_id}"))
    old = config.precision.devices
    if old == devices:
        return
    mode = config.batch.mode
    if mode != "exact":
        raise StateError(
            f"run {run_id} can't continue with {devices} process(es): it started with {old}, and in "
            f"batch.mode = {mode!r} data are assigned by process count; only runs with batch.mode = "
            "'exact' can change it"
        )
    values = config.to_dict()
    config = load_config({**values, "precision": {**values["precision"], "devices": devices}})
    store.update_run(run_id, config=config.to_json(), fingerprint=config.fingerprint)
    message = f"continues with precision.devices = {devices} instead of {old}"
    store.add_event(run_id, "info", kind="replanned", message=message)


def remove(
    home: Home,
    run_id: int,
    *,
    keep_files: bool = False,
    force: bool = False,
    together: Collection[int] = (),
) -> None:
    """Delete a run from the store, with its log and its checkpoints unless `keep_files`.

    Args:
        home: where the store and the runs are.
        run_id: the run.
        keep_files: leave its folder on disk.
        force: also where other runs need it; those that wait for it then wait in vain, and say so.
        together: runs that are removed with it, whose needs do not matter.

    Raises:
        StateError: while it is running, or where other runs need it.
    """
    with StoreWriter(home.store) as store, store.transaction() as connection:
        state, living = _state(connection, run_id)
        if living:
            raise StateError(f"run {run_id} can't be removed: it is running; stop it first")
        needing = dependents(connection, run_id)
        others = [name for id_, name in needing.items() if id_ not in together]
        if others and not force:
            raise StateError(
                f"run {run_id} can't be removed: {', '.join(others)} need{'s' * (len(others) == 1)} it; "
                f"remove {'that run' if len(others) == 1 else 'those runs'} first, or use "
                "`sepdash rm --force`"
            )
        if state == "running":
            store.move(run_id, "stopped", ("running",))
        store.delete_run(run_id)
    if not keep_files:
        shutil.rmtree(home.run_folder(run_id), ignore_errors=True)


def move(home: Home, run_id: int, *, to: int | Place) -> None:
    """Move a queued run to a position in the queue, counted from 1, or up, down, top, bottom.

    Raises:
        StateError: when the run is not queued.
    """
    with StoreWriter(home.store) as store, store.transaction() as connection:
        state, _ = _state(connection, run_id)
        if state != "queued":
            raise StateError(
                f"run {run_id} can't be moved: it is {state}; only queued runs can be moved"
            )
        rows = connection.execute(
            "SELECT id FROM runs WHERE state = 'queued' ORDER BY position, id"
        )
        order = [id_ for (id_,) in rows]
        here = order.index(run_id)
        places = {"up": here - 1, "down": here + 1, "top": 0, "bottom": len(order)}
        place = places[to] if isinstance(to, str) else to - 1
        order.remove(run_id)
        order.insert(max(0, place), run_id)
        store.reorder(order)


def _state(connection: sqlite3.Connection, run_id: int) -> tuple[RunState, bool]:
    """Return the state of a run, and whether a living process or worker is processing it."""
    row = connection.execute(
        """
        SELECT state, runs.pid, runs.pid_token, workers.pid, workers.pid_token
        FROM runs LEFT JOIN workers ON workers.id = runs.worker WHERE runs.id = ?
        """,
        (run_id,),
    ).fetchone()
    if row is None:
        raise UnknownRun(f"no run {run_id}; `sepdash runs` lists them")
    state, pid, token, worker_pid, worker_token = row
    living = state == "running" and (
        is_alive(pid, token) or is_alive(worker_pid, worker_token or "")
    )
    return state, living


def _push(home: Home, run_id: int) -> None:
    """Add a ticket, if that can be done: the run is queued by now, and a worker makes up for missing tickets."""
    try:
        queue = RunQueue(home.queue)
        try:
            queue.push(run_id)
        finally:
            queue.close()
    except (StoreError, OSError):
        logger.info("no ticket for run %s; a worker adds one", run_id, exc_info=True)


def check_name(name: str) -> None:
    """Check the name of a run.

    Raises:
        StoreError: with the allowed names, when it is invalid.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} is not a valid run name: expected at most 80 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit, and not only digits"
        )


def _free_name(connection: sqlite3.Connection, stem: str) -> str:
    rows = connection.execute("SELECT name FROM runs WHERE name GLOB ?", (f"{stem}-*",))
    ends = [name.removeprefix(f"{stem}-") for (name,) in rows]
    return f"{stem}-{max((int(end) for end in ends if end.isdecimal()), default=0) + 1}"


def absolute(config: RunConfig) -> RunConfig:
    """Return the config as it is queued: with the folders it names written in full."""
    config = with_absolute_folders(config)
    return config.model_copy(update={"data": before_queue.with_absolute_paths(config.data)})


def _total_updates(config: RunConfig) -> int:
    """Return the total updates of a run; reads data where the length or the batches depend on it."""
    length = config.schedule.length
    plain = length.clock == "updates" and counts_items(config)
    return total_updates(length, config.update_size if plain else mean_update_size(config))
