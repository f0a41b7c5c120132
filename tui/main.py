"""The `sepdash` command: handles all user errors in one place.

A user error prints one clear message and exits with code 2; Ctrl-C (130) and a closed pipe (1) are silent.
Set SEPDASH_TRACEBACK=1 to see the traceback of a message.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_USER_ERROR, _INTERRUPTED, _PIPE_CLOSED = 2, 130, 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its exit code."""
    try:
        code = run(arguments)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _close_pipe()
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; messages go to stderr."""
    import click

    from tui.cli.group import sepdash

    try:
        result = sepdash.main(arguments, prog_name="sepdash", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        return _INTERRUPTED
    except click.UsageError as error:
        return _complain(_usage(error), error)
    except click.ClickException as error:
        return _complain(error.format_message(), error)
    except BrokenPipeError:
        return _close_pipe()
    except (ValueError, OSError) as error:
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
    sys.stderr.write(f"sepdash: {text}\n")
    return _USER_ERROR


def _close_pipe() -> int:
    # The interpreter flushes stdout once more at exit, so redirect it to /dev/null.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _PIPE_CLOSED


if __name__ == "__main__":
    main()
