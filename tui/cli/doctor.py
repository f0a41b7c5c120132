"""`sepdash doctor`: checks whether this machine is ready to train and the run store is intact."""

from __future__ import annotations

import click

from engine.config.errors import counted
from jobs.home import Home
from tui.cli.common import json_option, print_json, with_home

_EXAMPLES = """\b
Examples:
  sepdash doctor
  sepdash doctor --json | jq '.[] | select(.verdict == "problem")'
"""
_MARKS = {"ok": "ok  ", "note": "note", "problem": "FAIL"}


@click.command(epilog=_EXAMPLES)
@json_option
@with_home
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool, home: Home) -> None:
    """Check versions, devices, paths and the run store; exit code 1 if there is a problem."""
    from tui.cli.health import Check, examine

    checks: list[Check] = []
    for check in examine(home):
        if not as_json:
            if not checks or checks[-1].area != check.area:
                click.echo(f"\n{check.area}" if checks else check.area)
            click.echo(f"  {_MARKS[check.verdict]}  {check.name:<12}  {check.text}")
        checks.append(check)
    problems = sum(check.verdict == "problem" for check in checks)
    if as_json:
        print_json(checks)
    else:
        click.echo(f"\n{counted(problems, 'problem')}" if problems else "\nno problems")
    ctx.exit(1 if problems else 0)
