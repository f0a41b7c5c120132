"""Keys that name the items of an evaluation, where some metrics are measured on items of their own.

A key is text without spaces; `<key> <metric>=<key>` names those of a metric beside those of all others.
Free of torch and pydantic.
"""

from __future__ import annotations

from engine.metrics.registry import metric_of


def with_own(key: str, metric: str, *, own: str) -> str:
    """Return the key of an evaluation whose `metric` has items of its own, with the key `own`."""
    return f"{key} {metric}={own}"


def key_for(key: str | None, metric: str) -> str | None:
    """Return the key of the items that a metric, by its stored name, was measured on."""
    if key is None:
        return None
    common, *others = key.split(" ")
    owned = dict(part.partition("=")[::2] for part in others)
    return owned.get(metric_of(metric).name, common)
