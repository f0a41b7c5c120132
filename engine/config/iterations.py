"""The runs that a config with several iterations stands for: each takes its targets from the run before.

A later iteration starts from random weights and fits its own k-means model: only labels come from the
run before (Hsu et al., 2021). Knows no store: whoever queues the runs gives them their names.
"""

from __future__ import annotations

import re
from collections import defaultdict

from engine.config.errors import ConfigError, Problem
from engine.config.loading import load_config
from engine.config.overrides import applied
from engine.config.schema import RunConfig
from engine.config.targets import TargetSettings

_LATER = "loss.later"
_LINE = re.compile(r"\s*(\d+)\s*:\s*(.*\S)\s*", re.DOTALL)
# What only the first iteration starts from.
_OF_THE_FIRST = ("init_from", "loss.kmeans_from")


def num_iterations(config: RunConfig) -> int:
    """Return how many runs a config stands for; 1 for all that has no targets."""
    loss: object = config.loss
    return loss.iterations if isinstance(loss, TargetSettings) else 1


def iterations_of(config: RunConfig, name: str) -> list[tuple[str, RunConfig]]:
    """Return name and config of the runs that a config stands for, the one of that name last.

    The others are called `<name>-it1` and so on.

    Raises:
        ConfigError: with every problem of `loss.later`.
    """
    count = num_iterations(config)
    lines = _lines_by_iteration(config, count)
    if count == 1:
        return [(name, config)]
    names = [*(f"{name}-it{number}" for number in range(1, count)), name]
    runs: list[tuple[str, RunConfig]] = []
    problems: list[Problem] = []
    for number, own in enumerate(names, 1):
        values, wrong = applied(config.to_dict(), lines[number])
        values["loss"] |= {"iterations": 1, "later": []}
        if number > 1:
            values["init_from"] = None
            values["loss"] |= {"kmeans_from": None, "targets_from": names[number - 2]}
        try:
            runs.append((own, load_config(values)))
        except ConfigError as error:
            wrong = [*wrong, *error.problems]
        problems += [Problem(_LATER, f"iteration {number}: {problem}") for problem in wrong]
    if problems:
        raise ConfigError(problems)
    return runs


def _lines_by_iteration(config: RunConfig, count: int) -> dict[int, list[str]]:
    lines: dict[int, list[str]] = defaultdict(list)
    problems = []
    loss: object = config.loss
    for text in loss.later if isinstance(loss, TargetSettings) else ():
        match = _LINE.fullmatch(text)
        number = int(match[1]) if match else 0
        key = match[2].partition("=")[0].strip() if match else ""
        if match is None:
            problem = f'{text!r}: expected "ITERATION: KEY=VALUE", as in "2: loss.clusters=500"'
        elif not 2 <= number <= count:
            problem = (
                f"{text!r} is about iteration {number}, but loss.iterations = {count}; expected 2 to "
                f"{count}, or raise loss.iterations"
                if count > 1
                else f"{text!r}, but loss.iterations = 1; set loss.iterations = 2"
            )
        elif key in ("loss.kind", "loss.iterations", _LATER, "loss.targets_from", *_OF_THE_FIRST):
            problem = f"{text!r}: {key} can't be set for an iteration; remove this line"
        else:
            lines[number].append(match[2])
            continue
        problems.append(Problem(_LATER, problem))
    if problems:
        raise ConfigError(problems)
    return lines
