"""What messages tell people to do can be done: the commands, options, settings and extras that they name exist."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from functools import cache

from engine.config.fields import list_settings
from tests.commands import commands
from tests.pages import ROOT

PACKAGES = ["tui", "jobs", "engine", "models", "presets"]
# Options of other programs that messages name.
# Of pip and uv, of TorToiSe, of systemctl.
FOREIGN = {"--extra", "--voices", "--user", "--now"}
FILES = {"validation.txt"}


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Every text of the code that a person may read, with its place; a value put into one is a `…`.

    Of docstrings, these are those of the command line, which become helps.
    """
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text())
        inner = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        if path.is_relative_to(ROOT / "tui"):
            bare = set()
        else:
            bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in bare:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                text = "".join(map(str, parts))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in inner
            ):
                text = node.value
            else:
                continue
            found.append((f"{path.relative_to(ROOT)}:{node.lineno}", text))
    return tuple(found)


@cache
def options() -> dict[str, set[str]]:
    """The options of every command."""
    return {
        one.command_path: {"--help"}
        | {opt for param in one.command.params for opt in (*param.opts, *param.secondary_opts)}
        for one in commands()
    }


def test_commands_in_messages_exist_with_their_options() -> None:
    wrong, count = [], 0
    for place, text in texts():
        for line in re.findall(r"`(sepdash(?: [^`]*)?)`", text):
            words = [word for word in shlex.split(line.replace("'", "")) if word != "…"]
            known = [path for path in options() if words[: len(path.split())] == path.split()]
            path = max(known, key=len)
            rest = words[len(path.split()) :]
            is_verb = (
                path == "sepdash"
                and bool(rest)
                and not rest[0].startswith(("-", "COMMAND", "VERB"))
            )
            bad = {word for word in rest if word.startswith("--")} - options()[path]
            count += 1
            if is_verb or bad:
                wrong.append(f"{place}: {line}")
    assert count > 60
    assert wrong == []


def test_options_in_messages_exist() -> None:
    every = set().union(*options().values()) | FOREIGN
    wrong, count = [], 0
    for place, text in texts():
        # A text that is nothing but an option is one that is declared, or that a program gets.
        if re.search(r"\s", text.strip()):
            found = re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
            count += len(found)
            wrong += [f"{place}: {name}" for name in found if name not in every]
    assert count > 150
    assert wrong == []


def test_settings_in_messages_exist() -> None:
    names = {item.key for item in list_settings(None)}
    sections = {name.partition(".")[0] for name in names if "." in name}
    shape = re.compile(
        rf"(?<![\w./-])(?:{'|'.join(sorted(sections))})\.[a-z][a-z_0-9]+(?![\w.(/…])"
    )
    wrong, count = [], 0
    for place, text in texts():
        if re.search(r"\s", text.strip()):
            found = shape.findall(text)
            count += len(found)
            wrong += [f"{place}: {name}" for name in found if name not in names | FILES]
    assert count > 200
    assert wrong == []


def test_extras_in_messages_exist() -> None:
    extras = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
    named = {name for _, text in texts() for name in re.findall(r"sepdash\[([a-z-]+)\]", text)}
    assert len(named) >= 5
    assert named <= extras
