"""What installed packages add, found by their metadata: one search for every entry point group.

A package names its part in its `pyproject.toml`, for example

    [project.entry-points."sepdash.models"]
    my_model = "my_package.settings:MyModelConfig"

Each group has one owner, who says which parts are accepted. A part that breaks a rule, or whose
package fails to import, is left out, with the reason kept for messages and `sepdash doctor`. Only
the standard library is imported here, and a part must not import torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plugins(Generic[T]):
    """The parts of one group, and why others were left out, by the name of their entry point.

    Attributes:
        sources: name and version of the package of each part.
    """

    group: str
    parts: Mapping[str, T] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def why_missing(self, name: str) -> str:
        """Return a clause about a part that was left out; empty when no package names it."""
        reason = self.broken.get(name)
        return f" (skipped an installed package: {reason})" if reason else ""


def find_plugins(
    group: str,
    accept: Callable[[EntryPoint, Any], T],
    *,
    taken: Iterable[str] = (),
    points: Iterable[EntryPoint] | None = None,
) -> Plugins[T]:
    """Load every part of a group that an installed package names, in the order of their names.

    Args:
        group: of the entry points.
        accept: returns the part of a loaded object, and raises for one that breaks a rule.
        taken: names that are no longer free.
        points: entry points to look at, those of the installed packages when left out.
    """
    seen = set(taken)
    parts: dict[str, T] = {}
    broken: dict[str, str] = {}
    sources: dict[str, str] = {}
    for point in sorted(
        _installed().select(group=group) if points is None else points,
        key=lambda point: (point.name, point.value),
    ):
        try:
            if point.name in seen:
                raise ValueError(f"the name {point.name!r} is already taken")
            with _apart():
                part = accept(point, point.load())
        except (Exception, SystemExit) as error:  # noqa: BLE001 another package's code may raise anything
            broken[point.name] = f"{_source(point)}: {_line(error)}"
        else:
            seen.add(point.name)
            parts[point.name] = part
            sources[point.name] = f"{point.dist.name} {point.dist.version}" if point.dist else ""
    return Plugins(group, parts, broken, sources)


def check_target(target: str, what: str) -> None:
    """Make sure that a text has the form of `load_target`, without importing anything.

    Raises:
        ValueError: naming `what` it was given for.
    """
    module, _, name = target.partition(":")
    if not (module and name.isidentifier()):
        raise ValueError(f"{what} must be 'package.module:name', found {target!r}")


def load_target(target: str) -> Any:
    """Import what `"package.module:name"` names; the way a torch-free declaration names heavy code.

    Raises:
        ValueError: when the text is no such name, the module can't be imported, or has nothing of
            that name.
    """
    check_target(target, "a target")
    module, _, name = target.partition(":")
    try:
        with _apart():
            value = getattr(import_module(module), name, None)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{target} can't be imported ({type(error).__name__}: {error}); repair or remove the "
            "package that provides it"
        ) from error
    if value is None:
        raise ValueError(f"module {module} has no {name!r}")
    return value


@contextmanager
def _apart() -> Iterator[None]:
    """Keep what another package prints while it is imported out of the answer of a command."""
    with redirect_stdout(sys.stderr):
        yield


@cache
def _installed() -> Any:
    """Return all entry points, of a type that changed with Python 3.12; `select` gives a group.

    Reading them takes 15 ms, whichever group is asked for.
    """
    return entry_points()


def _line(error: BaseException) -> str:
    """Return the message of an error in one line, without characters that control a terminal."""
    text = "".join(filter(str.isprintable, " ".join(str(error).split())))
    return text or type(error).__name__


def _source(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value
