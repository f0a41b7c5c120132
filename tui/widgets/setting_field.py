"""One row of the preset form: the name of a setting, its editor, and what is wrong with it."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import DescendantFocus
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Label, Select, Switch

from engine.config.fields import SettingInfo
from tui.draft import FieldState


class SettingField(Vertical):
    """Edits one setting as text; the screen decides what the text is worth."""

    DEFAULT_CSS = """
    SettingField { height: auto; padding: 0 1; }
    SettingField Horizontal { height: 1; }
    SettingField .mark { width: 2; color: $accent; }
    SettingField .name { width: 18; }
    SettingField .unit { width: 8; color: $secondary; margin-left: 1; }
    SettingField Input, SettingField Select { width: 1fr; max-width: 60; height: 1; }
    SettingField Input { background: $surface; border: none; }
    SettingField Input:focus { background: $panel; border: none; }
    SettingField Select > SelectCurrent, SettingField Select:focus > SelectCurrent {
        border: none; height: 1; background: $surface; padding: 0 1 0 0;
    }
    SettingField Select:focus > SelectCurrent { background: $panel; }
    SettingField .value { width: 1fr; max-width: 60; height: 1; }
    SettingField Switch { border: none; height: 1; padding: 0; background: $surface; }
    SettingField Switch:focus { border: none; background-tint: $foreground 20%; }
    SettingField .problem { color: $error; margin-left: 2; display: none; }
    SettingField:focus-within .name { text-style: bold; }
    SettingField.-changed .name { color: $accent; }
    SettingField.-wrong .name { color: $error; }
    SettingField.-wrong .problem { display: block; }
    """

    class Edited(Message):
        """A person changed the text of a setting."""

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
        self._text = state.text
        self._changed = state.changed

    def compose(self) -> ComposeResult:
        """Lay out one line, and a second for a problem."""
        with Horizontal():
            yield Label(classes="mark")
            yield Label(self.info.key.rpartition(".")[2], classes="name")
            if self.info.type_name == "bool":
                with Horizontal(classes="value"):
                    yield Switch(self._text == "true", animate=False)
            elif self.info.type_name == "choice":
                yield self._select()
            else:
                yield Input(self._text, placeholder=_placeholder(self.info), compact=True)
            yield Label(_short_unit(self.info), classes="unit")
        yield Label(classes="problem", markup=False)

    def on_mount(self) -> None:
        """Show the mark of a changed setting from the start."""
        self._show_mark()

    def update(self, state: FieldState) -> None:
        """Show another value, without telling anyone that it changed."""
        self.info, self._text, self._changed = state.info, state.text, state.changed
        editor = self.editor
        with self.prevent(Input.Changed, Select.Changed, Switch.Changed):
            if isinstance(editor, Switch):
                editor.value = state.text == "true"
            elif isinstance(editor, Select):
                if state.text not in self.info.choices:
                    editor.set_options(self._options(state.text))
                editor.value = state.text
            elif isinstance(editor, Input) and editor.value != state.text:
                editor.value = state.text
        self._show_mark()

    def mark(self, *, changed: bool, problem: str) -> None:
        """Show whether the setting differs from the preset's, and what is wrong with it."""
        self._changed = changed
        self.set_class(bool(problem), "-wrong")
        self.query_one(".problem", Label).update(problem)
        self._show_mark()

    @property
    def editor(self) -> Widget:
        """The widget that takes the focus."""
        return self.query(Widget).exclude("Label, Horizontal").first()

    @on(Input.Changed)
    def _input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._tell(event.value)

    @on(Select.Changed)
    def _select_changed(self, event: Select.Changed) -> None:
        event.stop()
        self._tell(str(event.value))

    @on(Switch.Changed)
    def _switch_changed(self, event: Switch.Changed) -> None:
        event.stop()
        self._tell("true" if event.value else "false")

    @on(DescendantFocus)
    def _focus_entered(self) -> None:
        self.post_message(self.Entered(self.info))

    def _tell(self, text: str) -> None:
        # Widgets report the value they are mounted with, too; only a new one is news.
        if text != self._text:
            self._text = text
            self.post_message(self.Edited(self.info, text))

    def _show_mark(self) -> None:
        self.set_class(self._changed, "-changed")
        self.query_one(".mark", Label).update("●" if self._changed else "")

    def _select(self) -> Select[str]:
        return Select(self._options(self._text), value=self._text, allow_blank=False, compact=True)

    def _options(self, text: str) -> list[tuple[str, str]]:
        """List the choices; a wrong value of the preset is kept on show until it is replaced."""
        names = self.info.choices if text in self.info.choices else (text, *self.info.choices)
        return [(name, name) for name in names]


def field_id(key: str) -> str:
    """Return the widget id of a setting's row."""
    return f"setting-{key.replace('.', '-')}"


def _placeholder(info: SettingInfo) -> str:
    return "required" if info.required else "none" if info.optional else "default"


def _short_unit(info: SettingInfo) -> str:
    return "" if info.unit in ("path", "span") else info.unit
