"""The commands of the command line, each in a context of its own."""

from __future__ import annotations

from collections.abc import Iterator

import click

from tui.cli.group import sepdash


def commands(
    command: click.Command = sepdash, *, parent: click.Context | None = None, name: str = "sepdash"
) -> Iterator[click.Context]:
    """Yield a context for a command and for each of its subcommands."""
    context = click.Context(command, parent=parent, info_name=name, **command.context_settings)
    yield context
    if isinstance(command, click.Group):
        for child_name in command.list_commands(context):
            child = command.get_command(context, child_name)
            assert child is not None, child_name
            yield from commands(child, parent=context, name=child_name)
