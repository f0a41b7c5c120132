"""A one-line editor for a setting with few values: arrows or space cycle through them.

It is one widget, where a drop-down list takes seven, so a form with sixty settings stays fast.
"""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Click, Key
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget


class Choice(Widget, can_focus=True):
    """Shows one of `options`; a switch is a choice between `false` and `true`."""

    DEFAULT_CSS = """
    Choice { height: 1; background: $surface; }
    Choice:focus { background: $panel; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space,enter", "step(1)", "Next value", show=False),
        Binding("left", "step(-1)", "Previous value", show=False),
    ]
    value: reactive[str] = reactive("", init=False)

    class Changed(Message):
        """The user chose another value."""

        def __init__(self, choice: Choice, value: str) -> None:
            super().__init__()
            self.choice = choice
            self.value = value

    def __init__(self, options: tuple[str, ...], value: str) -> None:
        super().__init__()
        self.options = options
        self.set_reactive(Choice.value, value)

    def render(self) -> Text:
        """Draw a tick box for a switch, the value between arrows for a choice."""
        if set(self.options) == {"false", "true"} and self.value in self.options:
            return Text("■ on" if self.value == "true" else "□ off")
        return Text(f"‹ {self.value} ›")

    def action_step(self, by: int) -> None:
        """Go to the next or previous value, cyclically."""
        here = self.options.index(self.value) if self.value in self.options else -by
        self._choose(self.options[(here + by) % len(self.options)])

    def on_key(self, event: Key) -> None:
        """Go to the next value that starts with the letter typed."""
        if not (event.character and event.character.isalpha()):
            return
        here = self.options.index(self.value) if self.value in self.options else -1
        for option in [*self.options[here + 1 :], *self.options[: here + 1]]:
            if option.startswith(event.character.lower()):
                event.stop()
                self._choose(option)
                return

    def on_click(self, event: Click) -> None:
        """Go to the next value."""
        self.focus()
        self.action_step(1)

    def _choose(self, value: str) -> None:
        if value != self.value:
            self.value = value
            self.post_message(self.Changed(self, value))
