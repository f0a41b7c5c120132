"""The look: a dark and a light theme, and series colours that are colour-blind safe.

Series colours follow Okabe and Ito (2008), lightened for dark backgrounds. Colour is never the
only cue: states have glyphs and words, and lines have labels.
"""

from __future__ import annotations

from rich.style import Style
from textual.color import Color
from textual.theme import Theme

from tui.widgets.charts import figure

DARK = Theme(
    name="sepdash",
    primary="#6cb2eb",
    secondary="#8a9bb0",
    accent="#e5a83b",
    warning="#e5a83b",
    error="#ec7063",
    success="#45c49c",
    foreground="#d3d9e2",
    background="#11151b",
    surface="#161b22",
    panel="#1f2630",
    dark=True,
    variables={
        "footer-key-foreground": "#e5a83b",
        "footer-description-foreground": "#8a95a5",
        "footer-background": "#11151b",
        "scrollbar": "#2a323e",
        "scrollbar-background": "#161b22",
        "scrollbar-corner-color": "#161b22",
        "border": "#6cb2eb",
    },
)
LIGHT = Theme(
    name="sepdash-light",
    primary="#0b62a4",
    secondary="#5c6b7d",
    accent="#9a5b00",
    warning="#9a5b00",
    error="#b3261e",
    success="#00704a",
    foreground="#1d242d",
    background="#f4f5f7",
    surface="#fbfbfc",
    panel="#e6e9ee",
    dark=False,
)

SERIES_ON_DARK = (
    "#5cb8f2", "#f0a830", "#35c9a0", "#e58ac0", "#ece160", "#f07a4a", "#a08cf0", "#9aa5b1",
)  # fmt: skip
SERIES_ON_LIGHT = (
    "#0072b2", "#b86e00", "#00805c", "#a8487f", "#857a00", "#c04a00", "#5a45b8", "#5c6b7d",
)  # fmt: skip

STATE_GLYPHS = {
    "running": "▶",
    "queued": "◦",
    "waiting": "◌",
    "finished": "✓",
    "stopped": "■",
    "failed": "✗",
    "stopping": "◼",
}


def state_colour(state: str, variables: dict[str, str]) -> str:
    """Return the colour of a run state in the theme whose variables are given."""
    names = {
        "running": "primary",
        "queued": "secondary",
        "waiting": "secondary",
        "finished": "success",
        "stopped": "warning",
        "stopping": "warning",
        "failed": "error",
    }
    return variables[names[state]]


def chart_styles(variables: dict[str, str], background: Color, *, dark: bool) -> dict[int, Style]:
    """Return the style of each role of `tui.widgets.charts.plot` on `background`."""
    text = Color.parse(variables["foreground"])
    styles = {
        figure.TEXT: _style(text.blend(background, 0.12), background),
        figure.DIM: _style(text.blend(background, 0.45), background),
        figure.GRID: _style(text.blend(background, 0.74), background),
        figure.CURSOR: _style(Color.parse(variables["accent"]), background),
        figure.TITLE: _style(text, background) + Style(bold=True),
        figure.MARK: _style(Color.parse(variables["warning"]), background),
    }
    for index, name in enumerate(SERIES_ON_DARK if dark else SERIES_ON_LIGHT):
        colour = Color.parse(name)
        styles[figure.LINE + index] = _style(colour, background)
        styles[figure.FAINT + index] = _style(colour.blend(background, 0.66), background)
    return styles


def _style(colour: Color, background: Color) -> Style:
    return Style(color=colour.rich_color, bgcolor=background.rich_color)
