"""Whether what perceptual metrics need is installed: asked when a run is queued, and when it starts. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from engine.config.errors import ConfigError, Problem
from engine.metrics.measures import missing_packages


def require_packages(measures: Sequence[str]) -> None:
    """Check the packages of the entries of `validation.metrics`.

    Raises:
        ConfigError: naming what is missing and how to install it.
    """
    if problem := missing_packages(measures):
        raise ConfigError([Problem("validation.metrics", problem)])
