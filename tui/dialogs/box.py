"""A box over the screen that grows with its content, up to almost the full screen, then scrolls."""

from __future__ import annotations

from typing import TypeVar

from textual.screen import ModalScreen

Answer = TypeVar("Answer")


class BoxScreen(ModalScreen[Answer]):
    """The look of a modal screen whose one child is a `VerticalScroll`; subclasses may change the width."""

    DEFAULT_CSS = """
    BoxScreen { align: center middle; }
    BoxScreen > VerticalScroll {
        width: 76; max-width: 96%; height: auto; max-height: 94%; padding: 0 2;
        background: $panel; border: round $primary; border-title-color: $primary;
        scrollbar-size-vertical: 1;
    }
    """
