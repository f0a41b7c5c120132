"""`sepdash completion`: the shell completion script for commands, options, presets and runs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_EXAMPLES = """\b
Examples:
  echo 'eval "$(sepdash completion bash)"' >> ~/.bashrc
  echo 'eval "$(sepdash completion zsh)"' >> ~/.zshrc
  sepdash completion fish > ~/.config/fish/completions/sepdash.fish
"""


@click.command(epilog=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell completion script."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "sepdash", "_SEPDASH_COMPLETE").source())
