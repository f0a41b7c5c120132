"""What is said of audio files that are odd: their kind, what is missing, what is left over. Free of torch."""

from __future__ import annotations

import stat


def kind_of(mode: int) -> str:
    """Return what a path is that is no file."""
    for test, name in (
        (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    ):  # fmt: skip
        if test(mode):
            return name
    return "something else"


def truncated(number: int) -> str:
    """Say how many bytes are missing."""
    return f"truncated, {number} bytes are missing; copy or record it again"


def seconds(duration_s: float) -> str:
    """Return a length."""
    return f"{duration_s:.2f} s"


def counts_more(number: int, duration_s: float) -> str:
    """Say that a header counts more bytes than there are."""
    return (
        f"its header counts {number} bytes more than there are; all {seconds(duration_s)} are used"
    )


def other_length(declared_s: float, duration_s: float) -> str:
    """Say that a header gives another length."""
    return f"its header gives {declared_s:.2f} s; all {seconds(duration_s)} are used"


def junk(number: int) -> str:
    """Say what follows the audio."""
    return f"{number} bytes after its audio are not used; if they are audio, correct its header or record it again"
