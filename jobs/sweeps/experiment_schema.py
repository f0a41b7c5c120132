"""Experiment files as JSON Schema (draft 2020-12), so that editors complete and check them."""

from __future__ import annotations

from collections.abc import Callable

from engine.config.json_schema import (
    DIALECT,
    REFERENCE,
    SETTINGS,
    Schema,
    for_files,
    sections_of,
    settings_definitions,
)
from jobs.sweeps.experiment import Experiment
from jobs.sweeps.probe_settings import ProbeSettings
from jobs.sweeps.search_settings import SearchSettings
from jobs.sweeps.search_space import ParameterSettings

_GRID, _SPACE = "run-grid", "run-space"


def experiment_schema() -> Schema:
    """Return the schema of experiment files."""
    definitions = settings_definitions()
    whole = for_files(Experiment.model_json_schema())
    inner = whole.pop("$defs")
    search, probe = inner[SearchSettings.__name__], inner[ProbeSettings.__name__]
    search["properties"]["space"] |= {"$ref": REFERENCE + _SPACE}
    search["properties"]["space"].pop("additionalProperties")
    settings = {"$ref": REFERENCE + SETTINGS}
    properties = whole["properties"]
    properties["set"] |= settings
    properties["variants"] |= {"additionalProperties": settings}
    properties["grid"] |= {"$ref": REFERENCE + _GRID}
    properties["search"] |= {"$ref": REFERENCE + SearchSettings.__name__}
    properties["probe"] |= {"$ref": REFERENCE + ProbeSettings.__name__}
    for name in ("set", "grid"):
        properties[name].pop("additionalProperties")
    return {
        "$schema": DIALECT,
        **whole,
        "title": "sepdash experiment",
        "description": "Runs to compare: a base preset, variants, seeds and the matched quantity.",
        "required": ["base"],
        "$defs": {
            **definitions,
            SearchSettings.__name__: search,
            ProbeSettings.__name__: probe,
            _GRID: _with_each(definitions[SETTINGS], definitions, make=_list_of),
            _SPACE: _with_each(definitions[SETTINGS], definitions, make=_parameter_of),
        },
    }


def _with_each(
    node: Schema, definitions: dict[str, Schema], *, make: Callable[[Schema], Schema]
) -> Schema:
    """Return a section, with what `make` makes of it in place of each value."""
    sections = sections_of(node, definitions) or ([node] if "properties" in node else [])
    if not sections:
        return make(node)
    choices: dict[str, list[Schema]] = {}
    for section in sections:
        for name, inner in section["properties"].items():
            known = choices.setdefault(name, [])
            if inner not in known:
                known.append(inner)
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            # A grid over the kinds of a section has settings of all of them.
            name: _with_each(inner[0], definitions, make=make)
            if len(inner) == 1
            else make({"anyOf": inner})
            for name, inner in choices.items()
        },
    }


def _parameter_of(node: Schema) -> Schema:
    """Return the schema of a setting to vary: a range where it is a number, or choices."""
    described = {"description": node["description"]} if "description" in node else {}
    entry = for_files(ParameterSettings.model_json_schema())
    properties = entry["properties"]
    properties["choices"]["items"] = node
    kinds = {part.get("type") for part in (node, *node.get("anyOf", ()))}
    ways: list[Schema] = [{"required": ["choices"]}]
    if kinds & {"integer", "number"}:
        ways.append({"required": ["low", "high"]})
        if "number" not in kinds:
            for name in ("low", "high", "step"):
                properties[name]["type"] = "integer"
    return {
        **described, "type": "object", "additionalProperties": False, "properties": properties,
        "oneOf": ways,
    }  # fmt: skip


def _list_of(node: Schema) -> Schema:
    described = {"description": node["description"]} if "description" in node else {}
    return {**described, "type": "array", "items": node, "minItems": 1}
