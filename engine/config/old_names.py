"""Plain values of an older version, brought to the words of this one before they are checked.

The one home of what earlier versions called otherwise. Presets, experiments, runs in the store and
checkpoints all pass through here (presets and stores by `engine.config.loading.load_config`), so that
nothing behind it knows that a setting ever had another name. A step takes nested values and returns
them changed, leaves what it does not know as it is, and never looks at a value's correctness: what is
wrong is refused by the check, under the key that a person wrote. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]

# Until 2026-11-22 a training item was a sample, which is a value of an audio signal everywhere else.
CLOCKS: Mapping[str, str] = {"samples": "items"}

SETTINGS: Mapping[str, str] = {"validation.samples": "validation.clips"}

_SPAN = re.compile(r"\s*([0-9][0-9_.eE+-]*)\s+([a-z_]+)\s*")
# Sections whose texts may be spans; a path or a name elsewhere stays what it is.
_TIMED = ("schedule", "ema", "validation", "checkpoint", "logging")

# One flat section of version 0.1 held the settings of all losses; only the spectral loss has any.
_FLAT_LOSS: dict[str, Any] = {
    "windows": [2048, 1024, 512, 256, 128, 64, 32],
    "reduction": "mean",
}
_LOSSES_WITHOUT_SETTINGS = ("si_sdr", "l1", "rnnt")


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values under the names of this version; current names are kept.

    A pure function, and the same applied twice as once. `values` is not changed.
    """
    result = dict(values)
    for step in STEPS:
        result = step(dict(result))
    return result


def current_clock(name: str) -> str:
    """Return the current name of a clock; current names are returned unchanged."""
    return CLOCKS.get(name, name)


def current_setting(key: str) -> str:
    """Return the current dotted key of a setting; current keys are returned unchanged."""
    return SETTINGS.get(key, key)


def upgraded_experiment(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of an experiment file in today's words, settings included."""
    result = dict(values)
    if isinstance(match := values.get("match"), str):
        result["match"] = current_clock(match)
    if isinstance(settings := values.get("set"), Mapping):
        result["set"] = upgraded(settings)
    if isinstance(grid := values.get("grid"), Mapping):
        result["grid"] = upgraded({current_setting(key): value for key, value in grid.items()})
    if isinstance(variants := values.get("variants"), Mapping):
        result["variants"] = {
            name: upgraded(variant) if isinstance(variant, Mapping) else variant
            for name, variant in variants.items()
        }
    return result


def upgraded_counters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counters of a checkpoint under today's names."""
    return {current_clock(name): value for name, value in values.items()}


def _with_current_clocks(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _in_current_clocks(section) if name in _TIMED else section
        for name, section in values.items()
    }


def _with_current_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Rename settings; where both names are given, that of the later file or option counts."""
    for old, new in SETTINGS.items():
        section, _, name = old.partition(".")
        below = values.get(section)
        if isinstance(below, Mapping) and name in below:
            renamed = new.partition(".")[2]
            values[section] = {renamed if k == name else k: value for k, value in below.items()}
    return values


def _in_current_clocks(value: Any) -> Any:
    """Return `value` with the clock of each span in it renamed."""
    if isinstance(value, Mapping):
        return {name: _in_current_clocks(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_in_current_clocks(inner) for inner in value]
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in CLOCKS:
        return value
    return f"{match[1]} {current_clock(match[2])}"


def _loss_of_its_kind(values: dict[str, Any]) -> dict[str, Any]:
    """Take from the loss what only the spectral loss has, where an older version wrote it.

    That version wrote all of them, or those that a preset named. A lone value that is not the
    default of that time stays, and is refused: whoever wrote it believed that it does something.
    """
    loss = values.get("loss")
    if not isinstance(loss, Mapping) or loss.get("kind") not in _LOSSES_WITHOUT_SETTINGS:
        return values
    is_whole = all(name in loss for name in _FLAT_LOSS)
    kept = {
        name: value
        for name, value in loss.items()
        if name not in _FLAT_LOSS or not (is_whole or _plain(value) == _FLAT_LOSS[name])
    }
    return {**values, "loss": kept}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# In the order of the versions they come from; each gets a dict of its own, sections are shared.
STEPS: tuple[Step, ...] = (_with_current_settings, _with_current_clocks, _loss_of_its_kind)
