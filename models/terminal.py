"""What is written to a terminal, a pipe or a file: never a control sequence from outside, never an encoding error.

Names of files, texts of people and rows of stores may hold anything. Whatever a command writes goes
through `safe_streams`, so that no place has to think of it; screens of the dashboard draw cells and
clean their texts themselves. Standard library only.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

# What stands for a sign that an encoding lacks; as wide as the sign, so that tables stay straight.
_PLAINER = str.maketrans(
    {
        "–": "-", "—": "-", "−": "-", "‑": "-", "…": ".", "→": ">", "←": "<", "↑": "^", "↓": "v", "×": "x", "·": ".",
        "•": "*", "│": "|", "┃": "|", "─": "-", "━": "-", "┼": "+", "├": "+", "┤": "+", "┌": "+", "┐": "+", "└": "+",
        "┘": "+", "█": "#", "▏": "|", "✓": "y", "✗": "n", "≥": ">", "≤": "<", "≈": "~", "±": "~", "“": '"', "”": '"',
        "’": "'", "‘": "'", "„": '"', "μ": "u", "µ": "u", "²": "2",
    }
)  # fmt: skip
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]*[0-~])")
# C0 without tab and line ends, DEL, C1, and the signs that turn the direction of what follows.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_ERRORS = "sepdash.plainer"


def harmless(text: str) -> str:
    """Return text without what a terminal would act on; tabs and ends of lines stay."""
    if "\x1b" in text:
        text = _SEQUENCE.sub("", text)
    text = _CONTROLS.sub("", text)
    # A carriage return alone overwrites the line: only progress does that, at its beginning.
    return text[:1] + text[1:].replace("\r\n", "\n").replace("\r", "") if "\r" in text else text


@contextmanager
def safe_streams() -> Iterator[None]:
    """Let standard output and error take any text; what they can't hold is replaced, a closed one drops it.

    Raises:
        OSError: at the end, when standard output can't be written: a full disk, a closed pipe.
    """
    codecs.register_error(_ERRORS, _plainer)
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if stream is None:  # closed by the caller: `sepdash runs >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", errors=_ERRORS))  # noqa: PTH123, SIM115
        elif hasattr(stream, "buffer"):
            setattr(sys, name, _Harmless(stream))
    try:
        yield
    except BaseException:
        for name, stream in before.items():
            _restore(name, stream)
        raise
    failed = [error for name, stream in before.items() if (error := _restore(name, stream))]
    if failed:
        raise failed[0]


def _restore(name: str, stream: Any) -> OSError | None:
    """Put a stream back; return why standard output could not be written, if so."""
    ours = getattr(sys, name)
    setattr(sys, name, stream)
    error = None
    try:
        ours.flush()
    except OSError as caught:
        error = caught
        # Whatever is left in its buffer would fail again when the interpreter ends.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), ours.fileno())
    if isinstance(ours, _Harmless):
        ours.detach()
    return error if name == "stdout" else None


class _Harmless(io.TextIOWrapper):
    """A stream that writes harmless text, in the encoding of the one it takes the place of."""

    def __init__(self, stream: Any) -> None:
        stream.flush()
        name = codecs.lookup(stream.encoding or "utf-8").name
        # click takes ASCII for a mistake, and writes UTF-8 past this stream.
        self._is_ascii = name == "ascii"
        super().__init__(
            stream.buffer,
            encoding="latin-1" if self._is_ascii else name,
            errors=_ERRORS,
            line_buffering=getattr(stream, "line_buffering", False),
            write_through=getattr(stream, "write_through", False),
        )

    def write(self, text: str) -> int:
        safe = harmless(text)
        if self._is_ascii and not safe.isascii():
            safe = safe.encode("ascii", _ERRORS).decode("ascii")
        super().write(safe)
        return len(text)


def _plainer(error: UnicodeError) -> tuple[str, int]:
    r"""Replace signs that an encoding lacks, and bytes of file names by `\xe9`."""
    assert isinstance(error, UnicodeEncodeError)
    found = []
    for sign in error.object[error.start : error.end]:
        number = ord(sign)
        if 0xDC80 <= number <= 0xDCFF:
            found.append(f"\\x{number - 0xDC00:02x}")
        else:
            plainer = sign.translate(_PLAINER)
            found.append(plainer if plainer.isascii() else "?")
    return "".join(found), error.end
