"""The written pages, README and docs: where they are, and the command lines they show.

A command line is a line that starts with `$ ` in a console block, or with `sepdash` in an sh block.
Those of console blocks are executed by `tests/e2e`, unless a comment above the block says why not:
`<!-- parsed only: trains for hours -->`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(?:<!-- parsed only: (?P<why>.+?) -->\n)?```(?P<kind>console|sh)\n(?P<body>.*?)```", re.DOTALL)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Example:
    """A command line of a page; `parsed_only` says why it is not executed, empty where it is."""

    page: str
    words: tuple[str, ...]
    parsed_only: str


def pages() -> list[Path]:
    """The README and every page that is written by hand."""
    docs = [p for p in sorted((ROOT / "docs").rglob("*.md")) if p.parent.name != "reference"]
    return [ROOT / "README.md", *docs]


def blocks(page: Path, kind: str) -> list[str]:
    """The bodies of the fenced blocks of a kind, such as `sql`."""
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def examples(page: Path) -> list[Example]:
    """The command lines of a page, in order; `cd` counts as one."""
    name = page.relative_to(ROOT).as_posix()
    shown = []
    for block in _BLOCK.finditer(page.read_text()):
        console = block["kind"] == "console"
        why = block["why"] or ("" if console else "a shell block")
        for line in block["body"].splitlines():
            if line.startswith("$ " if console else "sepdash"):
                words = shlex.split(line.removeprefix("$ "), comments=True)
                shown.append(Example(name, tuple(words), why))
    return shown
