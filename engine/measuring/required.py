"""Whether optional packages that a run needs are installed: asked when it is queued, and when it starts. Free of torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from engine.config.errors import ConfigError, Problem
from engine.config.sections import OptimizerConfig
from engine.metrics.measures import missing_packages

MISSING_EIGHT_BIT = (
    "8-bit moments need bitsandbytes, which is not installed; install it (pip install 'sepdash[eight-bit]'), or "
    "set optimizer.eight_bit = false"
)


def require_packages(measures: Sequence[str]) -> None:
    """Check the packages of the entries of `validation.metrics`.

    Raises:
        ConfigError: naming what is missing and how to install it.
    """
    if problem := missing_packages(measures):
        raise ConfigError([Problem("validation.metrics", problem)])


def require_optimizer(config: OptimizerConfig) -> None:
    """Check the package of 8-bit moments.

    Raises:
        ConfigError: when it is missing, saying how to install it.
    """
    name = "bitsandbytes"
    there = sys.modules[name] is not None if name in sys.modules else find_spec(name) is not None
    if config.eight_bit and not there:
        raise ConfigError([Problem("optimizer.eight_bit", MISSING_EIGHT_BIT)])
