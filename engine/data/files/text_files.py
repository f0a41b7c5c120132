"""Text files of people: in which encodings, with which ends of lines, and no larger than memory. Free of torch."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.data.files.audio_files import EXTENSIONS

_COMPRESSED = {
    b"\x1f\x8b": "gunzip -k",
    b"BZ": "bunzip2 -k",
    b"\xfd7": "unxz -k",
    b"(\xb5": "unzstd",
}


def lines_of(path: Path, bad_rows: list[str]) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of the non-empty lines of a text file.

    Args:
        path: the file.
        bad_rows: takes the reason why it can't be read.
    """
    # Not splitlines: a JSON string may contain other line separators.
    for number, line in enumerate((text_of(path, bad_rows) or "").split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


def text_of(path: Path, bad_rows: list[str]) -> str | None:
    """Return a text file, with plain line feeds: UTF-8, or UTF-16 with a byte order mark; None if it is neither.

    Args:
        path: the file.
        bad_rows: takes the reason why it can't be read.
    """
    if path.suffix.lower() in EXTENSIONS:
        bad_rows.append(
            f"{path}: is a single audio file; expected a manifest, or the folder of the file"
        )
        return None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            bad_rows.append(f"{path}: is not a file; expected a manifest")
            return None
        content = path.read_bytes()
    except OSError as error:
        bad_rows.append(f"{path}: can't be read ({error.strerror})")
        return None
    if command := _COMPRESSED.get(content[:2]):
        bad_rows.append(
            f"{path}: is compressed; unpack it with `{command} {path}`, and name the result"
        )
        return None
    encoding = (
        "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        bad_rows.append(f"{path}: not valid {name} (at byte {error.start}); convert it")
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")
