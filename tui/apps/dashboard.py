"""The Textual application: themes, the dashboard, the command palette."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from jobs.home import Home
from jobs.store.reader import StoreReader
from tui.live.feed import Reader
from tui.screens.dashboard import Dashboard
from tui.widgets.charts import palette

COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("New run", "Choose a preset, edit it and queue it", "new"),
    ("Sweep", "Choose an experiment, review its plan and queue its runs", "sweep"),
    ("Stop run", "Save a checkpoint and stop the selected run", "stop"),
    ("Resume run", "Queue the selected run again, continuing from its checkpoint", "resume"),
    ("Remove run", "Remove the selected run and its files", "remove"),
    ("Move run to the top", "Train the selected run next", "move('top')"),
    ("Move run to the bottom", "Train the selected run last", "move('bottom')"),
    ("Mark run", "Compare the selected run with the other marked runs", "mark"),
    ("Compare", "Compare the marked runs, or the experiment of the selected run", "compare"),
    ("Clear marks", "Show only one run in the charts", "clear"),
    ("Follow", "Always select the active run", "follow"),
    ("Worker", "Start or stop the worker", "worker"),
    ("Horizontal axis", "Updates, items, epochs, audio time, train time", "clock"),
    ("Logarithmic loss", "Switch the loss axis between linear and logarithmic", "log_scale"),
    ("Smoothing", "Average noisy curves: lightly, strongly, not at all", "smooth"),
    ("Log", "Show only the log", "log"),
)
_SCREENSHOT = "Screenshot"


class SepdashApp(App[None]):
    """The dashboard on the runs of one home; `select` names runs to select and compare."""

    TITLE = "sepdash"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self,
        home: Home,
        *,
        select: Sequence[int] = (),
        open_reader: Callable[[], Reader] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._home = home
        self._select = tuple(select)
        self._open_reader = open_reader or partial(StoreReader, home.store)
        self._clock = clock

    def on_mount(self) -> None:
        """Apply the theme."""
        self.register_theme(palette.DARK)
        self.register_theme(palette.LIGHT)
        self.theme = palette.DARK.name

    def get_default_screen(self) -> Screen[None]:
        """Start with the dashboard."""
        return Dashboard(self._home, self._open_reader, select=self._select, clock=self._clock)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer the key actions by name."""
        if isinstance(screen, Dashboard):
            for title, text, action in COMMANDS:
                yield SystemCommand(title, text, partial(screen.run_action, action))
        for command in super().get_system_commands(screen):
            if command.title == _SCREENSHOT:
                # Once the palette has closed, which would be in the picture.
                later = partial(self.set_timer, 0.1, self.deliver_picture)
                yield SystemCommand(_SCREENSHOT, "Save the screen as an SVG image", later)
            else:
                yield command

    def deliver_picture(self) -> None:
        """Save the screen in the home: Textual takes a folder for downloads, which few servers have."""
        folder = self._home.create().root / "screenshots"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.deliver_screenshot(path=str(folder))
