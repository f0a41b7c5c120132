"""Boxes whose content a thread reads: what went wrong is said in the box, and nobody waits for one that was closed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.visual import VisualType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from jobs.home import Home
from tui.dialogs.box import Answer, BoxScreen
from tui.live.actions import Failed, attempt

Found = TypeVar("Found")


class ReadingScreen(BoxScreen[Answer], Generic[Answer, Found]):
    """A box with a note that says what was read, or why it could not be read.

    Args:
        home: where runs are.
    """

    # The words of the border, and of the note while a thread reads.
    keys: ClassVar[str] = "Esc: close"
    waiting: ClassVar[str] = "reading ..."

    def __init__(self, home: Home) -> None:
        super().__init__()
        self._home = home

    def _box_title(self) -> str:
        """Return the title of the box."""
        raise NotImplementedError

    def _read(self) -> Found:
        """Read, in a thread; every error ends up in the note."""
        raise NotImplementedError

    def _show(self, found: Found) -> None:
        """Show what was read."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """Lay out the box, which grows with what is read."""
        with VerticalScroll() as box:
            box.border_title, box.border_subtitle = self._box_title(), self.keys
            yield Static(self.waiting, id="note", markup=False)
            yield from self._below()

    def _below(self) -> ComposeResult:
        """Yield what stands below the note."""
        yield from ()

    def on_mount(self) -> None:
        """Start to read."""
        self.run_worker(self._attempt, thread=True)

    def _attempt(self) -> None:
        self.app.call_from_thread(self._take, attempt(self._home, self._read))

    def _take(self, found: Found | Failed) -> None:
        # It may have been closed meanwhile.
        if not self.is_mounted:
            return
        if isinstance(found, Failed):
            self._say(found.text)
        else:
            self._show(found)

    def _say(self, text: VisualType) -> None:
        self.query_one("#note", Static).update(text)


class ChoosingScreen(ReadingScreen[str | None, Found]):
    """A box with a list of what was read, which returns the id of the chosen one; Escape or q returns None."""

    DEFAULT_CSS = """
    ChoosingScreen > VerticalScroll { width: 110; }
    ChoosingScreen OptionList { height: auto; max-height: 20; background: $panel; }
    ChoosingScreen OptionList, ChoosingScreen OptionList:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "close")]

    def _below(self) -> ComposeResult:
        yield OptionList(markup=False)

    def _offer(self, options: Sequence[Option], note: str) -> None:
        """Show a note, and options below it."""
        self._say(note)
        shown = self.query_one(OptionList)
        shown.add_options(options)
        shown.highlighted = None if all(option.disabled for option in options) else 0
        shown.focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(str(event.option_id))
