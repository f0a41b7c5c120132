"""A preset as one line of a list."""

from __future__ import annotations

from presets.catalogue import PresetInfo

_MARGIN = 5  # the mark, the padding and the scroll bar


def preset_line(info: PresetInfo, *, width: int) -> str:
    """Return the mark and the name of a preset; of a long name the end."""
    mark = "! " if info.problem else "* " if info.origin == "user" else "  "
    name, most = info.name, width - _MARGIN
    if len(name) > most:
        name = f"…/{name.rpartition('/')[2]}"
    if len(name) > most:
        name = f"…{name[1 - most :]}"
    return f"{mark}{name}"
