"""The sweep screen, driven by keys as a person would."""

from __future__ import annotations

import shlex
import tomllib
from contextlib import asynccontextmanager

import numpy as np
import pytest
import soundfile
from textual.app import App
from textual.widgets import Input, OptionList

from jobs.home import Home
from jobs.searches.definition import find
from jobs.store.reader import StoreReader
from jobs.store.writer import StoreWriter
from jobs.submit import absolute
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue
from tests.earlier import add_earlier
from tests.waiting import until_shown as until
from tui.dialogs.confirm import ConfirmScreen
from tui.screens.sweep import SweepScreen

EXPERIMENT = """
description = "two batches"
base = "bandwidth/small"
match = "items"
[set]
schedule.length = "100 updates"
batch.items = 8
[variants.baseline]
[variants.batch2x]
batch.items = 16
"""


@pytest.fixture
def folder(home: Home, tmp_path):
    path = home.presets / "experiments"
    path.mkdir(parents=True)
    (path / "aa-mine.toml").write_text(EXPERIMENT)
    (path / "ab-broken.toml").write_text('base = "bandwidth/smal"\n[variants.x]\n')
    audio = tmp_path / "audio"
    audio.mkdir()
    soundfile.write(audio / "a.wav", np.random.default_rng(0).normal(0, 0.1, 96_000), 16_000)
    return audio


@asynccontextmanager
async def opened(home: Home, *, size: tuple[int, int] = (130, 30)):
    app: App[None] = App()
    screen = SweepScreen(home)
    returned: list[bool | None] = []
    async with app.run_test(size=size) as pilot:
        await app.push_screen(screen, returned.append)
        yield screen, returned, pilot


async def test_plan_settings_and_queue(home, folder):
    async with opened(home) as (screen, returned, pilot):
        await until(pilot, lambda: screen._plan is not None)
        lengths = [(i.run.variant, i.run.updates, i.run.items) for i in screen._plan.runs]
        assert lengths == [("baseline", 100, 800), ("batch2x", 50, 800)]
        settings = screen.query_one("#settings", Input)
        settings.focus()
        rates = "data.input_rates_hz=[8000] data.rate_hz=16000"
        settings.value = f"data.train={folder} data.valid={folder} {rates}"
        await pilot.press("enter")
        await until(pilot, lambda: screen._plan is not None)
        assert screen._plan.runs[0].run.config.data.train == folder
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: returned == [True])
    with StoreReader(home.store) as reader:
        runs = reader.runs()
    assert sorted((run.variant, run.state) for run in runs) == [
        ("baseline", "queued"), ("batch2x", "queued")
    ]  # fmt: skip
    assert {run.experiment for run in runs} == {"aa-mine"}


async def test_a_search_is_shown_and_started(home, folder):
    text = (
        EXPERIMENT.partition("[variants")[0]
        + f"""
    data.train = "{folder}"
    data.valid = "{folder}"
    data.rate_hz = 16000
    data.input_rates_hz = [8000]
    [search]
    trials = 7
    space.optimizer.lr = {{low = 1e-4, high = 1e-2, log = true}}
    """
    )
    (home.presets / "experiments" / "aa-mine.toml").write_text(text)
    async with opened(home) as (screen, returned, pilot):
        await until(pilot, lambda: screen._plan is not None)
        shown = str(screen.query_one("#plan").render())
        assert "aa-mine: search in 7 trials of bandwidth/small, matched in items" in shown
        assert "optimizer.lr  0.0001 to 0.01, log" in shown
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: returned == [True])
    definition = find(home, "aa-mine")
    assert (definition.state, definition.search.trials) == ("running", 7)


async def test_a_small_terminal_shows_the_whole_plan(home, folder):
    async with opened(home, size=(80, 24)) as (screen, _, pilot):
        await until(pilot, lambda: screen._plan is not None)
        await pilot.pause()
        plan, experiments = screen.query_one("#plan"), screen.query_one(OptionList)
        lines = ["".join(s.text for s in plan.render_line(y)) for y in range(plan.size.height)]
        row = next(line.split() for line in lines if line.startswith("batch2x"))
        assert row[:5] == ["batch2x", "0", "16", "50", "800"]
        text = " ".join(" ".join(lines).split())
        assert "one seed per variant compares these trained models, not the recipes" in text
        assert plan.region.y > experiments.region.y + 4
        assert plan.region.right <= 80


async def test_a_broken_experiment_says_why_and_can_not_be_queued(home, folder):
    async with opened(home) as (screen, returned, pilot):
        await until(pilot, lambda: screen._plan is not None)
        screen.query_one(OptionList).focus()
        await pilot.press("down")
        plan = screen.query_one("#plan")
        await until(pilot, lambda: "bandwidth/small" in str(plan.render()))
        await pilot.press("ctrl+r")
        assert pilot.app.screen is screen
        await pilot.press("escape")
        await until(pilot, lambda: returned == [False])


async def test_a_reference_to_no_run_is_named_before_anything_is_queued(home, folder):
    text = EXPERIMENT + 'init_from = "aa-mine-basline-s0"\n'
    (home.presets / "experiments" / "aa-mine.toml").write_text(text)
    async with opened(home) as (screen, _, pilot):
        plan = screen.query_one("#plan")
        await until(pilot, lambda: "no run 'aa-mine-basline-s0'" in str(plan.render()))
        assert screen._plan is None


async def test_missing_data_is_told_and_queues_nothing(home, folder):
    async with opened(home) as (screen, returned, pilot):
        settings = screen.query_one("#settings", Input)
        settings.focus()
        settings.value = "data.train=/nowhere/a data.valid=/nowhere/b"
        await pilot.press("enter")
        await until(pilot, lambda: screen._plan is not None)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: any("/nowhere/a" in n.message for n in pilot.app._notifications))
        assert returned == []


async def test_a_night_shows_what_fits_and_queues_that(home, folder):
    experiment = home.presets / "experiments" / "aa-mine.toml"
    experiment.write_text("seeds = [0, 1]\n" + EXPERIMENT)
    rates = "data.input_rates_hz=[8000] data.rate_hz=16000"
    words = f"data.train={folder} data.valid={folder} {rates}"
    values = tomllib.loads(experiment.read_text())
    plan = plan_sweep("aa-mine", values, Catalogue(home.presets), assignments=shlex.split(words))
    with StoreWriter(home.create().store) as store:
        for run in plan.runs[:2]:
            # 12 and 6 s of updates, two evaluations and the start.
            add_earlier(
                store,
                absolute(run.config),
                name=run.variant,
                update_s=0.12,
                evaluation_s=1.0,
                startup_s=5.0,
                warmup_s=0.0,
            )
    async with opened(home, size=(150, 40)) as (screen, returned, pilot):
        screen.query_one("#settings", Input).value = words
        until_field = screen.query_one("#until", Input)
        until_field.value = "50 seconds"
        until_field.focus()
        await pilot.press("enter")
        await until(pilot, lambda: screen._plan is not None and screen._plan.night is not None)
        shown = screen.query_one("#plan")
        await pilot.pause()
        lines = [
            "".join(s.text for s in shown.render_line(y)).strip() for y in range(shown.size.height)
        ]
        assert [run.run.name for run in screen._plan.runs] == [
            "aa-mine-baseline-s0",
            "aa-mine-batch2x-s0",
        ]
        text = " ".join(lines)
        assert "2 of 4 runs of bandwidth/small until" in text
        assert "trained models can be compared, not recipes" in text
        assert "left out: aa-mine-baseline-s1, aa-mine-batch2x-s1" in text
        until_field.value = "25:00"
        await pilot.press("enter")
        await until(pilot, lambda: "'25:00' is not a time" in str(shown.render()))
        until_field.value = "3 s"
        await pilot.press("enter")
        await until(pilot, lambda: screen._plan is not None)
        await pilot.press("ctrl+r")
        await until(
            pilot, lambda: any("no complete round" in n.message for n in pilot.app._notifications)
        )
        until_field.value = "50 seconds"
        await pilot.press("enter")
        await until(pilot, lambda: screen._plan is not None and screen._plan.runs)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, lambda: returned == [True])
    with StoreReader(home.store) as reader:
        queued = [run.name for run in reader.runs() if run.state == "queued"]
    assert queued == ["aa-mine-baseline-s0", "aa-mine-batch2x-s0"]
