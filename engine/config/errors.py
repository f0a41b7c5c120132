"""Problems in a user's input: one `Problem` each, all collected in one error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a config; `key` is dotted, empty when it concerns several."""

    key: str
    message: str

    def __post_init__(self) -> None:
        """Make bytes of file names that are no UTF-8 visible, so that the message can be written anywhere."""
        object.__setattr__(self, "message", encodable(self.message))

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


def encodable(text: str) -> str:
    r"""Return a text with `\xe9` in place of a byte that is no UTF-8 (a lone surrogate, as Python reads it)."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class InputError(ValueError):
    """Input that can't be used; `problems` holds everything wrong with it, the message the first 20."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:_MAX_SHOWN]]
        if len(self.problems) > _MAX_SHOWN:
            lines.append(f"... and {len(self.problems) - _MAX_SHOWN} more problems")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...]]]:
        """Cross a process boundary with the problems, not the text."""
        return type(self), (self.problems,)


class ConfigError(InputError):
    """Settings that can't be used."""


class DataError(InputError):
    """Data files that can't be used."""


def counted(number: int, noun: str, *, plural: str = "s") -> str:
    """Return a number with its noun: "1 run", "0 runs", "3,000 runs"; `plural` is the ending."""
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def nearest(name: str, names: Iterable[str]) -> str:
    """Return `", did you mean 'x'?"`, or nothing when no name is close; capitals don't count."""
    by_lower: dict[str, str] = {}
    for known in names:
        by_lower.setdefault(known.lower(), known)
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f", did you mean {by_lower[near[0]]!r}?" if near else ""
