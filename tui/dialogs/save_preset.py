"""The dialogue that asks for the name of a preset to save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label


@dataclass(frozen=True, slots=True)
class PresetName:
    """The answer: the name to save under, and the description for the list."""

    name: str
    description: str


class SavePreset(ModalScreen[PresetName | None]):
    """Returns the answer, or None if the user went back."""

    DEFAULT_CSS = """
    SavePreset { align: center middle; }
    SavePreset > Vertical {
        width: 64; max-width: 90%; height: auto; padding: 1 2; background: $panel;
    }
    SavePreset Horizontal { height: auto; margin-top: 1; }
    SavePreset Button { margin-right: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, preset: str, description: str) -> None:
        super().__init__()
        self._preset = preset
        self._description = description

    def compose(self) -> ComposeResult:
        """Lay out two fields and two buttons."""
        with Vertical():
            yield Label("Save as user preset")
            yield Input(self._preset, placeholder="folder/name", id="name")
            yield Input(self._description, placeholder="description", id="description")
            with Horizontal():
                yield Button("Save", id="ok", variant="primary", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    @on(Input.Submitted)
    @on(Button.Pressed, "#ok")
    def _save(self) -> None:
        name, description = (self.query_one(f"#{i}", Input).value for i in ("name", "description"))
        if name.strip():
            self.dismiss(PresetName(name.strip(), description.strip()))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
