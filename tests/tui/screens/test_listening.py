"""The listening test in the terminal, with a fake player."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from jobs.listening.audio import Stimulus
from jobs.listening.players import PlayerError
from jobs.listening.records import read_sessions
from jobs.listening.session import Asked, Session, open_session, prepare
from jobs.listening.sources import Sides, files_of
from tests.jobs.listening.sounds import write_sides
from tests.waiting import until_shown as until
from tui.apps.listening import ListeningApp


class FakePlayer:
    """Notes what is played; ends when told to."""

    def __init__(self) -> None:
        self.played: list[bytes] = []
        self.on = False
        self.error = ""

    def play(self, wav: bytes) -> None:
        self.played.append(wav)
        self.on = True

    def stop(self) -> None:
        self.on = False

    @property
    def playing(self) -> bool:
        if self.error:
            self.on = False
            raise PlayerError(self.error)
        return self.on


@pytest.fixture
def player() -> FakePlayer:
    return FakePlayer()


@pytest.fixture
def session(tmp_path):
    """Return a function that opens a session of three trials."""
    opened: list[Session] = []

    def start(mode="abx", *, exchanged=False) -> Session:
        sides = files_of(*write_sides(tmp_path))
        if exchanged:
            items = tuple(Stimulus(item.item, item.b, b=item.a) for item in sides.stimuli)
            sides = Sides(sides.b, sides.a, stimuli=items)
        folder = tmp_path / f"listening-{exchanged}"
        made = open_session(
            folder, prepare(sides, excerpt_s=10), asked=Asked(mode, "ann", trials=3, seed="1")
        )
        opened.append(made.__enter__())
        return made

    yield start
    for one in opened:
        one.__exit__(None, None, None)


def text(pilot, name: str) -> str:
    return str(pilot.app.screen.query_one(f"#{name}", Static).render())


async def hear(pilot, player, *keys: str) -> None:
    for key in keys:
        before = len(player.played)
        await pilot.press(key)
        await until(pilot, lambda before=before: len(player.played) > before)


async def test_a_session_by_keys(session, player):
    made = session()
    async with ListeningApp(made, player).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: text(pilot, "title") == "Trial 1 of 3")
        await hear(pilot, player, "1", "2", "x")
        assert player.played == [made.sound(which) for which in "12x"]
        assert text(pilot, "sound-x") == "▶ X ✓"
        await pilot.press("space")
        assert not player.on
        await until(pilot, lambda: text(pilot, "sound-x") == "X ✓")
        await hear(pilot, player, "space")
        assert player.played[-1] == made.sound("x")
        await pilot.press("left", "right", "enter")
        await until(pilot, lambda: text(pilot, "title") == "Trial 2 of 3")
        assert not player.on
        for number in (2, 3):
            await hear(pilot, player, "1", "2", "x")
            await pilot.press("left", "enter")
            await until(
                pilot, lambda number=number: made.pending == (number if number < 3 else None)
            )
    assert pilot.app.return_code == 0
    (record,) = read_sessions(made._folder)
    trial = made._trials[0]
    assert record.answers[0].answer == trial.side("2")
    assert record.answers[0].plays == {"1": 1, "2": 1, "x": 2}
    assert len(record.answers) == 3


async def test_an_answer_needs_a_choice_and_all_sounds(session, player):
    made = session()
    async with ListeningApp(made, player).run_test(size=(80, 24)) as pilot:
        await hear(pilot, player, "1")
        await pilot.press("enter")
        await until(pilot, lambda: text(pilot, "problem") == "Choose an answer first.")
        await pilot.press("down", "left", "enter")
        await until(pilot, lambda: text(pilot, "problem") == "Play 2 and X first.")
        assert made.pending == 0


async def test_a_player_that_fails_says_so_and_counts_as_not_heard(session, player):
    made = session()
    async with ListeningApp(made, player).run_test(size=(80, 24)) as pilot:
        await hear(pilot, player, "1", "2", "x")
        player.error = "aplay failed: no \x1b[31mcard"
        await until(pilot, lambda: text(pilot, "problem") == "aplay failed: no card")
        player.error = ""
        await pilot.press("left", "enter")
        await until(pilot, lambda: text(pilot, "problem") == "Play X first.")


async def test_no_preference_is_an_answer(session, player):
    made = session("preference")
    async with ListeningApp(made, player).run_test(size=(80, 24)) as pilot:
        await pilot.press("x")
        await hear(pilot, player, "1", "2")
        await pilot.press("down", "enter")
        await until(pilot, lambda: made.pending == 1)
    assert read_sessions(made._folder)[0].answers[0].answer == "none"


@pytest.mark.parametrize("key", ["escape", "q", "ctrl+c"])
async def test_a_listener_may_leave_and_keeps_the_answers(session, player, key):
    made = session()
    async with ListeningApp(made, player).run_test(size=(80, 24)) as pilot:
        await hear(pilot, player, "1", "2", "x")
        await pilot.press("left", "enter")
        await until(pilot, lambda: made.pending == 1)
        await hear(pilot, player, "1")
        await pilot.press(key)
        await until(pilot, lambda: not pilot.app.is_running)
    assert not player.on
    assert len(read_sessions(made._folder)[0].answers) == 1


async def test_the_screen_is_the_same_whichever_side_is_which(session, player):
    shots = []
    for exchanged in (False, True):
        made = session(exchanged=exchanged)
        shown = []
        async with ListeningApp(made, player).run_test(size=(80, 24)) as pilot:
            for number in range(2):
                await until(pilot, lambda n=number: text(pilot, "title") == f"Trial {n + 1} of 3")
                await hear(pilot, player, "1", "2", "x")
                await pilot.press("left")
                await pilot.pause()
                shown.append(pilot.app.export_screenshot(simplify=True))
                await pilot.press("enter")
        shots.append(shown)
    assert shots[0] == shots[1]


@pytest.mark.parametrize("mode", ["abx", "preference"])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_how_it_looks(mode, size, session, player, snap_compare):
    async def first_trial(pilot) -> None:
        keys = ("1", "2", "x") if mode == "abx" else ("1", "2")
        await hear(pilot, player, *keys)
        await pilot.press("right")
        await pilot.pause()

    app = ListeningApp(session(mode), player)
    assert snap_compare(app, terminal_size=size, run_before=first_trial)
