"""The shape of the code: size of files and functions, number of parameters, what is tracked."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from statistics import median, quantiles

import pytest

PACKAGES = ["tui", "jobs", "engine", "models", "presets"]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def sources(repository: Path) -> list[Path]:
    return [path for package in PACKAGES for path in (repository / package).rglob("*.py")]


def test_files_and_functions_stay_readable(repository: Path) -> None:
    outside: list[str] = []
    lengths: list[int] = []
    for path in sources(repository):
        text = path.read_text()
        if text.count("\n") > 400:
            outside.append(f"{path}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, FUNCTIONS):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                lengths.append(length)
                arguments = node.args
                count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
                if length > 60 or count > 9:
                    outside.append(
                        f"{path}:{node.lineno} {node.name}: {length} lines, {count} args"
                    )
    assert outside == []
    assert median(lengths) <= 14
    assert quantiles(lengths, n=10)[8] <= 35


def by_position(repository: Path) -> set[str]:
    """Return the functions that take more than two arguments by position, `self` left out."""
    names = set()
    for path in sources(repository):
        module = ".".join(path.relative_to(repository).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        inside = {
            child: isinstance(node, ast.ClassDef)
            and not any(ast.unparse(item) == "staticmethod" for item in child.decorator_list)
            for node in ast.walk(tree)
            for child in ast.iter_child_nodes(node)
            if isinstance(child, FUNCTIONS)
        }
        names |= {
            f"{module}.{function.name}"
            for function, bound in inside.items()
            if len(function.args.posonlyargs + function.args.args) - bound > 2
        }
    return names


def test_arguments_past_the_second_are_keywords(repository: Path) -> None:
    listing = (repository / "tests/contracts/positional.txt").read_text().splitlines()
    allowed = {line for line in listing if not line.startswith("#")}
    positional = by_position(repository)
    assert sorted(positional - allowed) == [], "put a * behind the second argument"
    assert sorted(allowed - positional) == [], "no longer needed in positional.txt"


def derived(path: Path) -> set[str]:
    """Settings that a section of the config itself turns into something else, checks left out."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and not any("validator" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    return {
        node.attr
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }


def test_every_setting_is_read_by_some_code(repository: Path) -> None:
    from engine.config.fields import list_settings

    config = (repository / "engine/config").glob("*.py")
    # One module of the settings' own room declares none and acts on some: it queues further runs.
    sections = [path for path in config if path.name != "iterations.py"]
    sections.append(repository / "models/configs.py")
    readers = [
        path.read_text()
        for path in sources(repository)
        if path not in sections and path.name != "preset.py"
    ]
    text = "\n".join(readers)
    inside = set().union(*map(derived, sections))
    unread = [
        item.key
        for item in list_settings()
        if (name := item.key.split(".")[-1]) not in inside
        and not re.search(rf"(\.|\[\"){re.escape(name)}\b", text)
    ]
    assert unread == []


def test_no_lock_file_or_package_host_is_tracked(repository: Path) -> None:
    git = shutil.which("git")
    if git is None or not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        [git, "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True
    )
    tracked = [repository / name for name in listing.stdout.split("\0") if name]
    assert [path.name for path in tracked if path.name.endswith(".lock")] == []
    hosts = re.compile(r"https?://(?:[a-z0-9.-]*\.)?(?:pypi|pythonhosted|pytorch)\.[a-z]+")
    named = [
        str(path)
        for path in tracked
        if path.is_file() and path.suffix in {".py", ".toml", ".md", ".yaml", ".yml", ".cfg"}
        if hosts.search(path.read_text())
    ]
    assert named == []
