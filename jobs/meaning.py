"""Whether values of a metric mean the same in several runs: what may be compared, or share an axis.

A loss of other labels, masks, weights or normalisations is another quantity; so is a score that depends
on a setting. Which settings those are is declared with each metric (`Metric.same`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.metrics.registry import settings_of_meaning
from presets.merging import leaves, value_at


def differing_settings(metric: str, configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the dotted settings by which values of a metric mean something else; empty: they mean the same.

    Args:
        metric: its stored name.
        configs: of the runs, as plain values.
    """
    keys = [key for config in configs for key in settings_of_meaning(metric, config)]
    return list(
        dict.fromkeys(
            setting
            for key in dict.fromkeys(keys)
            if _differ(configs, key)
            for setting in _parts(configs, key)
        )
    )


def _differ(configs: Sequence[Mapping[str, Any]], key: str) -> bool:
    first, *others = [value_at(config, key) for config in configs] or [None]
    return any(other != first for other in others)


def _parts(configs: Sequence[Mapping[str, Any]], key: str) -> Iterator[str]:
    """Yield what differs inside a section; its kind alone where that does, and the key of a setting."""
    if not all(isinstance(value_at(config, key), Mapping) for config in configs):
        yield key
    elif _differ(configs, kind := f"{key}.kind"):
        yield kind
    else:
        names = {name for config in configs for name, _ in leaves(value_at(config, key))}
        yield from (part for name in sorted(names) if _differ(configs, part := f"{key}.{name}"))
