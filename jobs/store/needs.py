"""What runs need of other runs: the rows of `run_needs`, and what waiting runs wait for.

A need names the other run by its id, which no later run ever has. A queued run waits until all the
runs that it needs have finished; once it has begun, its checkpoints are noted and it waits no more.
Standard library only, for the reader.
"""

# ruff: noqa: S608 (the SQL is put together from constants of this file; values are always bound)

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from jobs.store.records import NeedRecord, Wait
from jobs.store.row_types import share, typed

# A need of a row of `runs`, not yet met.
_UNMET = """
    FROM run_needs AS need LEFT JOIN runs AS base ON base.id = need.needed
    WHERE need.run = runs.id AND need.needed IS NOT NULL AND need.checkpoint = ''
    AND coalesce(base.state, '') != 'finished'
"""
# A condition on rows of `runs`; a run without needs costs one look into an index.
CLAIMABLE = f"state = 'queued' AND NOT EXISTS (SELECT 1 {_UNMET})"
_COLUMNS = "run, key, reference, needed, needed_name, which, only_at_start, checkpoint, content"


def insert_needs(connection: sqlite3.Connection, needs: Iterable[NeedRecord]) -> None:
    """Note what runs need."""
    rows = [tuple(getattr(need, name) for name in _COLUMNS.split(", ")) for need in needs]
    marks = ", ".join("?" * len(_COLUMNS.split(", ")))
    connection.executemany(f"INSERT INTO run_needs ({_COLUMNS}) VALUES ({marks})", rows)


def delete_need(connection: sqlite3.Connection, run_id: int, *, key: str) -> None:
    """Remove what a setting of a run needs."""
    connection.execute("DELETE FROM run_needs WHERE run = ? AND key = ?", (run_id, key))


def note_checkpoint(
    connection: sqlite3.Connection, need: NeedRecord, *, checkpoint: str, content: str
) -> None:
    """Note the checkpoint that a need was met with; the run keeps to it from now on."""
    connection.execute(
        "UPDATE run_needs SET checkpoint = ?, content = ? WHERE run = ? AND key = ?",
        (checkpoint, content, need.run, need.key),
    )


def read_needs(connection: sqlite3.Connection, run_id: int) -> list[NeedRecord]:
    """Return what a run needs, in the order of its keys."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM run_needs WHERE run = ? ORDER BY key", (run_id,)
    )
    return [typed(NeedRecord, row) for row in rows]


def read_waits(connection: sqlite3.Connection) -> dict[int, list[Wait]]:
    """Return what each waiting run waits for, by run id."""
    rows = connection.execute(
        """
        SELECT runs.id, need.key, need.needed, coalesce(base.name, need.needed_name), base.state,
            base.updates, base.total_updates
        FROM run_needs AS need JOIN runs ON runs.id = need.run
        LEFT JOIN runs AS base ON base.id = need.needed
        WHERE runs.state = 'queued' AND need.needed IS NOT NULL AND need.checkpoint = ''
        AND coalesce(base.state, '') != 'finished' ORDER BY runs.id, need.key
        """
    )
    waits: dict[int, list[Wait]] = {}
    for run, key, needed, name, state, updates, total in rows:
        wait = typed(Wait, (run, key, needed, name, state, share(updates, total)))
        waits.setdefault(run, []).append(wait)
    return waits


def in_vain(waits: Mapping[int, Sequence[Wait]]) -> set[int]:
    """Return the waiting runs that nothing at work will set free.

    What they need has failed, was stopped or removed, or waits in vain itself.
    """
    lost: set[int] = set()
    while True:
        more = {
            run
            for run, some in waits.items()
            if run not in lost
            and any(w.state not in ("queued", "running") or w.needed in lost for w in some)
        }
        if not more:
            return lost
        lost |= more


def dependents(connection: sqlite3.Connection, run_id: int) -> dict[int, str]:
    """Return id and name of the unfinished runs that can't do without the files of a run."""
    rows = connection.execute(
        """
        SELECT runs.id, runs.name FROM run_needs AS need JOIN runs ON runs.id = need.run
        WHERE need.needed = ? AND runs.state != 'finished' AND NOT (
            need.checkpoint != '' AND need.only_at_start AND EXISTS (
                SELECT 1 FROM checkpoints WHERE checkpoints.run = runs.id AND kind = 'last'
            )
        ) ORDER BY runs.id
        """,
        (run_id,),
    )
    return dict(rows.fetchall())


def circle(connection: sqlite3.Connection, run_ids: Collection[int]) -> list[int]:
    """Return runs that need each other in a circle, reached from one of `run_ids`; or none."""
    sql = "SELECT needed FROM run_needs WHERE run = ? AND needed IS NOT NULL ORDER BY key"

    def needed_by(run: int) -> Iterator[int]:
        return iter([needed for (needed,) in connection.execute(sql, (run,))])

    clear: set[int] = set()
    for start in run_ids:
        # The way from `start` to here, with what is still to be followed; chains may be long.
        way = {start: needed_by(start)}
        while way:
            here, ahead = next(reversed(way.items()))
            run = next(ahead, None)
            if run is None:
                clear.add(here)
                del way[here]
            elif run in way:
                path = list(way)
                return path[path.index(run) :]
            elif run not in clear:
                way[run] = needed_by(run)
    return []
