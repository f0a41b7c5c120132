"""The preset screen, driven by keys as a person would."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

import pytest
from textual.app import App
from textual.widgets import Button, Input, Label, OptionList, Static

from engine.batching.report import PlanReport
from engine.config.overrides import config_with
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.submit import enqueue
from presets.catalogue import Catalogue
from tests.waiting import until_shown as until
from tui.dialogs.batch_plan import BatchPlanScreen
from tui.screens.preset import PresetScreen
from tui.widgets.charts.chart import Chart
from tui.widgets.choice import Choice
from tui.widgets.setting_field import SettingField, field_id

REPORT = PlanReport(
    "duration", "0" * 16, world=2, num_items=400, audio_s=600.0, updates_per_epoch=10.0, updates_seen=10, micro_batches=40, empty=1, over_cap=0, largest=40.0, shapes=7, padding_share=0.05, joint_padding_share=None, idle_share=0.01, mean_items=40.0, mean_s=60.0,
    mean_tokens=None, histogram=((1, 4, 10), (5, 8, 30)), left_out=(), notes=(),
)  # fmt: skip


class Opened:
    """The screen in an app, with what it returned."""

    def __init__(self, home: Home, preset: str) -> None:
        self.app: App[None] = App()
        self.screen = PresetScreen(home, preset=preset)
        self.returned: list[int | None] = []

    def row(self, key: str) -> SettingField:
        return self.screen.query_one(f"#{field_id(key)}", SettingField)

    def focus(self, key: str) -> None:
        self.row(key).editor.focus()

    def text(self, name: str) -> str:
        return str(self.screen.query_one(f"#{name}", Static).render())

    def items(self) -> str:
        config = self.screen._verdict.config
        return str(config.batch.items) if config is not None else ""

    def presets(self) -> list[str]:
        options = self.screen.query_one("#presets", OptionList)
        return [str(option.id) for option in options.options]


@asynccontextmanager
async def opened(home: Home, preset: str = "denoise/small", *, size: tuple[int, int] = (80, 24)):
    it = Opened(home, preset)
    async with it.app.run_test(size=size) as pilot:
        await it.app.push_screen(it.screen, it.returned.append)
        await until(
            pilot, lambda: "ready" in it.text("problems") or "problem" in it.text("problems")
        )
        yield it, pilot


@pytest.fixture
def folders(tmp_path: Path, write_tone: Callable[[Path], Path]) -> dict[str, Path]:
    """Folders with a file each, by the key of their setting."""
    found = {f"data.{name}": tmp_path / name for name in ("train", "valid", "noise")}
    for folder in found.values():
        write_tone(folder / "tone.wav")
    return found


async def test_lists_all_presets_and_shows_the_one_asked_for(home: Home) -> None:
    async with opened(home, "stems/vocals") as (it, _):
        assert it.presets() == [info.name for info in Catalogue().list()]
        assert "stems/vocals  (shipped)" in it.text("about")
        assert it.row("data.targets").text == "vocals"


async def test_the_filter_narrows_the_list_by_name_and_description(home: Home) -> None:
    async with opened(home) as (it, pilot):
        await pilot.press("ctrl+f", *"conv")
        shown = {info.name: info.description for info in Catalogue(home.presets).list()}
        meant = [name for name in shown if "conv" in f"{name} {shown[name]}".lower()]
        assert "stems/conv-tasnet" in meant
        assert it.presets() == meant
        assert it.row("model.kind").text == "conv_tasnet"
        await pilot.press(*"zzz")
        assert it.presets() == []


async def test_moving_in_the_list_shows_other_settings(home: Home) -> None:
    async with opened(home, "denoise/small") as (it, pilot):
        await pilot.press("end")
        await until(pilot, lambda: it.screen.query(f"#{field_id('data.max_s')}"))
        assert not it.screen.query(f"#{field_id('data.noise')}")


async def test_enter_goes_from_the_list_to_the_form(home: Home) -> None:
    async with opened(home) as (it, pilot):
        await pilot.press("enter")
        assert it.app.focused is it.row("data.kind").editor
        assert "data.kind" in it.text("help")


async def test_a_wrong_value_is_refused_beside_its_field_as_it_is_typed(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.focus("optimizer.lr")
        await pilot.press(*"fast")
        row = it.row("optimizer.lr")
        assert "found 'fast'" in row.problem
        assert row.region.height == 2
        assert "1 problem: optimizer.lr" in it.text("problems")
        assert it.screen.query_one("#enqueue", Button).disabled
        await pilot.press("ctrl+z")
        assert row.problem == ""
        assert row.text == "0.003"
        assert "ready, 0 changed" in it.text("problems")


async def test_typing_is_left_as_it_is_typed(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.focus("optimizer.lr")
        await pilot.press(*"1e-4")
        editor = it.row("optimizer.lr").editor
        assert isinstance(editor, Input)
        assert editor.value == "1e-4"
        assert it.row("optimizer.lr").changed


async def test_help_shows_unit_bounds_and_default_of_the_focused_field(home: Home) -> None:
    async with opened(home, size=(120, 40)) as (it, pilot):
        it.focus("data.segment_s")
        await pilot.pause()
        shown = it.text("help")
        assert "Length of a training segment." in shown
        assert "data.segment_s · float · > 0.01, <= 60 · s · default 2.0" in shown


async def test_help_is_that_of_the_preset_shown(home: Home) -> None:
    async with opened(home, size=(120, 40)) as (it, pilot):
        it.focus("data.kind")
        await until(pilot, lambda: "data.kind" in it.text("help"))
        before = it.text("help")
        it.screen.query_one("#presets", OptionList).focus()
        await pilot.press("end")
        await until(pilot, lambda: it.presets()[-1] in it.text("about"))
        await until(pilot, lambda: "data.kind" in it.text("help") and it.text("help") != before)


async def test_the_learning_rate_is_drawn_as_its_settings_are_edited(home: Home) -> None:
    async with opened(home, size=(100, 40)) as (it, pilot):
        chart = it.screen.query_one(Chart)
        assert chart.display
        assert chart.plot.lines[0].label == "cosine"
        it.focus("schedule.kind")
        await pilot.press("right")
        await until(pilot, lambda: chart.plot.lines[0].label == "cosine_restarts")
        assert "increases after warm-up" in it.text("problems")


async def test_a_low_terminal_has_no_room_for_the_curve(home: Home) -> None:
    async with opened(home) as (it, _):
        assert not it.screen.query_one(Chart).display


async def test_another_kind_rebuilds_its_section_and_keeps_the_focus(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.focus("data.kind")
        await pilot.press("s")
        await until(pilot, lambda: it.screen.query(f"#{field_id('data.targets')}"))
        assert not it.screen.query(f"#{field_id('data.noise')}")
        assert it.row("data.train").text == "data/vctk/train"
        assert isinstance(it.app.focused, Choice)
        assert it.app.focused is it.row("data.kind").editor


async def test_edits_of_a_preset_survive_a_look_at_another(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.focus("optimizer.lr")
        await pilot.press(*"1e-4")
        it.screen.query_one("#presets", OptionList).focus()
        await pilot.press("down", "up")
        await until(pilot, lambda: it.row("optimizer.lr").text == "0.0001")
        assert "ready, 1 changed" in it.text("problems")


async def test_next_problem_goes_there(home: Home) -> None:
    async with opened(home) as (it, pilot):
        for key in ("seed", "batch.items"):
            it.focus(key)
            await pilot.press(*"x")
        await pilot.press("ctrl+n")
        assert it.app.focused is it.row("seed").editor
        await pilot.press("ctrl+n")
        assert it.app.focused is it.row("batch.items").editor


async def test_enqueue_makes_a_run_and_returns_its_id(home: Home, folders: dict[str, Path]) -> None:
    async with opened(home) as (it, pilot):
        for key, folder in folders.items():
            it.row(key).editor.value = str(folder)
        it.focus("seed")
        await pilot.press(*"42")
        it.screen.query_one("#run-name", Input).value = "night-1"
        await pilot.pause()
        await pilot.press("ctrl+r")
        await until(pilot, lambda: it.returned)
    with StoreReader(home.store) as reader:
        run = reader.run("night-1")
        assert (it.returned, run.seed, run.preset) == ([run.id], 42, "denoise/small")
        assert reader.config(run.id)["data"]["train"] == str(folders["data.train"])


async def test_enqueue_says_what_the_queue_refuses_and_stays(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.row("data.train").editor.value = "/nowhere/at/all"
        await pilot.pause()
        await pilot.press("ctrl+r")
        await until(pilot, lambda: it.app._notifications)
        (notice,) = it.app._notifications
        assert "/nowhere/at/all does not exist" in notice.message
        assert it.returned == []
        assert not home.store.exists()


async def test_enqueue_with_a_problem_goes_to_the_problem(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.focus("seed")
        await pilot.press(*"x")
        it.screen.query_one("#presets", OptionList).focus()
        await pilot.press("ctrl+r")
        assert it.app.focused is it.row("seed").editor
        assert it.returned == []


async def test_enqueue_waits_for_the_fields_of_another_preset(home: Home, monkeypatch) -> None:
    async with opened(home) as (it, pilot):
        told: list[str] = []
        monkeypatch.setattr(it.screen, "notify", lambda text, **_: told.append(text))
        monkeypatch.setattr(it.screen, "_enqueue", lambda *_: told.append("enqueued"))

        async def fields_to_come() -> None:
            return

        monkeypatch.setattr(it.screen, "_show_fields", fields_to_come)
        await pilot.press("down")
        await until(pilot, lambda: "denoise/small" not in it.text("about"))
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert told == ["The form is still loading."]


async def test_escape_goes_back_at_once_when_nothing_was_edited(home: Home) -> None:
    async with opened(home) as (it, pilot):
        await pilot.press("escape")
        assert it.returned == [None]


async def test_escape_asks_before_it_drops_edits(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.focus("seed")
        await pilot.press(*"42")
        await pilot.press("escape")
        assert it.returned == []
        await pilot.press("escape")
        assert it.returned == [None]


async def save_as(it: Opened, pilot, name: str) -> None:
    await pilot.press("ctrl+s")
    await until(pilot, lambda: it.app.screen is not it.screen)
    it.app.screen.query_one("#name", Input).value = name
    await pilot.press("enter")
    await until(pilot, lambda: it.app.screen is it.screen)


async def test_save_makes_a_preset_of_ones_own_and_shows_it(home: Home) -> None:
    catalogue = Catalogue(home.presets)
    async with opened(home) as (it, pilot):
        it.focus("seed")
        await pilot.press(*"42")
        await save_as(it, pilot, "mine/first")
        await until(pilot, lambda: "mine/first  (user" in it.text("about"))
        assert "mine/first" in it.presets()
        assert "ready, 0 changed" in it.text("problems")
    assert catalogue.info("mine/first").extends == "denoise/small"
    assert catalogue.read("mine/first") == {**catalogue.read("denoise/small"), "seed": 42}


async def test_saving_ones_own_preset_again_keeps_what_it_extends(home: Home) -> None:
    catalogue = Catalogue(home.presets)
    catalogue.save("mine", {"seed": 1}, extends="denoise/small")
    async with opened(home, "mine") as (it, pilot):
        it.focus("optimizer.lr")
        await pilot.press(*"1e-4")
        await save_as(it, pilot, "mine")
        await until(pilot, lambda: catalogue.read("mine")["optimizer"]["lr"] == 1e-4)
    assert catalogue.info("mine").extends == "denoise/small"
    assert catalogue.read("mine")["seed"] == 1


async def test_saving_over_the_base_makes_no_circle(home: Home) -> None:
    catalogue = Catalogue(home.presets)
    catalogue.save("one", catalogue.read("denoise/small"))
    catalogue.save("two", {"seed": 2}, extends="one")
    async with opened(home, "two") as (it, pilot):
        await save_as(it, pilot, "one")
        await until(pilot, lambda: catalogue.read("one").get("seed") == 2)
    assert catalogue.info("one").extends == ""
    assert catalogue.read("two")["seed"] == 2


async def test_saving_over_a_shipped_preset_builds_on_it(home: Home) -> None:
    catalogue = Catalogue(home.presets)
    async with opened(home) as (it, pilot):
        it.focus("seed")
        await pilot.press(*"3")
        await save_as(it, pilot, "denoise/small")
        await until(pilot, lambda: "(user, extends denoise/small)" in it.text("about"))
    assert catalogue.read("denoise/small") == {**Catalogue().read("denoise/small"), "seed": 3}


async def test_a_bad_name_is_refused_and_can_be_put_right(home: Home) -> None:
    """The dialogue stays: what is typed next must not reach the form beneath."""
    async with opened(home) as (it, pilot):
        it.focus("seed")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: it.app.screen is not it.screen)
        dialogue = it.app.screen
        dialogue.query_one("#name", Input).value = "../out"
        await pilot.press("enter")
        problem = dialogue.query_one("#problem", Label)
        await until(pilot, lambda: "'../out' is not a valid preset name" in str(problem.content))
        assert not home.presets.exists()
        assert it.app.screen is dialogue
        await pilot.press("home", "delete", "delete", "delete", "enter")
        await until(pilot, lambda: it.app.screen is it.screen)
        assert it.row("seed").editor.value == "0"
    assert Catalogue(home.presets).info("out").extends == "denoise/small"


async def test_a_preset_saved_while_the_list_is_filtered_is_the_one_shown(home: Home) -> None:
    """The form went to the first of all presets, which the next ctrl+r would have queued."""
    async with opened(home) as (it, pilot):
        await pilot.press("ctrl+f", *"denoise/small")
        await until(pilot, lambda: it.presets() == ["denoise/small"])
        it.focus("seed")
        await pilot.press(*"42")
        await save_as(it, pilot, "mine/first")
        await until(pilot, lambda: "mine/first  (user" in it.text("about"))
        for _ in range(5):
            await pilot.pause()
        assert it.screen._shown == "mine/first"
        assert it.screen._draft.values["seed"] == 42
        assert it.screen.query_one("#filter", Input).value == ""
        assert len(it.presets()) > 10


async def test_a_run_is_queued_once_however_often_the_key_is_pressed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data are checked for seconds to minutes, and nothing was shown."""
    calls, checked = [], Event()

    def enqueue(home: Home, config: object, **_: object) -> int:
        calls.append(config)
        assert checked.wait(30)
        return 7

    monkeypatch.setattr("jobs.submit.enqueue", enqueue)
    async with opened(home) as (it, pilot):
        await pilot.press("ctrl+r")
        await until(pilot, lambda: calls)
        assert it.text("problems") == "checking the data, then queueing ..."
        assert it.screen.query_one("#enqueue", Button).disabled
        await pilot.press("ctrl+r", "ctrl+r")
        assert it.returned == []
        checked.set()
        await until(pilot, lambda: it.returned)
        assert (it.returned, len(calls)) == ([7], 1)
        assert "Queued run 7 of denoise/small." in [n.message for n in it.app._notifications]


async def test_a_broken_preset_is_listed_and_says_why(home: Home) -> None:
    home.create()
    (home.presets / "broken.toml").write_text("seed = \n")
    async with opened(home, "broken") as (it, pilot):
        assert "not valid TOML" in it.text("problems")
        assert not it.screen.query(SettingField)
        await pilot.press("ctrl+r", "ctrl+s", "ctrl+z", "ctrl+n")
        assert it.app.screen is it.screen
        await pilot.press("up")
        await until(pilot, lambda: it.screen.query(SettingField))


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_the_form_fits_the_terminal(home: Home, size: tuple[int, int]) -> None:
    async with opened(home, size=size) as (it, pilot):
        await pilot.pause()
        form = it.screen.query_one("#form")
        curve = it.screen.query_one(Chart)
        assert form.region.height + curve.region.height >= size[1] - 10
        for selector in ("#enqueue", "#save", "#problems", "#help", "#keys"):
            region = it.screen.query_one(selector).region
            assert region.right <= size[0]
            assert region.bottom <= size[1]
            assert region.area > 0


async def test_the_batches_of_the_draft_are_shown(home: Home, monkeypatch) -> None:
    asked = []

    def planned(config):
        asked.append(config.batch.items)
        if config.batch.items == 7:
            raise ValueError("data.train: folder t does not exist")
        return REPORT

    monkeypatch.setattr("tui.dialogs.batch_plan.plan_report", planned)
    async with opened(home, "demo/baseline") as (it, pilot):
        for items, words in (("9", "40.0 items, 60.0 s"), ("7", "folder t does not exist")):
            it.row("batch.items").editor.value = items
            await until(pilot, lambda items=items: it.items() == items)
            await pilot.press("ctrl+g")
            await until(pilot, lambda: isinstance(it.app.screen, BatchPlanScreen))
            shown = it.app.screen.query_one("#note", Static)
            await until(pilot, lambda shown=shown, words=words: words in str(shown.render()))
            await pilot.press("escape")
            await until(pilot, lambda: it.app.screen is it.screen)
    assert asked == [9, 7]


async def test_long_preset_names_keep_one_row_each_and_their_ends(home: Home) -> None:
    long = "transducer/2d-bucketing-singlet"
    for size, shown in (((80, 24), "  …/2d-bucketing-singlet"), ((120, 40), f"  {long}")):
        async with opened(home, size=size) as (it, pilot):
            options = it.screen.query_one("#presets", OptionList)

            def line(options: OptionList = options) -> str:
                return str(options.get_option(long).prompt)

            await until(pilot, lambda line=line, shown=shown: line() == shown)
            assert options.virtual_size.height == options.option_count


async def test_up_and_down_move_between_fields(home: Home) -> None:
    async with opened(home) as (it, pilot):
        it.focus("data.train")
        await pilot.press("down")
        assert it.screen.focused is it.row("data.valid").editor
        await pilot.press("up")
        assert it.screen.focused is it.row("data.train").editor


async def test_the_length_is_told_in_every_counter_once_the_data_are_known(
    home: Home, folders: dict[str, Path]
) -> None:
    """One short file, in updates of six: every update is several passes over it."""
    async with opened(home, size=(140, 40)) as (it, pilot):
        for key, path in folders.items():
            it.row(key).editor.value = str(path)
        for key, text in (("batch.items", "6"), ("schedule.length", "4 epochs")):
            it.focus(key)
            await pilot.pause()
            await pilot.press("home", "ctrl+k", *text)
        await until(pilot, lambda: "4 epochs = " in it.text("length"))
        assert "update" in it.text("length")
        assert "of audio" in it.text("length")
        await until(pilot, lambda: "passes over them" in it.text("problems"))
        # The learning rate is drawn over updates that are known now.
        await until(pilot, lambda: it.screen.query_one(Chart).plot.lines)


async def test_a_setting_that_refers_to_a_run_is_filled_from_a_list(
    home: Home, folders: dict[str, Path]
) -> None:
    """Runs and their checkpoints, by the names that the setting takes; other settings have no list."""
    values = Catalogue(home.presets).read("denoise/small")
    config = config_with(values, [f"{key}={path}" for key, path in folders.items()])
    run = enqueue(home, config, name="base-1", preset="denoise/small")
    place = home.run_folder(run) / "checkpoints" / "last-000400"
    place.mkdir(parents=True)
    about = {
        "counters": {"updates": 400}, "metrics": {}, "files": {"x": {"size_bytes": 1, "sha256": ""}},
    }  # fmt: skip
    (place / "manifest.json").write_text(json.dumps(about))

    def listed(it: Opened) -> list[str]:
        return [str(one.id) for one in it.app.screen.query_one(OptionList).options]

    async with opened(home, size=(120, 40)) as (it, pilot):
        it.focus("batch.items")
        await pilot.press("ctrl+o")
        await pilot.pause()
        assert it.app.screen is it.screen
        it.focus("init_from")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: it.app.screen is not it.screen and "base-1@last" in listed(it))
        assert listed(it) == ["base-1", "base-1@last"]
        await pilot.press("down", "enter")
        await until(pilot, lambda: it.row("init_from").text == "base-1@last")
