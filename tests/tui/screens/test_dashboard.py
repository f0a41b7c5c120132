"""The dashboard driven by keys, on a store written by the real writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import numpy as np
import pytest

from jobs.store.reader import StoreReader
from tests.tui.objectives import add_hubert, add_separation
from tests.waiting import until_shown as until
from tui.apps.dashboard import SepdashApp
from tui.dialogs.confirm import ConfirmScreen
from tui.dialogs.help import HelpScreen
from tui.live import actions
from tui.reports import formats
from tui.widgets.charts.chart import Chart
from tui.widgets.log_tail import LogTail
from tui.widgets.run_line import RunLine
from tui.widgets.runs_table import RunsTable
from tui.widgets.status_line import StatusLine


@pytest.fixture
def opened(lab, clock):
    """Return a context manager that opens the dashboard and waits for the first chart."""

    @asynccontextmanager
    async def open_app(*, size=(80, 24), select=(), charts=True):
        app = SepdashApp(lab.home, select=select, clock=clock)
        async with app.run_test(size=size) as pilot:
            if charts:
                await until(pilot, lambda: app.screen.query_one("#loss", Chart).plot.lines)
            yield app, pilot

    return open_app


def text_of(app) -> str:
    return "\n".join(
        "".join(part.text for part in row) for row in app.screen._compositor.render_strips()
    )


def state_of(lab, run_id: int) -> str:
    with StoreReader(lab.home.store) as reader:
        return reader.run(run_id).state


async def test_an_empty_home_says_what_to_do_next(opened):
    async with opened(charts=False) as (app, pilot):
        await until(pilot, lambda: "no worker" in text_of(app))
        screen = text_of(app)
    assert "No runs yet." in screen
    assert "Press n to choose a preset" in screen
    assert "press w to start one" in screen


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50), (40, 12)])
async def test_runs_charts_figures_and_log_are_on_the_screen(opened, lab, size):
    ids = lab.night()
    lab.worker(pid=os.getpid(), run=ids[4])
    async with opened(size=size) as (app, pilot):
        await until(pilot, lambda: app.screen.query_one(LogTail).lines)
        await pilot.pause()
        screen = text_of(app)
    assert "denoise-weight-norm-1" in screen
    if size[0] >= 80:
        for words in ("cuda:0", "GPU 94%", "45%", "+7.31", "queued #1", "EMA 13.1", "valid",
                      "audio s/s", "VRAM 31.4", "9,130 of 20,000", "update 9000"):  # fmt: skip
            assert words in screen, words


async def test_the_charts_follow_the_choice(opened, lab):
    ids = lab.night()
    async with opened() as (app, pilot):
        table = app.screen.query_one(RunsTable)
        assert table.selected == ids[4]
        await pilot.press("end")
        await until(
            pilot, lambda: app.screen.query_one("#loss", Chart).plot.lines[0].x[-1] == 20_000
        )
        await until(pilot, lambda: "update 20000" in app.screen.query_one(LogTail).lines[-1])
        assert app.screen.query_one(RunLine).run.name == table.runs[-1].name
        assert table.cursor_row == 7
        await pilot.press("home", "down")
        chart = app.screen.query_one("#loss", Chart)
        await until(pilot, lambda: chart.plot.empty == "waiting in the queue")


async def test_a_running_run_says_which_stage_before_training_it_is_in(opened, lab):
    lab.run("a", "running", message="stage clusters 40 %")
    async with opened() as (app, pilot):
        line = app.screen.query_one(RunLine)
        await until(pilot, lambda: line.run is not None)
        assert "stage clusters 40 %" in line.render().plain


async def test_a_click_chooses_a_run(opened, lab):
    lab.night()
    async with opened() as (app, pilot):
        await pilot.click(RunsTable, offset=(10, 3))
        assert app.screen.query_one(RunsTable).cursor_row == 2


async def test_the_cursor_keeps_to_its_run_when_the_order_changes(opened, lab):
    ids = lab.night()
    async with opened() as (app, pilot):
        await pilot.press("down", "down")
        table = app.screen.query_one(RunsTable)
        assert (table.selected, table.cursor_row) == (ids[6], 2)
        lab.writer.move(ids[6], "stopped", ["queued"], ended_at=1.0)
        await until(pilot, lambda: table.cursor_row == 7)
        assert table.selected == ids[6]


async def test_the_running_run_is_followed_until_another_is_chosen(opened, lab):
    ids = lab.night()
    async with opened() as (app, pilot):
        table = app.screen.query_one(RunsTable)
        lab.writer.move(ids[4], "finished", ["running"], ended_at=2e9)
        lab.writer.move(ids[5], "running", ["queued"])
        await until(pilot, lambda: table.selected == ids[5])
        await pilot.press("end")
        lab.writer.move(ids[5], "finished", ["running"], ended_at=2e9)
        lab.writer.move(ids[6], "running", ["queued"])
        await until(pilot, lambda: table.runs[0].id == ids[6])
        assert table.selected != ids[6]
        await pilot.press("f")
        assert table.selected == ids[6]


async def test_marked_runs_share_the_charts_each_in_its_colour(opened, lab):
    ids = lab.night()
    async with opened(size=(200, 50)) as (app, pilot):
        await pilot.press("end", "space", "up", "space")
        chart = app.screen.query_one("#score", Chart)
        await until(pilot, lambda: len({line.label for line in chart.plot.lines}) == 3)
        names = {line.label: line.colour for line in chart.plot.lines}
        assert names == {"small-1": 0, "batch2x-1": 1, "input": 7}
        assert text_of(app).count("● ") >= 2
        await pilot.press("c")
        await until(pilot, lambda: chart.plot.lines[0].label == "EMA")
    assert ids


async def test_runs_can_be_compared_from_the_start(opened, lab):
    ids = lab.night()
    async with opened(select=ids[:2]) as (app, pilot):
        chart = app.screen.query_one("#loss", Chart)
        await until(pilot, lambda: len(chart.plot.lines) == 2)
        assert [line.label for line in chart.plot.lines] == ["small-1", "batch2x-1"]


async def test_marked_runs_whose_losses_differ_share_no_axis(opened, lab):
    """The chart is that of the selected run; the others have panels, or are named in a note."""
    first = add_hubert(lab, "hubert-mfcc")
    second = add_hubert(lab, "hubert-second", clusters=500, targets_from="hubert-mfcc")
    other = add_separation(lab, "denoise")
    async with opened(size=(120, 40), select=[first, second, other]) as (app, pilot):
        chart = app.screen.query_one("#loss", Chart)
        await until(pilot, lambda: len(chart.plot.apart) == 2)
        assert "2 not shown: loss.clusters = 500" in text_of(app)
        for key, name, unit in (("up", "hubert-second", "nats"), ("up", "denoise", "dB")):
            await pilot.press(key)
            await until(pilot, lambda name=name: chart.plot.lines[0].label == name)
            assert (chart.plot.unit, len(chart.plot.lines)) == (unit, 1)
        await pilot.press("1")
        await until(pilot, lambda: "Loss nats" in text_of(app) and "Loss dB" in text_of(app))
        await pilot.press("c")
        await until(pilot, lambda: not chart.plot.apart)


async def test_smoothing_changes_by_key_and_the_legend_says_the_value_itself(opened, lab):
    run = lab.run("a", "finished", updates=2000)
    with StoreReader(lab.home.store) as reader:
        newest = reader.latest(run)["loss"]
    async with opened(size=(200, 50)) as (app, pilot):
        chart = app.screen.query_one("#loss", Chart)
        drawn = []
        for _ in range(4):
            line = chart.plot.lines[0]
            assert f"train {formats.number(newest)}" in text_of(app)
            assert line.values[-1] == newest
            drawn.append(np.abs(np.diff(line.mean)).mean())
            await pilot.press("a")
            await pilot.pause()
        light, strong, off, again = drawn
        assert strong < light < off / 3
        assert again == light


async def test_axes_change_by_key(opened, lab):
    lab.night()
    async with opened() as (app, pilot):
        chart = app.screen.query_one("#loss", Chart)
        await pilot.press("x")
        assert chart.plot.x_unit == "items"
        assert chart.plot.lines[0].x[-1] == 9130 * 16
        await pilot.press("x")
        assert chart.plot.x_unit == "epochs"
        assert chart.plot.lines[0].x[-1] == pytest.approx(9130 / 256)
        await pilot.press("x", "x", "x")
        assert chart.plot.x_unit == "updates"
        await pilot.press("y")
        assert chart.plot.log


async def test_metrics_of_a_run_are_charted_in_turn_by_key(opened, lab):
    run = lab.run("a", "running", updates=1000)
    steps = np.arange(500, 1001, 500)
    lab._points(
        run, steps, ("pesq_full", np.array([1.5, 2.0]), ""), ("stoi_full", np.array([0.7, 0.8]), "")
    )
    async with opened() as (app, pilot):
        chart = app.screen.query_one("#score", Chart)
        shown = []
        for title in ("PESQ", "STOI", "SI-SDR"):
            await pilot.press("m")
            await until(
                pilot,
                lambda title=title: (
                    chart.plot.title == title and any(len(line.x) for line in chart.plot.lines)
                ),
            )
            shown.append([line.mean[-1] for line in chart.plot.lines if line.label == "whole"])
        assert shown == [[2.0], [0.8], []]


async def test_run_without_another_metric_says_so(opened, lab):
    lab.run("a", "running", updates=1000)
    async with opened() as (app, pilot):
        await pilot.press("m")
        assert "This run has no other metric yet" in str([n.message for n in app._notifications])


async def test_one_chart_or_the_log_alone(opened, lab):
    lab.night()
    async with opened() as (app, pilot):
        await pilot.press("2")
        assert [chart.id for chart in app.screen.query(Chart) if chart.display] == ["score"]
        await pilot.press("3")
        assert [chart.id for chart in app.screen.query(Chart) if chart.display] == ["throughput"]
        await pilot.press("3")
        assert len([chart for chart in app.screen.query(Chart) if chart.display]) == 4
        await pilot.press("l")
        await pilot.pause()
        assert app.screen.query_one(LogTail).size.height > 15
        await pilot.press("l")
        assert app.screen.query_one(RunsTable).display


async def test_the_crosshair_reads_all_charts_at_one_place(opened, lab):
    lab.night()
    async with opened(size=(200, 50)) as (app, pilot):
        await pilot.press("tab", "left", "left")
        cursors = {chart.id: chart.cursor for chart in app.screen.query(Chart)}
        assert cursors["loss"] == cursors["score"] == cursors["throughput"] is not None
        assert cursors["memory"] is None
        assert f" at {cursors['loss']:.0f}" in text_of(app)
        await pilot.press("escape")
        assert app.screen.query_one("#loss", Chart).cursor is None
        await pilot.hover("#score", offset=(30, 8))
        assert app.screen.query_one("#loss", Chart).cursor is not None


async def test_the_log_stays_where_the_person_scrolled(opened, lab):
    ids = lab.night()
    async with opened() as (app, pilot):
        tail = app.screen.query_one(LogTail)
        await until(pilot, lambda: tail.lines)
        await pilot.pause()
        assert tail.is_vertical_scroll_end
        tail.scroll_to(y=2, animate=False)
        await pilot.pause()
        with (lab.home.run_folder(ids[4]) / "log.txt").open("a") as file:
            file.write("a new line\n")
        await until(pilot, lambda: tail.lines[-1] == "a new line")
        assert tail.scroll_offset.y == 2


async def test_stop_resume_and_move_go_through_the_store(opened, lab):
    ids = lab.night()
    async with opened() as (app, pilot):
        await pilot.press("down", "J")
        table = app.screen.query_one(RunsTable)
        await until(pilot, lambda: [run.id for run in table.runs][1:4] == [ids[6], ids[5], ids[7]])
        assert table.selected == ids[5]
        await pilot.press("s")
        await until(pilot, lambda: state_of(lab, ids[5]) == "stopped")
        await until(
            pilot,
            lambda: table.selected == ids[5] and table.runs[table.cursor_row].state == "stopped",
        )
        await pilot.press("r")
        await until(pilot, lambda: state_of(lab, ids[5]) == "queued")


async def test_a_queued_run_that_is_stopped_comes_first_of_those_that_ended(lab):
    """It had no time of its end, so that it went below 50 others."""
    lab.writer.update_run(lab.run("old", "finished", updates=500), ended_at=1.0)
    run = lab.run("night-2")
    with StoreReader(lab.home.store) as reader:
        assert actions.stop(lab.home, reader.run(run)) == "stopped night-2"
        assert [item.name for item in reader.runs()] == ["night-2", "old"]


async def test_a_cursor_in_sight_stays_there_when_runs_are_queued_above_it(opened, lab):
    ids = [lab.run(f"old-{number}", "finished", updates=500) for number in range(9)]
    async with opened() as (app, pilot):
        table = app.screen.query_one(RunsTable)
        await pilot.press("down", "down", "down", "down")
        chosen = table.selected
        assert chosen == ids[4]
        for number in range(4):
            lab.run(f"night-{number}")
        await until(pilot, lambda: len(table.runs) == 13)
        await until(pilot, lambda: "old-4 " in text_of(app).split("Loss")[0])
        assert table.selected == chosen


async def test_escape_in_a_chart_goes_back_to_the_runs(opened, lab):
    lab.night()
    async with opened() as (app, pilot):
        app.screen.query_one("#score", Chart).focus()
        await pilot.press("escape")
        assert app.screen.focused is app.screen.query_one(RunsTable)


async def test_a_screenshot_is_saved_where_no_folder_for_downloads_is(
    opened, lab, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("XDG_DOWNLOAD_DIR", raising=False)
    lab.night()
    async with opened() as (app, pilot):
        (command,) = [
            item for item in app.get_system_commands(app.screen) if item.title == "Screenshot"
        ]
        command.callback()
        await until(pilot, lambda: list((lab.home.root / "screenshots").glob("*.svg")))
        (saved,) = (lab.home.root / "screenshots").glob("*.svg")
        await until(pilot, lambda: saved.read_text().rstrip().endswith("</svg>"))
        await until(pilot, lambda: any("screenshots" in n.message for n in app._notifications))


async def test_remove_asks_first_and_never_takes_a_running_run(opened, lab):
    ids = lab.night()
    async with opened() as (app, pilot):
        await pilot.press("d")
        assert not isinstance(app.screen, ConfirmScreen)
        await pilot.press("end", "d")
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press("n")
        table = app.screen.query_one(RunsTable)
        assert len(table.runs) == 8
        await pilot.press("d", "y")
        await until(pilot, lambda: len(table.runs) == 7)
        assert table.selected == table.runs[-1].id
    assert not lab.home.run_folder(ids[0]).exists()


async def test_what_can_not_be_done_is_said(opened, lab):
    lab.night()
    async with opened() as (app, pilot):
        await pilot.press("end", "s")
        await until(pilot, lambda: app._notifications)
        notes = list(app._notifications)
        assert notes[0].severity == "error"
        assert "finished" in notes[0].message


async def test_help_and_palette_name_every_action(opened, lab):
    lab.night()
    async with opened(size=(100, 40)) as (app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        await pilot.pause()
        assert "mark the run" in text_of(app)
        await pilot.press("escape")
        titles = [command.title for command in app.get_system_commands(app.screen)]
        assert {"New run", "Stop run", "Resume run", "Worker", "Follow"} <= set(titles)


async def test_a_store_that_can_not_be_read_is_said_in_the_status_line(home, clock):
    home.create()
    home.store.write_bytes(b"this is no database, whatever its name says" * 100)
    app = SepdashApp(home, clock=clock)
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.screen.query_one(StatusLine).problem)
        assert str(home.store) in app.screen.query_one(StatusLine).problem


def test_actions_turn_errors_into_messages(home):
    def refused() -> str:
        raise ValueError("no such run")

    def defect() -> str:
        raise KeyError("oops")

    home.create()
    assert actions.perform(home, refused).text == "no such run"
    answer = actions.perform(home, defect)
    assert answer.failed
    assert "KeyError" in (home.root / "dashboard.log").read_text()


def test_the_dashboard_loads_nothing_slow():
    code = (
        "import sys, tui.apps.dashboard; "
        "print([name for name in ('torch', 'torchaudio', 'sqlite_utils', 'pydantic', 'huey', 'wandb') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_app_that_fails_while_it_starts_leaves_no_thread_behind(home):
    code = f"""
from jobs.home import Home
from tui.apps.dashboard import SepdashApp

async def fail(pilot):
    raise RuntimeError("at once")

SepdashApp(Home.locate({str(home.root)!r})).run(headless=True, auto_pilot=fail)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0


async def test_a_run_is_resumed_from_a_checkpoint_that_is_chosen_from_a_list(opened, lab):
    """Only resume states can be chosen; the newer one is set aside, and the run is queued."""
    ids = lab.night()
    lab.writer.move(ids[4], "stopped", ["running"], ended_at=1.0)
    below = lab.home.run_folder(ids[4]) / "checkpoints"
    for name, updates in (("last-009000", 9000), ("last-008000", 8000), ("best-si_sdr", 7000)):
        (below / name).mkdir(parents=True)
        values = {
            "counters": {"updates": updates, "epochs": updates / 1000}, "created_at": 1.7e9,
            "metrics": {"si_sdr": 12.5}, "files": {"model.safetensors": {"size_bytes": 5, "sha256": ""}},
        }  # fmt: skip
        (below / name / "manifest.json").write_text(json.dumps(values))
    async with opened(size=(120, 40), select=[ids[4]]) as (app, pilot):
        await pilot.press("R")
        # The rows of the list are drawn one after another.
        await until(pilot, lambda: "8,000 updates" in text_of(app))
        await until(pilot, lambda: "best-si_sdr" in text_of(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: state_of(lab, ids[4]) == "queued")
    assert sorted(path.name for path in below.iterdir()) == [
        "best-si_sdr", "last-008000", "last-009000.newer",
    ]  # fmt: skip
