"""The dialogue that asks for the name of a preset to save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label

from presets.catalogue import PresetError
from tui.reports.formats import clean


@dataclass(frozen=True, slots=True)
class PresetName:
    """The answer: the name to save under, and the description for the list."""

    name: str
    description: str


class SavePreset(ModalScreen[PresetName | None]):
    """Saves, and returns the answer; None if the user went back. What can't be saved is said, and kept."""

    DEFAULT_CSS = """
    SavePreset { align: center middle; }
    SavePreset > Vertical {
        width: 64; max-width: 90%; height: auto; padding: 1 2; background: $panel;
    }
    SavePreset Horizontal { height: auto; margin-top: 1; }
    SavePreset Button { margin-right: 2; }
    SavePreset #problem { color: $error; width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(
        self, preset: str, description: str, *, save: Callable[[PresetName], None]
    ) -> None:
        super().__init__()
        self._save_as = save
        self._preset = preset
        self._description = description

    def compose(self) -> ComposeResult:
        """Lay out two fields and two buttons."""
        with Vertical():
            yield Label("Save as user preset")
            yield Input(self._preset, placeholder="folder/name", id="name")
            yield Input(self._description, placeholder="description", id="description")
            yield Label("", id="problem", markup=False)
            with Horizontal():
                yield Button("Save", id="ok", variant="primary", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _save(self) -> None:
        name, description = (self.query_one(f"#{i}", Input).value for i in ("name", "description"))
        if not name.strip():
            return
        answer = PresetName(name.strip(), description.strip())
        try:
            self._save_as(answer)
        except PresetError as error:
            self.query_one("#problem", Label).update(clean(str(error)))
            self.query_one("#name", Input).focus()
        else:
            self.dismiss(answer)

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
