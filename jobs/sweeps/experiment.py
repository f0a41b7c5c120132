"""What an experiment file says: a base preset, variants, seeds, and what is matched across them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from engine.config.errors import ConfigError, Problem, nearest
from engine.config.loading import expectation
from engine.config.old_names import upgraded_experiment
from models.settings import Section, setting

Match = Literal["none", "updates", "items", "audio_seconds", "epochs", "wall_clock"]


class Experiment(Section):
    """An experiment file, checked; the settings inside are checked when it is expanded."""

    description: str = setting("", "What the experiment is about.")
    base: str = setting(..., "The preset that every variant changes.", min_length=1)
    name: str = setting(
        "{experiment}-{variant}-s{seed}", "Names of the runs; may hold these three words."
    )
    seeds: tuple[int, ...] = setting((0,), "Seeds; each variant is run with each.", min_length=1)
    match: Match = setting("none", "What each variant has as much of as the first one.")
    scale_schedules: bool = setting(
        True, "Stretch warm-up, decay and the average of the weights with the length of the run."
    )
    settings: dict[str, Any] = Field(default={}, alias="set", description="Settings of all runs.")
    variants: dict[str, dict[str, Any]] = setting({}, "Named variants and their settings.")
    grid: dict[str, Any] = setting({}, "Settings with a list of values each: all combinations.")


def load_experiment(values: Mapping[str, Any]) -> Experiment:
    """Check the values of an experiment file.

    Raises:
        ConfigError: with every problem at once.
    """
    try:
        return Experiment.model_validate_json(json.dumps(upgraded_experiment(values)))
    except TypeError as error:
        raise ConfigError(
            [Problem("", f"holds a value that JSON can't express: {error}")]
        ) from None
    except ValidationError as error:
        names = [field.alias or name for name, field in Experiment.model_fields.items()]
        problems = []
        for detail in error.errors(include_url=False):
            key = ".".join(str(part) for part in detail["loc"])
            if detail["type"] == "extra_forbidden":
                hint = nearest(key, names) or f"; an experiment has {', '.join(names)}"
                problems.append(Problem(key, f"unknown word of an experiment{hint}"))
            elif detail["type"] == "missing":
                problems.append(Problem(key, "is required"))
            else:
                problems.append(Problem(key, expectation(detail, key)))
        raise ConfigError(problems) from None
