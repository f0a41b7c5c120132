"""From an experiment to the configs of its variants, before matching."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engine.config.errors import ConfigError, Problem
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from jobs.sweeps.experiment import Experiment
from presets.merging import leaves, merge


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant: its settings, and the dotted keys it sets itself."""

    name: str
    values: Mapping[str, Any]
    own: frozenset[str]
    config: RunConfig


def expand(experiment: Experiment, base: Mapping[str, Any]) -> list[Variant]:
    """Return the variants in the order of the file; the others are matched to the first one.

    Args:
        experiment: the file.
        base: values of the base preset, with command-line overrides applied.

    Raises:
        ConfigError: with every problem of every variant.
    """
    variants: list[Variant] = []
    problems: dict[Problem, None] = {}
    for name, top in _tops(experiment):
        values = merge(base, top)
        try:
            config = load_config(values)
        except ConfigError as error:
            if _is_of_base(error, base):
                raise
            problems |= {
                Problem("", f"variant {name}: {problem}"): None for problem in error.problems
            }
        else:
            variants.append(Variant(name, values, own=frozenset(dict(leaves(top))), config=config))
    if problems:
        raise ConfigError(problems)
    return variants


def put(values: Mapping[str, Any], key: str, *, value: Any) -> dict[str, Any]:
    """Return `values` with a setting changed."""
    return merge(values, nested(key, value))


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return nested values that hold one setting, given by its dotted key."""
    *sections, name = key.split(".")
    values = {name: value}
    for section in reversed(sections):
        values = {section: values}
    return values


def _is_of_base(error: ConfigError, base: Mapping[str, Any]) -> bool:
    """Return whether the base alone has the same problems, so that no variant causes them."""
    try:
        load_config(base)
    except ConfigError as own:
        return own.problems == error.problems
    return False


def _tops(experiment: Experiment) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each variant and its overrides of the base."""
    named = experiment.variants or {"": {}}
    axes = dict(leaves(experiment.grid))
    wrong = [key for key, values in axes.items() if not isinstance(values, list) or not values]
    if wrong:
        raise ConfigError(
            Problem(f"grid.{key}", "expected a list of values, like [3e-4, 3e-3]") for key in wrong
        )
    for name, top in named.items():
        for point in itertools.product(*axes.values()):
            combined: dict[str, Any] = dict(top)
            words = [name] if name else []
            for key, value in zip(axes, point, strict=True):
                combined = put(combined, key, value=value)
                words.append(f"{key.rpartition('.')[2]}{_short(value)}")
            yield "-".join(words) or "baseline", combined


def _short(value: Any) -> str:
    """Return a value as a part of a name: 3e-3, 64, bf16, 2x4x8."""
    if isinstance(value, list):
        return "x".join(_short(item) for item in value)
    if isinstance(value, float) and 0 < abs(value) < 0.01:
        mantissa, _, exponent = f"{value:e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    if isinstance(value, bool):
        return f"-{str(value).lower()}"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return "-" + "".join(char if char.isalnum() or char in "._" else "-" for char in str(value))
