"""Values that something else wrote into the store: the dashboard draws what can be drawn, and ends of nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.message import Message
from textual.widgets import Static

from jobs.home import Home
from jobs.store.reader import StoreReader
from tests.tui.conftest import NOW, Lab
from tests.waiting import until_shown as until
from tui.apps.dashboard import SepdashApp
from tui.dialogs.events import EventsScreen
from tui.live.feed import Feed, Watch
from tui.live.messages import ChartsChanged, MachineSampled, RunsChanged
from tui.widgets.charts import build as charts
from tui.widgets.charts.panels import compose_panels
from tui.widgets.charts.view import CLOCKS, SMOOTHING, View
from tui.widgets.run_cells import header, layout, row_cells
from tui.widgets.run_line import facts
from tui.widgets.status_line import machine

ODD = (
    None, "x\x1b[2J\x07", "\u202e\n", b"\xff\x00", "[" * 3000, '{"a": "\\u001b"}', "", "nan", "3 epochs",
    0, -1, 2.5, 2**62, -(2**63), 1e300, -1.5e308, float("inf"), float("-inf"),
)  # fmt: skip
ROWS = {
    "events": {"run": 2, "time": NOW, "level": "warning", "kind": "k", "message": "m"},
    "checkpoints": {"run": 2, "kind": "last", "path": "p", "updates": 3, "size_bytes": 4, "created_at": NOW},
    "evaluations": {"run": 2, "updates": 3, "train_seconds": 4.0, "items_key": "k"},
    "item_results": {"run": 2, "updates": 3, "metric": "si_sdr", "results": "[1, 2]"},
    "clips": {"run": 2, "updates": 3, "item": "0", "kind": "input", "path": "p", "created_at": NOW},
    "run_needs": {"run": 3, "key": "init_from", "reference": "done", "needed": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A store in memory with rows in every table: an ended run, one that trains, one that waits, one of words."""
    lab = Lab(Home.locate(tmp_path_factory.mktemp("sound") / "home"))
    lab.run("done", "finished", updates=300)
    lab.run("going", "running", updates=200)
    lab.run("waits")
    lab.run("words", "stopped", updates=500, metric="wer")
    lab.sample(NOW - 1)
    lab.worker(pid=os.getpid(), run=2)
    lab.close()
    kept = sqlite3.connect(":memory:")
    with closing(sqlite3.connect(lab.home.store)) as connection, connection:
        for table, row in ROWS.items():
            marks = ", ".join("?" * len(row))
            connection.execute(
                f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
            )
        connection.commit()
        connection.backup(kept)
    yield kept
    kept.close()


def places(store: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every column of every table."""
    names = [row[0] for row in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return [
        (table, column[1])
        for table in names
        if not table.startswith(("sqlite_", "_sqlite"))
        for column in store.execute(f"PRAGMA table_info({table})")
    ]


def forge(
    home: Home, sound: sqlite3.Connection, values: Sequence[tuple[tuple[str, str], Any]]
) -> None:
    """Make the store that of `sound`, with values put into whole columns; what SQLite refuses is left out."""
    with closing(sqlite3.connect(home.store)) as connection:
        sound.backup(connection)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (table, column), value in values:
            try:
                with connection:
                    connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (value,))
            except (sqlite3.IntegrityError, OverflowError):
                continue


def read(home: Home, *runs: int) -> list[Message]:
    """Return the messages with which the feed answers a look at some runs."""
    messages: list[Message] = []
    feed = Feed(home, lambda: StoreReader(home.store), post=messages.append, clock=lambda: NOW)
    feed.watch(Watch(runs))
    with StoreReader(home.store) as reader:
        feed.poll(reader)
        for run in runs:
            reader.events(run)
            reader.checkpoints(run)
            reader.clips(run)
            reader.needs(run)
            for evaluation in reader.evaluations(run):
                reader.item_results(run, evaluation.updates, metric="si_sdr")
    return messages


def texts(messages: Sequence[Message], view: View, size: tuple[int, int]) -> Iterator[str]:
    """Yield every text that the dashboard makes of the messages."""
    for message in messages:
        if isinstance(message, ChartsChanged):
            for plot in charts.build(message.data, {1: 0, 2: 1, 4: 2}, view=view).values():
                for row in compose_panels(plot, size, cursor=3.0):
                    yield "".join(text for text, _ in row)
            for item in message.data:
                yield from (value for _, value in facts(item.run, item.latest))
        if isinstance(message, RunsChanged):
            columns = layout(200)
            yield from (cell.text for cell in header(columns, message.runs))
            for run in message.runs:
                yield from (cell.text for cell in row_cells(run, columns, place=1, now=NOW))
        if isinstance(message, MachineSampled):
            yield from machine(message.sample)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_in_any_column_is_drawn_or_left_out(
    data: st.DataObject, sound: sqlite3.Connection, tmp_path: Path
) -> None:
    home = Home.locate(tmp_path / "home").create()
    put = st.tuples(st.sampled_from(places(sound)), st.sampled_from(ODD))
    forge(home, sound, data.draw(st.lists(put, min_size=1, max_size=3)))
    view = View(
        data.draw(st.sampled_from(CLOCKS)),
        log=data.draw(st.booleans()),
        smoothing=data.draw(st.sampled_from(list(SMOOTHING))),
    )
    size = data.draw(st.sampled_from([(60, 10), (24, 5), (120, 40)]))
    shown = data.draw(st.sampled_from([(2, 1, 4), (1,), (2,), (3,), (4, 2)]))
    found = list(texts(read(home, *shown), view, size))
    assert [text for text in found if not text.isprintable()] == []
    assert max(map(len, found), default=0) < 1000


STATES = (
    {("runs", "state"): "x", ("runs", "metric"): "\x1b[2J", ("workers", "device"): "\x1b[2J", ("events", "level"): "x"},
    {("runs", "name"): "x\x1b[2J", ("series", "unit"): "\x1b[2J", ("events", "message"): "\x1b[2J\x07"},
    {("points", "value"): "x", ("points", "step"): "x", ("system", "ram_bytes"): 1.5e308},
    {("points", "value"): 1.5e308, ("runs", "updates"): 2**62, ("runs", "train_seconds"): -1e300},
    {("series", "name"): b"\xff", ("rollups", "count"): b"\xff", ("runs", "config"): "[["},
)  # fmt: skip


async def test_the_screens_go_on(sound: sqlite3.Connection, tmp_path: Path) -> None:
    home = Home.locate(tmp_path / "home").create()
    forge(home, sound, [])
    app = SepdashApp(home, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        for state in STATES:
            forge(home, sound, list(state.items()))
            for message in read(home, 2, 1, 4):
                app.screen.post_message(message)
            await pilot.pause()
            assert {
                part.text
                for row in app.screen._compositor.render_strips()
                for part in row
                if not part.text.isprintable()
            } == set(), state
        with StoreReader(home.store) as reader:
            run = reader.run(2)
        forge(home, sound, list(STATES[0].items()))
        events = EventsScreen(home, run)
        await app.push_screen(events)
        shown = events.query_one(Static)
        await until(pilot, lambda: str(shown.content).endswith("info    m\n"))
