"""The `sepdash` command: handles all user errors in one place.

A user error prints one clear message and exits with code 2; Ctrl-C (130) and a closed pipe (1) are silent.
Set SEPDASH_TRACEBACK=1 to see the traceback of a message.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from models.terminal import safe_streams

if TYPE_CHECKING:
    import click

_USER_ERROR, _INTERRUPTED, _PIPE_CLOSED = 2, 130, 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its exit code."""
    try:
        code = run(arguments)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; messages go to stderr."""
    import click

    from tui.cli.group import sepdash

    try:
        with safe_streams():
            result = sepdash.main(arguments, prog_name="sepdash", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        return _INTERRUPTED
    except click.UsageError as error:
        return _complain(_usage(error), error)
    except click.ClickException as error:
        return _complain(error.format_message(), error)
    except BrokenPipeError:
        return _PIPE_CLOSED
    except OSError as error:
        text = _unwritten(error) if error.errno == errno.ENOSPC else str(error)
        return _complain(text or type(error).__name__, error)
    except ValueError as error:
        return _complain(str(error) or type(error).__name__, error)


def _usage(error: click.UsageError) -> str:
    """Return the usage error and the help command to run, in one line."""
    path = error.ctx.command_path if error.ctx else "sepdash"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see `{path} --help`"


def _complain(message: str, error: Exception) -> int:
    if os.environ.get("SEPDASH_TRACEBACK") == "1":
        raise error
    # Here, since most commands say nothing through it and start faster without.
    from tui.reports.formats import clean

    # A message repeats what it complains of, which must not control the terminal.
    lines = [clean(line) for line in message.split("\n") if line]
    # Indented lines belong to the problem above them: the two that convert a pickle.
    count = sum(not line.startswith(" ") for line in lines)
    text = "\n".join(lines) if count < 2 else f"{count} problems:\n  " + "\n  ".join(lines)
    # A message that nobody can get does not change what happened.
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"sepdash: {text}\n")
        sys.stderr.flush()
    return _USER_ERROR


def _unwritten(error: OSError) -> str:
    """Say that a file could not be written, and which: one without a name is standard output."""
    what = os.fsdecode(error.filename) if error.filename else "the output"
    return f"{what} can't be written: {error.strerror}; make room and try again"


if __name__ == "__main__":
    main()
