"""Paths on the command line: `~` is a home folder, and an empty one is a mistake."""

from __future__ import annotations

import os
from typing import Any

import click

from models.user_paths import expanded


class UserPath(click.Path):
    """A path as people write it, as a `Path`; "" is refused, as an unset variable of a shell leaves it."""

    def __init__(self, **options: Any) -> None:
        from pathlib import Path

        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, expanded; `-` stays where it may stand for standard output."""
        if not os.fspath(value).strip():
            self.fail("the path is empty; is a variable of the shell unset?", param, ctx)
        return super().convert(os.fspath(expanded(value)), param, ctx)
