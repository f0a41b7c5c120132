"""The settings of a run as JSON Schema (draft 2020-12), so that editors complete and check presets.

Derived from the declarations of the settings, those of installed packages included. A preset may
leave out anything, since the presets it extends supply the rest, so nothing is required here. Rules
between settings, and names that earlier versions used, are left to `engine.config.loading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from engine.config.fields import EMPTY
from engine.config.schema import RunConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Under which name the settings of a run stand among the definitions; no class can have it.
SETTINGS = "run-settings"
REFERENCE = "#/$defs/"

Schema = dict[str, Any]

# What says nothing of the values that a setting may have.
_NOTES = ("description", "default", "examples")


class _Generator(GenerateJsonSchema):
    """Writes defaults as a preset would hold them: "1000 updates", not an amount and a clock."""

    def encode_default(self, dft: Any) -> Any:
        """Return a default as a value of JSON."""
        return super().encode_default(_as_written(dft))


def preset_schema() -> Schema:
    """Return the schema of preset files."""
    definitions = settings_definitions()
    settings = definitions.pop(SETTINGS)
    head = {
        "description": {
            "type": "string",
            "description": "One sentence for the list of presets.",
        },
        "extends": {
            "type": "string",
            "description": "Preset that supplies the settings not given here; a user preset "
            "may extend the shipped preset of the same name.",
            "minLength": 1,
        },
    }
    return {
        "$schema": DIALECT,
        **settings,
        "title": "sepdash preset",
        "description": "A training run; settings not given here come from the preset it extends.",
        "properties": {**head, **settings["properties"]},
        "$defs": definitions,
    }


def settings_definitions() -> dict[str, Schema]:
    """Return the definitions of all sections, and of the whole run under the name `SETTINGS`."""
    whole = RunConfig.model_json_schema(schema_generator=_Generator)
    definitions = whole.pop("$defs")
    whole["description"] = "Settings of a training run."
    sections = {**definitions, SETTINGS: whole}
    result = {name: for_files(node) for name, node in sections.items()}
    for name, section in sections.items():
        for key, node in section.get("properties", {}).items():
            if _may_be_empty(node):
                result[name]["properties"][key] = _or_empty(result[name]["properties"][key])
    for node in result[SETTINGS]["properties"].values():
        if kinds := sections_of(node, result):
            node |= _summary(kinds)
    return result


def sections_of(node: Schema, definitions: Mapping[str, Schema]) -> list[Schema]:
    """Return the sections that a setting of a run may be, one for each kind; none for a value."""
    references = [item["$ref"] for item in (node, *node.get("anyOf", ())) if "$ref" in item]
    return [definitions[reference.removeprefix(REFERENCE)] for reference in references]


def _may_be_empty(node: Schema) -> bool:
    """Return whether pydantic's schema of a setting takes an empty value, or a list."""
    return node.get("type") == "array" or {"type": "null"} in node.get("anyOf", ())


def _or_empty(node: Schema) -> Schema:
    """Return the schema of a setting that may also be the word for an empty one."""
    outside = {key: value for key, value in node.items() if key in _NOTES or key.startswith("x-")}
    inside = {key: value for key, value in node.items() if key not in outside}
    kinds = inside["anyOf"] if set(inside) == {"anyOf"} else [inside]
    return {**outside, "anyOf": [*kinds, {"const": EMPTY}]}


def _summary(kinds: list[Schema]) -> Schema:
    """Return what any kind of a section holds: "not one of" says more than "fits none of them"."""
    if len(kinds) == 1:
        return {}
    names = {name for kind in kinds for name in kind["properties"]}
    tags = [kind["properties"].get("kind", {}).get("const") for kind in kinds]
    summary: Schema = {"type": "object", "propertyNames": {"enum": sorted(names)}}
    return summary if None in tags else {**summary, "properties": {"kind": {"enum": tags}}}


def _as_written(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_written(item) for item in value]
    return str(value) if is_dataclass(value) else value


def for_files(node: Any) -> Any:
    """Return a part of pydantic's schema as an editor wants it for a file.

    All is optional, TOML has no null, and a section without its `kind` may be of any kind.
    """
    if isinstance(node, list):
        return [for_files(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    result: Schema = {}
    for key, value in node.items():
        match key:
            case "properties":
                result[key] = {name: _property(inner) for name, inner in value.items()}
            case "oneOf" | "anyOf":
                kinds = [for_files(item) for item in value if item != {"type": "null"}]
                result |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
            case "default" if value is None:
                pass
            case "unit" if value:
                result["x-unit"] = value
            case "refers_to" | "only_at_start" | "takes" | "file":
                result[f"x-{key.replace('_', '-')}"] = value
            case "title" | "required" | "discriminator" | "unit":
                pass
            case "default" | "enum" | "const" | "examples":
                result[key] = value
            case _:
                result[key] = for_files(value)
    return result


def _property(node: Schema) -> Schema:
    """Return the schema of one setting or section; units are part of the help text."""
    result: Schema = for_files(node)
    unit = result.get("x-unit", "")
    if unit and unit not in ("span", "path"):
        result["description"] = f"{result.get('description', '')} [{unit}]".lstrip()
    if "$ref" in result or any("$ref" in kind for kind in result.get("anyOf", ())):
        # A whole section as default would be offered as text to insert.
        result.pop("default", None)
    return result
