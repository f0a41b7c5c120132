"""The experiment file: a base preset, variants, seeds, and what is matched across variants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from engine.config.errors import ConfigError, Problem, nearest
from engine.config.loading import expectation
from engine.config.old_names import upgraded_experiment
from jobs.sweeps.probe_settings import ProbeSettings
from jobs.sweeps.search_settings import SearchSettings
from models.base.settings import Section, setting

Match = Literal["none", "updates", "items", "audio_seconds", "epochs", "wall_clock"]


class Experiment(Section):
    """A validated experiment file; the settings inside are validated when it is expanded."""

    description: str = setting("", "Purpose of the experiment.")
    base: str = setting(..., "Preset that every variant modifies.", min_length=1)
    name: str = setting(
        "{experiment}-{variant}-s{seed}",
        "Run names; may contain {experiment}, {variant} and {seed}.",
    )
    seeds: tuple[int, ...] = setting(
        (0,), "Random seeds; each variant runs once per seed.", min_length=1
    )
    match: Match = setting(
        "none", "Quantity held equal across variants (updates, audio seconds, ...)."
    )
    scale_schedules: bool = setting(
        True, "Scale warm-up, decay and EMA with the length of the run."
    )
    settings: dict[str, Any] = Field(
        default={}, alias="set", description="Settings shared by all runs."
    )
    variants: dict[str, dict[str, Any]] = setting({}, "Named variants and their settings.")
    grid: dict[str, Any] = setting({}, "Lists of setting values; all combinations are run.")
    probe: ProbeSettings | None = setting(
        None,
        "Labelled recordings that the features of the runs are probed with once all have ended.",
    )
    search: SearchSettings | None = setting(
        None, "Settings to search: trials propose them, in place of variants and grid."
    )

    @model_validator(mode="after")
    def _probes_runs(self) -> Experiment:
        if self.probe is not None and self.search is not None:
            raise ValueError(
                "an experiment with a search can't be probed: its runs are not known yet; remove [probe] and "
                "use `sepdash probe RUN... --data PATH` afterwards"
            )
        return self


_SECTIONS: Mapping[str, type[Section]] = {"search": SearchSettings, "probe": ProbeSettings}


def load_experiment(values: Mapping[str, Any]) -> Experiment:
    """Check the values of an experiment file.

    Raises:
        ConfigError: with every problem at once.
    """
    try:
        return Experiment.model_validate_json(json.dumps(upgraded_experiment(values)))
    except TypeError as error:
        raise ConfigError(
            [Problem("", f"contains a value that JSON can't represent: {error}")]
        ) from None
    except ValidationError as error:
        problems = []
        for detail in error.errors(include_url=False):
            key = ".".join(str(part) for part in detail["loc"])
            if detail["type"] == "extra_forbidden":
                section = _SECTIONS.get(str(detail["loc"][0]), Experiment)
                names = [field.alias or name for name, field in section.model_fields.items()]
                hint = nearest(str(detail["loc"][-1]), names) or f"; expected {', '.join(names)}"
                problems.append(Problem(key, f"unknown key in experiment file{hint}"))
            elif detail["type"] == "missing":
                problems.append(Problem(key, "is required"))
            else:
                problems.append(Problem(key, expectation(detail, key)))
        raise ConfigError(problems) from None
