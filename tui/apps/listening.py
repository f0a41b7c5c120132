"""The Textual application of `sepdash listen`: one screen, in the themes of the dashboard."""

from __future__ import annotations

from textual.app import App

from jobs.listening.players import Player
from jobs.listening.session import Session
from tui.screens.listening import ListeningScreen
from tui.widgets.charts import palette


class ListeningApp(App[None]):
    """Ends with its screen."""

    TITLE = "sepdash listen"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, session: Session, player: Player) -> None:
        super().__init__()
        self._session = session
        self._player = player

    def on_mount(self) -> None:
        """Apply the theme and begin."""
        self.register_theme(palette.DARK)
        self.register_theme(palette.LIGHT)
        self.theme = palette.DARK.name
        self.push_screen(ListeningScreen(self._session, self._player), lambda _: self.exit())
