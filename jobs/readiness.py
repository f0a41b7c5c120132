"""Whether runs have what they need before they are queued: recipes, data, packages. Free of torch.

References to other runs are checked by `jobs.needs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from engine.config.errors import ConfigError, InputError, Problem
from engine.config.schema import RunConfig
from engine.data.checks.judged import require_texts
from engine.data.kinds import check_data
from engine.measuring.required import require_optimizer, require_packages
from engine.recipes.specs import spec_of


def check_all(configs: Sequence[RunConfig]) -> None:
    """Check what runs need before they are queued: recipes, data, packages.

    Args:
        configs: with absolute paths.

    Raises:
        ConfigError: when no installed package has a recipe or the metrics.
        DataError: with every problem of the data folders.
    """
    for error in refusals(configs):
        raise error


def refusals(configs: Sequence[RunConfig]) -> list[InputError]:
    """Return why runs can't be queued, of each kind one error with all problems; empty: they can be."""
    checks: dict[str, list[Callable[[], object]]] = {
        "recipe": [partial(spec_of, name) for name in dict.fromkeys(c.recipe for c in configs)],
        "data": [partial(check_data, data) for data in dict.fromkeys(c.data for c in configs)],
        "optimizer": [
            partial(require_optimizer, some) for some in dict.fromkeys(c.optimizer for c in configs)
        ],
        "validation": [
            *(
                partial(require_packages, names)
                for names in dict.fromkeys(c.validation.metrics for c in configs)
            ),
            *(partial(require_texts, config) for config in configs),
        ],
    }
    return [error for group in checks.values() if (error := _all_wrong(group)) is not None]


def _all_wrong(checks: Sequence[Callable[[], object]]) -> InputError | None:
    """Return one error with the problems of all checks; None where all pass."""
    problems: dict[Problem, None] = {}
    kind: type[InputError] = ConfigError
    for check in checks:
        try:
            check()
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
            kind = type(error)
    return kind(problems) if problems else None
