"""One row of the preset form: the name of a setting, its editor, and its problem."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import DescendantFocus
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.config.fields import RUN_REFERENCE, SettingInfo
from tui.live.draft import FieldState
from tui.reports import formats
from tui.widgets.choice import Choice

_NAME_WIDTH = 20
_UNIT_WIDTH = 9


class SettingField(Widget):
    """Edits one setting as text; the screen validates it.

    Draws name, mark, unit and problem itself, so that a row is only two widgets.
    """

    COMPONENT_CLASSES = {"name", "name-changed", "name-wrong", "unit", "problem"}  # noqa: RUF012
    DEFAULT_CSS = """
    SettingField { height: 1; padding: 0 1; layout: vertical; }
    SettingField.-wrong { height: 2; }
    SettingField > Input, SettingField > Choice {
        margin: 0 9 0 20; width: 1fr; max-width: 60; height: 1; border: none; background: $surface;
    }
    SettingField > Input:focus, SettingField > Choice:focus { border: none; background: $panel; }
    SettingField .name { color: $foreground; }
    SettingField .name-changed { color: $accent; }
    SettingField .name-wrong { color: $error; }
    SettingField .unit { color: $secondary; }
    SettingField .problem { color: $error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "Next field", show=False),
        Binding("up", "app.focus_previous", "Previous field", show=False),
        Binding("ctrl+o", "choose_run", "Choose a run", show=False),
    ]

    class Edited(Message):
        """The user changed the text of a setting."""

        def __init__(self, info: SettingInfo, text: str) -> None:
            super().__init__()
            self.info = info
            self.text = text

    class Entered(Message):
        """The editor of a setting took the focus."""

        def __init__(self, info: SettingInfo) -> None:
            super().__init__()
            self.info = info

    def __init__(self, state: FieldState) -> None:
        super().__init__(id=field_id(state.info.key))
        self.info = state.info
        self.text = state.text
        self.changed = state.changed
        self.problem = ""

    def compose(self) -> ComposeResult:
        """Create the editor."""
        if self.info.type_name == "bool":
            yield Choice(("false", "true"), self.text)
        elif self.info.type_name == "choice":
            yield Choice(self.info.choices, self.text)
        else:
            yield Input(self.text, placeholder=_placeholder(self.info), compact=True)

    def render(self) -> Text:
        """Draw the text around and below the editor."""
        kind = "name-wrong" if self.problem else "name-changed" if self.changed else "name"
        name = f"{'●' if self.changed else ' '} {self.info.key.rpartition('.')[2]}"
        gap = max(1, min(self.content_size.width - _NAME_WIDTH - _UNIT_WIDTH, 60) + 1)
        line = Text(formats.fit(name, _NAME_WIDTH), style=self._style(kind))
        line.append(" " * gap).append(_short_unit(self.info), style=self._style("unit"))
        if self.problem:
            line.append(f"\n  {self.problem}", style=self._style("problem"))
        line.no_wrap = True
        return line

    def show(self, state: FieldState) -> None:
        """Show a value set by the screen, without posting `Edited`."""
        self.info = state.info
        if state.text != self.text:
            self.text = state.text
            with self.prevent(Input.Changed, Choice.Changed):
                self.editor.value = state.text

    def mark(self, *, changed: bool, problem: str) -> None:
        """Show whether the setting differs from the preset, and its problem."""
        if (changed, problem) != (self.changed, self.problem):
            self.changed, self.problem = changed, problem
            self.set_class(bool(problem), "-wrong")
            self.refresh()

    def action_choose_run(self) -> None:
        """Fill a setting that refers to a run from a list of runs and their checkpoints."""
        choose = getattr(self.screen, "choose_run", None)
        if choose is not None and self.info.refers_to_run:
            choose(self._take_run)

    def _take_run(self, name: str) -> None:
        self.editor.value = name

    @property
    def editor(self) -> Input | Choice:
        """The widget that takes the focus."""
        editor = self.children[0]
        assert isinstance(editor, Input | Choice)
        return editor

    @on(Input.Changed)
    @on(Choice.Changed)
    def _editor_changed(self, event: Input.Changed | Choice.Changed) -> None:
        event.stop()
        # An Input also reports its initial value; only post a different one.
        if event.value != self.text:
            self.text = event.value
            self.post_message(self.Edited(self.info, event.value))

    @on(Input.Submitted)
    def _input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.screen.focus_next()

    @on(DescendantFocus)
    def _focus_entered(self) -> None:
        self.post_message(self.Entered(self.info))

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True)


class FormSection(Widget):
    """A titled group of settings."""

    DEFAULT_CSS = """
    FormSection { height: auto; layout: vertical; margin-bottom: 1; }
    FormSection > .section { height: 1; padding: 0 1; color: $primary; text-style: bold; }
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def compose(self) -> ComposeResult:
        """Show the title; `show` adds the settings."""
        yield Static(self.title, classes="section")

    async def show(self, states: list[FieldState]) -> None:
        """Show these settings, reusing the existing rows if they match."""
        rows = list(self.query_children(SettingField))
        if [row.info.key for row in rows] == [state.info.key for state in states]:
            for row, state in zip(rows, states, strict=True):
                row.show(state)
            return
        async with self.batch():
            await self.remove_children(SettingField)
            await self.mount_all(SettingField(state) for state in states)


def field_id(key: str) -> str:
    """Return the widget id of a setting's row."""
    return f"setting-{key.replace('.', '-')}"


def _placeholder(info: SettingInfo) -> str:
    if info.refers_to_run:
        return f"{'' if info.required else 'none, or '}{RUN_REFERENCE} (^o: list)"
    return "required" if info.required else "none" if info.optional else "default"


def _short_unit(info: SettingInfo) -> str:
    return "" if info.unit in ("path", "span") else info.unit


def help_of(info: SettingInfo) -> str:
    """Return what a setting is: its help, then key, type, bounds, unit and default."""
    facts = [
        info.key,
        info.type_name,
        info.bounds,
        info.unit if info.unit != info.type_name else "",
    ]
    default = "required" if info.required else f"default {info.default}"
    return f"{info.help}\n{' · '.join(fact for fact in [*facts, default] if fact)}"
