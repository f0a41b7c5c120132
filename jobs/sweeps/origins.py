"""What set each value of a run: a file of a preset, an experiment, an option, matching, a default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.config.errors import ConfigError, Problem, nearest
from engine.config.old_names import current_setting
from engine.config.overrides import applied, config_with
from engine.config.schema import RunConfig
from jobs.sweeps.expand import expand
from jobs.sweeps.experiment import Experiment
from jobs.sweeps.measured import Measured
from jobs.sweeps.plan import plan_sweep
from presets.catalogue import Catalogue
from presets.experiment_files import ExperimentFile
from presets.merging import leaves
from presets.origins import Traced, ValueOrigin, lines_of, trace_preset

_DEFAULT = ValueOrigin("default")


@dataclass(frozen=True, slots=True)
class SettingOrigin:
    """One setting of a run; `value` is plain, as a preset would hold it, None where it is empty."""

    key: str
    value: Any
    origin: ValueOrigin


def preset_origins(
    catalogue: Catalogue, name: str, *, assignments: Sequence[str] = ()
) -> list[SettingOrigin]:
    """Return every setting of the run that a preset and `key=value` options make, in schema order.

    Raises:
        PresetError: when the preset can't be read.
        ConfigError: with every problem of the options and the settings.
    """
    traced = trace_preset(catalogue, name)
    config = config_with(traced.values, assignments)
    return _of_config(config, with_options(traced, assignments))


def with_options(traced: Traced, assignments: Sequence[str]) -> Traced:
    """Return traced values with `key=value` options applied; invalid options are ignored.

    Values that a file calls by the name of an earlier version get their new name.
    """
    values, _ = applied(traced.values, assignments)
    texts = {_key_of(text): text for text in assignments}

    def option(key: str) -> str:
        # `--set loss={kind="l1"}` sets what is inside, too.
        return next((text for name, text in texts.items() if f"{key}.".startswith(f"{name}.")), "")

    changed = {key: value for key, value in leaves(values) if option(key)}
    renamed = {current_setting(key): traced.origins[key] for key, _ in leaves(traced.values)}
    return Traced(traced.values, renamed).replaced(
        values, changed, origin_of=lambda key: ValueOrigin("option", option(key))
    )


def variant_origins(
    file: ExperimentFile,
    catalogue: Catalogue,
    *,
    variant: str,
    assignments: Sequence[str] = (),
    measured: Measured | None = None,
) -> list[SettingOrigin]:
    """Return every setting of a variant of an experiment, as its first seed is run.

    Args:
        file: the experiment.
        catalogue: where its base preset is.
        variant: name of the variant, with what its grid adds.
        assignments: as `plan_sweep` takes them.
        measured: what is known of earlier runs.

    Raises:
        ConfigError: when there is no such variant, and as `plan_sweep` does.
        PresetError: when the base preset can't be read.
        StoreError: as `plan_sweep` does.
    """
    plan = plan_sweep(file.name, file.values, catalogue, assignments=assignments, measured=measured)
    configs = {run.variant: run.config for run in reversed(plan.runs)}
    if variant not in configs:
        names = list(dict.fromkeys(run.variant for run in plan.runs))
        hint = nearest(variant, names) or f"; available: {', '.join(names)}"
        raise ConfigError([Problem("", f"{file.name} has no variant {variant!r}{hint}")])
    lines = _lines_in(file)

    def of_all(key: str) -> ValueOrigin:
        return ValueOrigin(
            "experiment", file.name, layer="", path=file.path, line=lines.get(f"set.{key}")
        )

    traced = trace_preset(catalogue, plan.experiment.base)
    traced = with_options(traced.under(plan.experiment.settings, of_all), assignments)
    variants = expand(plan.experiment, traced.values)
    (chosen,) = [item for item in variants if item.name == variant]
    traced = traced.replaced(
        chosen.values,
        dict.fromkeys(chosen.own),
        origin_of=lambda key: _of_variant(
            file, plan.experiment, key=key, variant=variant, lines=lines
        ),
    )
    before = dict(leaves(chosen.config.to_dict()))
    matched = ValueOrigin(
        "match", variants[0].name, layer="", path=file.path, line=lines.get("match")
    )
    seeds = ValueOrigin("seeds", file.name, layer="", path=file.path, line=lines.get("seeds"))
    return [
        replace(item, origin=seeds if item.key == "seed" else matched)
        if item.key == "seed" or item.value != before.get(item.key)
        else item
        for item in _of_config(configs[variant], traced)
    ]


def _of_variant(
    file: ExperimentFile,
    experiment: Experiment,
    *,
    key: str,
    variant: str,
    lines: Mapping[str, int],
) -> ValueOrigin:
    """Return the origin of a setting that a variant sets itself: its table, or the grid."""
    line = lines.get(f"grid.{key}")
    if line is not None:
        return ValueOrigin("grid", file.name, layer="", path=file.path, line=line)
    # A grid adds "-lr3e-3" to the name of the table.
    tables = [name for name in experiment.variants if f"{variant}-".startswith(f"{name}-")]
    name = max(tables, key=len, default=variant)
    return ValueOrigin(
        "variant", name, layer="", path=file.path, line=lines.get(f"variants.{name}.{key}")
    )


def _lines_in(file: ExperimentFile) -> dict[str, int]:
    """Return the line of each key of an experiment, settings under today's names."""
    return {_current(key): line for key, line in lines_of(file.text).items()}


def _current(key: str) -> str:
    """Return a key of an experiment file, like `variants.wide.batch.items`, in today's words."""
    place, _, setting = key.partition(".")
    if place == "variants":
        name, _, setting = setting.partition(".")
        place = f"{place}.{name}"
    return f"{place}.{current_setting(setting)}" if setting else key


def _key_of(assignment: str) -> str:
    key, _, _ = assignment.partition("=")
    return current_setting(".".join(part.strip() for part in key.split(".")))


def _of_config(config: RunConfig, traced: Traced) -> list[SettingOrigin]:
    return [
        SettingOrigin(key, value, origin=traced.origins.get(key, _DEFAULT))
        for key, value in leaves(config.to_dict())
    ]
