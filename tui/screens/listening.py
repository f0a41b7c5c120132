"""The listening test in the terminal: plays what the session gives, asks, records.

Nothing on the screen depends on which side is which.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import ProgressBar, Static

from jobs.listening.players import Player, PlayerError
from jobs.listening.session import Session
from tui.reports.formats import clean

_LOOK_S = 0.1
_QUESTIONS = {
    "abx": "X is either 1 or 2. Which one? Listen as often as you like.",
    "preference": "Which one do you prefer? Listen as often as you like.",
}
_ANSWERS = {
    "abx": {"1": "← X is 1", "2": "X is 2 →"},
    "preference": {"1": "← I prefer 1", "0": "↓ no preference", "2": "I prefer 2 →"},
}


class ListeningScreen(Screen[None]):
    """Dismissed after the last answer, or when the listener stops."""

    TITLE = "Listening test"
    DEFAULT_CSS = """
    ListeningScreen { align: center middle; }
    ListeningScreen > Vertical { width: 76; max-width: 100%; height: auto; padding: 1 2; }
    ListeningScreen #title { text-style: bold; }
    ListeningScreen ProgressBar { width: 1fr; }
    ListeningScreen Bar { width: 1fr; }
    ListeningScreen Horizontal { height: 3; margin-top: 1; }
    ListeningScreen .box {
        width: 1fr; height: 3; border: round $secondary; content-align: center middle;
        text-align: center;
    }
    ListeningScreen .-on { border: round $primary; color: $primary; text-style: bold; }
    ListeningScreen #problem { color: $error; margin-top: 1; min-height: 2; }
    ListeningScreen #keys { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "play('1')", "Play 1"),
        Binding("2", "play('2')", "Play 2"),
        Binding("x", "play('x')", "Play X"),
        Binding("space", "pause", "Stop or replay"),
        Binding("left", "choose('1')", "Choose 1"),
        Binding("right", "choose('2')", "Choose 2"),
        Binding("down", "choose('0')", "No preference"),
        Binding("enter", "confirm", "Confirm"),
        Binding("escape,q,ctrl+c", "leave", "Stop for now"),
    ]

    def __init__(
        self, session: Session, player: Player, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._session = session
        self._player = player
        self._clock = clock
        self._last = "1"
        # Counts what was asked to be played: a sound that is ready too late is not played.
        self._asked = 0
        self._begin()

    def _begin(self) -> None:
        self._sounds: dict[str, bytes] = {}
        self._plays: dict[str, int] = {}
        self._chosen: str | None = None
        self._playing: str | None = None
        self._since: float | None = None
        self._asked += 1

    def compose(self) -> ComposeResult:
        """Lay out sounds above answers."""
        session = self._session
        with Vertical():
            yield Static(id="title")
            yield ProgressBar(session.num_trials, show_percentage=False, show_eta=False)
            yield Static(_QUESTIONS[session.mode], id="question")
            with Horizontal():
                for which in session.buttons:
                    yield Static(id=f"sound-{which}", classes="box")
            with Horizontal():
                for choice, text in _ANSWERS[session.mode].items():
                    yield Static(text, id=f"answer-{choice}", classes="box")
            yield Static(id="problem", markup=False)
            yield Static(id="keys")

    def on_mount(self) -> None:
        """Show the pending trial, and watch the player."""
        down = " ↓" if self._session.mode == "preference" else ""
        play = " ".join(which.upper() for which in self._session.buttons)
        self.query_one("#keys", Static).update(
            f"{play}: play  Space: stop  ← →{down}: choose  Enter: confirm  Esc: leave"
        )
        self.set_interval(_LOOK_S, self._look)
        self._show()

    def on_unmount(self) -> None:
        """Be silent."""
        self._player.stop()

    def action_play(self, which: str) -> None:
        """Play a sound from its start."""
        if which not in self._session.buttons:
            return
        self._asked += 1
        self._last = which
        if which in self._sounds:
            self._start(self._asked, which, data=self._sounds[which])
        else:
            self.run_worker(partial(self._prepare, self._asked, which), thread=True, name="sound")

    def action_pause(self) -> None:
        """Stop the sound, or play the last one again."""
        if self._playing is None:
            self.action_play(self._last)
            return
        self._asked += 1
        self._player.stop()
        self._playing = None
        self._show()

    def action_choose(self, choice: str) -> None:
        """Mark an answer."""
        if choice in self._session.choices:
            self._chosen = choice
            self._show()

    def action_confirm(self) -> None:
        """Record the marked answer and go on to the next trial."""
        number = self._session.pending
        if number is None:
            return
        if self._chosen is None:
            self._complain("Choose an answer first.")
            return
        seconds = 0.0 if self._since is None else self._clock() - self._since
        try:
            self._session.answer(number, self._chosen, plays=self._plays, seconds=seconds)
        except (ValueError, OSError) as error:
            text = str(error)
            self._complain(f"{text[:1].upper()}{text[1:]}.")
            return
        self._player.stop()
        self._begin()
        if self._session.pending is None:
            self.dismiss()
        else:
            self._show()

    def action_leave(self) -> None:
        """Stop for now; what was answered is recorded."""
        self.dismiss()

    def _prepare(self, asked: int, which: str) -> None:
        try:
            data = self._session.sound(which)
        except (ValueError, OSError) as error:
            self.app.call_from_thread(self._complain, str(error))
            return
        self.app.call_from_thread(self._start, asked, which, data=data)

    def _start(self, asked: int, which: str, *, data: bytes) -> None:
        if asked != self._asked or not self.is_mounted:
            return
        self._sounds[which] = data
        try:
            self._player.play(data)
        except (PlayerError, OSError) as error:
            self._complain(str(error))
            return
        self._playing = which
        self._plays[which] = self._plays.get(which, 0) + 1
        if self._since is None:
            self._since = self._clock()
        self._show()

    def _look(self) -> None:
        """Notice the end of a sound, and why it ended."""
        if self._playing is None:
            return
        try:
            if self._player.playing:
                return
        except PlayerError as error:
            # It was not heard, so it doesn't count as heard.
            self._plays[self._playing] -= 1
            self._playing = None
            self._show()
            self._complain(str(error))
            return
        self._playing = None
        self._show()

    def _complain(self, text: str) -> None:
        if self.is_mounted:
            self.query_one("#problem", Static).update(clean(text))

    def _show(self) -> None:
        number = self._session.pending
        if number is None:
            return
        self.query_one("#title", Static).update(f"Trial {number + 1} of {self._session.num_trials}")
        self.query_one(ProgressBar).update(progress=number)
        self.query_one("#problem", Static).update("")
        for which in self._session.buttons:
            box = self.query_one(f"#sound-{which}", Static)
            heard = " ✓" if self._plays.get(which) else ""
            sign = "▶ " if which == self._playing else ""
            box.update(Text(f"{sign}{which.upper()}{heard}"))
            box.set_class(which == self._playing, "-on")
        for choice in self._session.choices:
            self.query_one(f"#answer-{choice}", Static).set_class(choice == self._chosen, "-on")
