"""Plain values of an older version, brought to the words of this one before they are checked.

The one home of what earlier versions called otherwise. Presets, experiments, runs in the store and
checkpoints all pass through `upgraded` (by `engine.config.loading.load_config`), so that nothing
behind it knows that a setting ever had another name. A step takes nested values and returns them
changed, leaves what it does not know as it is, and never looks at a value's correctness: what is
wrong is refused by the check, under the key that a person wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]

# In the order of the versions they come from; each gets a dict of its own, sections are shared.
STEPS: tuple[Step, ...] = ()


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as this version names them; those that are up to date come back as they are.

    A pure function, and the same applied twice as once. `values` is not changed.
    """
    result = dict(values)
    for step in STEPS:
        result = step(dict(result))
    return result
