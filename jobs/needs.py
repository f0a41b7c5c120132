"""Resolve the references of a config to rows of the store when a run is queued.

Refuses at once what can't come true: no such run or folder, a checkpoint that is never kept, weights
of another kind of model, runs that wait for each other. Free of torch; the checkpoints themselves are
looked up when the run starts, by `jobs.child.needs`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.checkpoints.layout import (
    best_name,
    choose_checkpoint,
    choose_kmeans,
    list_checkpoints,
    trained_config,
    update_of,
)
from engine.clustering.centroid_files import why_centroids_do_not_fit
from engine.config.codec_fit import why_codec_does_not_fit
from engine.config.errors import ConfigError, Problem, nearest
from engine.config.old_names import upgraded
from engine.config.references import (
    BEST,
    LAST,
    Reference,
    mistake,
    references_of,
    why_weights_do_not_fit,
)
from engine.config.schema import RunConfig
from engine.config.stop_when import stop_metric
from engine.config.target_fit import KMEANS_FROM, why_targets_do_not_fit
from engine.recipes.judge_fit import why_no_judge
from engine.training.reference_rule import MIN_EVALUATIONS
from jobs.home import Home
from jobs.meaning import differing_settings
from jobs.store.errors import UnknownRun
from jobs.store.needs import circle, insert_needs
from jobs.store.reader import StoreReader
from jobs.store.records import ALL_POINTS, NeedRecord
from jobs.store.schema import NEEDS

# The one reference whose weights are copied into the model; others are their recipe's to use.
_WEIGHTS = "init_from"


@dataclass(frozen=True, slots=True)
class _Needed:
    """The run that a reference names."""

    id: int
    name: str
    state: str
    config: dict[str, Any]


def note_needs(
    home: Home,
    connection: sqlite3.Connection,
    *,
    configs: Mapping[int, RunConfig],
    keys: Collection[str] | None = None,
) -> None:
    """Note what runs just inserted need, inside the transaction that inserts them.

    Args:
        home: where the folders of runs are.
        connection: of the store.
        configs: config of each new run by its id; they may refer to each other.
        keys: only those of these settings; None: all.

    Raises:
        ConfigError: with every reference that leads nowhere.
    """
    problems: dict[Problem, None] = {}
    for run_id, config in configs.items():
        for reference in references_of(config):
            if keys is not None and reference.key not in keys:
                continue
            try:
                need = _resolved(
                    home, connection, run_id=run_id, config=config, reference=reference
                )
            except ConfigError as error:
                problems |= dict.fromkeys(error.problems)
            else:
                insert_needs(connection, [need])
    if not problems and (ring := circle(connection, list(configs))):
        names = " needs ".join([_name(connection, run) for run in [*ring, ring[0]]])
        problems[Problem("", f"circular dependency, so these runs would never start: {names}")] = (
            None
        )
    if problems:
        raise ConfigError(problems)


def check_needs(home: Home, configs: Mapping[str, RunConfig]) -> None:
    """Check the references of runs that aren't queued yet, as queueing does; writes nothing.

    Args:
        home: where the store and the folders of runs are.
        configs: config of each run by its name; they may refer to each other.

    Raises:
        ConfigError: with every reference that leads nowhere.
    """
    if not any(map(references_of, configs.values())):
        return
    with closing(sqlite3.connect(":memory:")) as connection:
        _copy_runs(home, connection)
        first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM runs").fetchone()[0]
        named = dict(enumerate(configs.items(), start=first))
        for run_id, (name, config) in named.items():
            # A run of that name that is there already can't be meant: the two can't both be queued.
            connection.execute("DELETE FROM runs WHERE name = ?", (name,))
            values = (run_id, name, "queued", config.to_json())
            connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", values)
        note_needs(home, connection, configs={run: config for run, (_, config) in named.items()})


def folders_needed(home: Home, config: RunConfig) -> dict[str, dict[str, str]]:
    """Return where the checkpoints of other runs are, by the keys of the settings that name them.

    For programs that are started at once, whether the runs have finished or not; each entry has the
    folder and which of its checkpoints is meant, as `engine.checkpoints.referenced.found` takes them.

    Raises:
        ConfigError: with every reference that leads nowhere.
    """
    found: dict[str, dict[str, str]] = {}
    problems = []
    with StoreReader(home.store) as reader:
        for reference in references_of(config):
            if reference.of_curve:
                continue
            if wrong := mistake(reference):
                problems.append(Problem(reference.key, wrong))
            elif reference.folder is not None:
                found[reference.key] = {"folder": str(reference.folder), "which": ""}
            else:
                try:
                    run = reader.run(reference.run)
                except UnknownRun as error:
                    problems.append(Problem(reference.key, str(error)))
                else:
                    folder = str(home.run_folder(run.id))
                    found[reference.key] = {"folder": folder, "which": reference.which}
    if problems:
        raise ConfigError(problems)
    return found


def _copy_runs(home: Home, connection: sqlite3.Connection) -> None:
    """Copy what references are resolved by from the store, which may be absent."""
    connection.execute("CREATE TABLE runs (id INTEGER, name TEXT, state TEXT, config TEXT)")
    for statement in NEEDS:
        connection.execute(statement)
    with StoreReader(home.store) as reader:
        for run in reader.runs():
            values = (run.id, run.name, run.state, json.dumps(reader.config(run.id)))
            connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", values)
            insert_needs(connection, reader.needs(run.id))


def _resolved(
    home: Home,
    connection: sqlite3.Connection,
    *,
    run_id: int,
    config: RunConfig,
    reference: Reference,
) -> NeedRecord:
    if wrong := mistake(reference):
        raise _refusal(reference, wrong)
    folder = reference.folder
    if reference.file is not None:
        if why := why_centroids_do_not_fit(config, reference.file):
            raise _refusal(reference, why)
        return _record(run_id, reference, needed=None)
    if folder is not None:
        _check_folder(folder, config, reference=reference)
        return _record(run_id, reference, needed=None)
    needed = _find(connection, reference)
    if needed.id == run_id:
        raise _refusal(reference, f"run {needed.name} can't wait for itself; name another run")
    if reference.of_curve:
        _check_curve(home, needed, config=config, reference=reference)
        return _record(run_id, reference, needed=needed)
    _check_which(needed, reference)
    if needed.state == "finished":
        _check_saved(home.run_folder(needed.id), needed, reference=reference)
    _check_fit(config, needed.config, reference=reference, where=f"run {needed.name}")
    return _record(run_id, reference, needed=needed)


def _record(run_id: int, reference: Reference, *, needed: _Needed | None) -> NeedRecord:
    return NeedRecord(
        run_id,
        reference.key,
        reference=reference.text,
        needed=None if needed is None else needed.id,
        needed_name="" if needed is None else needed.name,
        which=reference.which if needed is not None else BEST,
        only_at_start=reference.only_at_start,
    )


def _find(connection: sqlite3.Connection, reference: Reference) -> _Needed:
    text = reference.run
    column = "id" if text.isascii() and text.isdecimal() and len(text) < 19 else "name"
    sql = "SELECT id, name, state, config FROM runs WHERE "
    row = connection.execute(f"{sql}{column} = ?", (text,)).fetchone()
    if row is None:
        names = [name for (name,) in connection.execute("SELECT name FROM runs ORDER BY id DESC")]
        hint = nearest(text, names) or "; `sepdash runs` lists them"
        what = "file" if reference.ending and text.endswith(reference.ending) else "folder"
        folder = "" if reference.of_curve else f" (write a {what} with a slash: ./{text})"
        raise _refusal(reference, f"no run {text!r}{hint}{folder}")
    run_id, name, state, config = row
    return _Needed(run_id, name, state=state, config=upgraded(json.loads(config)))


def _check_folder(folder: Path, config: RunConfig, *, reference: Reference) -> None:
    try:
        saved = (choose_kmeans if reference.key == KMEANS_FROM else choose_checkpoint)(folder)
        below = [] if saved else list_checkpoints(folder)
    except OSError as error:
        raise _refusal(reference, f"{folder} can't be read: {error.strerror}") from None
    if saved is None:
        hint = f"; did you mean {below[0]}?" if below else ""
        raise _refusal(
            reference,
            f"{folder} contains no checkpoint: expected a checkpoint folder, or the folder of a run that "
            f"has saved a checkpoint{hint}",
        )
    _check_fit(config, upgraded(trained_config(saved)), reference=reference, where=str(folder))


def _check_which(needed: _Needed, reference: Reference) -> None:
    """Refuse a checkpoint that the run will never keep, where its config says which it keeps."""
    kept = needed.config.get("checkpoint", {}).get("best")
    if reference.which in (BEST, LAST) or kept is None or reference.which in kept:
        return
    raise _refusal(
        reference,
        f"run {needed.name} keeps no checkpoint {reference.which!r}; expected "
        f"{', '.join([BEST, LAST, *kept])}{nearest(reference.which, [BEST, LAST, *kept])}",
    )


def _check_curve(home: Home, needed: _Needed, *, config: RunConfig, reference: Reference) -> None:
    """Refuse a run whose curve can't be compared: other metrics, another loss, too few evaluations."""
    name = stop_metric(config)
    others = differing_settings(name, [config.to_dict(), needed.config])
    if others:
        raise _refusal(
            reference,
            f"run {needed.name} has another {', '.join(others)}, so its {name} means something else and can't "
            "be compared; set stop_when.metric to a metric that means the same in both",
        )
    if needed.state != "finished":
        return
    with StoreReader(home.store) as reader:
        values = reader.curve(needed.id, name, max_points=ALL_POINTS).last
    count = sum(value is not None for value in values)
    if count < MIN_EVALUATIONS:
        raise _refusal(
            reference,
            f"run {needed.name} has {count} evaluations of {name}; expected at least "
            f"{MIN_EVALUATIONS} to compare with: choose another run or stop_when.metric",
        )


def _check_saved(folder: Path, needed: _Needed, *, reference: Reference) -> None:
    names = [saved.name for saved in list_checkpoints(folder)]
    which = reference.which
    there = {BEST: names, LAST: [name for name in names if update_of(name) is not None]}
    if not there.get(which, [name for name in names if name == best_name(which)]):
        raise _refusal(
            reference,
            f"run {needed.name} has finished, but has no checkpoint {which!r} in {folder}; available: "
            f"{', '.join(names) or 'none'}",
        )


def _check_fit(
    config: RunConfig, trained: Mapping[str, Any], *, reference: Reference, where: str
) -> None:
    for why_not in (why_targets_do_not_fit, why_codec_does_not_fit):
        if why := why_not(config, trained, key=reference.key):
            raise _refusal(reference, f"{where} {why}")
    rate_hz = config.data.rate_hz
    if why := why_no_judge(trained, key=reference.key, rate_hz=rate_hz):
        raise _refusal(reference, f"{where} {why}")
    why = why_weights_do_not_fit(config, trained) if reference.key == _WEIGHTS else ""
    if why:
        raise _refusal(
            reference,
            f"{where} trains {why}; choose another run, or set init_strict = false to load the matching tensors",
        )


def _refusal(reference: Reference, message: str) -> ConfigError:
    return ConfigError([Problem(reference.key, message)])


def _name(connection: sqlite3.Connection, run_id: int) -> str:
    row = connection.execute("SELECT name FROM runs WHERE id = ?", (run_id,)).fetchone()
    return str(row[0]) if row else str(run_id)
