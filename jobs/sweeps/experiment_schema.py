"""Experiment files as JSON Schema (draft 2020-12), so that editors complete and check them."""

from __future__ import annotations

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

_GRID = "run-grid"


def experiment_schema() -> Schema:
    """Return the schema of experiment files."""
    definitions = settings_definitions()
    whole = for_files(Experiment.model_json_schema())
    settings = {"$ref": REFERENCE + SETTINGS}
    properties = whole["properties"]
    properties["set"] |= settings
    properties["variants"] |= {"additionalProperties": settings}
    properties["grid"] |= {"$ref": REFERENCE + _GRID}
    for name in ("set", "grid"):
        properties[name].pop("additionalProperties")
    return {
        "$schema": DIALECT,
        **whole,
        "title": "sepdash experiment",
        "description": "Runs to compare: a base preset, variants, seeds and the matched quantity.",
        "required": ["base"],
        "$defs": {**definitions, _GRID: _of_lists(definitions[SETTINGS], definitions)},
    }


def _of_lists(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Return a section, with a list of values in place of each value."""
    sections = sections_of(node, definitions) or ([node] if "properties" in node else [])
    if not sections:
        return _list_of(node)
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
            name: _of_lists(inner[0], definitions)
            if len(inner) == 1
            else _list_of({"anyOf": inner})
            for name, inner in choices.items()
        },
    }


def _list_of(node: Schema) -> Schema:
    described = {"description": node["description"]} if "description" in node else {}
    return {**described, "type": "array", "items": node, "minItems": 1}
