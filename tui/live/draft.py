"""A preset being edited: typed text in, checked config out. No screen, no store.

Owns how a setting is written as text and read back; validation belongs to `engine.config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from engine.config.errors import ConfigError
from engine.config.fields import EMPTY, SettingInfo, kind_choices, list_settings
from engine.config.kinds import VARIANTS, chosen_kinds
from engine.config.loading import load_config
from engine.config.old_names import upgraded
from engine.config.overrides import change_kind, parse_value
from engine.config.schema import RunConfig
from presets.merging import difference

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class FieldState:
    """One setting as the form shows it; `changed`: it differs from the preset."""

    info: SettingInfo
    text: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a check: a config, or problems by the key of their field.

    `general` holds problems that belong to no field of the form.
    """

    config: RunConfig | None
    problems: Mapping[str, str] = field(default_factory=dict)
    general: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of problems."""
        return len(self.problems) + len(self.general)


class Draft:
    """The settings of one preset with the user's edits."""

    def __init__(self, preset: str, base: Mapping[str, Any]) -> None:
        self.preset = preset
        self._base = deepcopy(upgraded(base))
        self._values = deepcopy(self._base)

    @property
    def values(self) -> dict[str, Any]:
        """Nested plain values, as a preset holds them."""
        return deepcopy(self._values)

    @property
    def changes(self) -> list[str]:
        """Keys whose value differs from the preset's, in schema order."""
        return [state.info.key for state in self.fields() if state.changed]

    def fields(self) -> list[FieldState]:
        """List the settings of the chosen kinds, each section's `kind` first."""
        infos = list_settings(_kinds(self._values))
        order = {name: index for index, name in enumerate(dict.fromkeys(map(_section, infos)))}
        infos.sort(key=lambda info: (order[_section(info)], not info.key.endswith(".kind")))
        return [self._state(info) for info in infos]

    def sections(self) -> dict[str, list[FieldState]]:
        """Return the settings by section, in the order of `fields`."""
        found: dict[str, list[FieldState]] = {}
        for state in self.fields():
            found.setdefault(_section(state.info) or "run", []).append(state)
        return found

    def edit(self, info: SettingInfo, text: str) -> None:
        """Set one setting from text; empty text removes it from the preset.

        A new `kind` resets its section, keeping the settings that both kinds have.
        """
        if info.key.endswith(".kind"):
            change_kind(self._values, info.key.partition(".")[0], kind=text)
        else:
            self._put(info.key, read_text(info, text))

    def fill(self, settings: Mapping[str, Any]) -> None:
        """Set values by dotted key; None removes a setting from the preset."""
        for key, value in settings.items():
            self._put(key, _ABSENT if value is None else value)

    def reset(self, info: SettingInfo) -> None:
        """Restore the preset's value of one setting."""
        if info.key.endswith(".kind"):
            section = info.key.partition(".")[0]
            self._values[section] = deepcopy(self._base.get(section, {}))
        else:
            self._put(info.key, _get(self._base, info.key))

    def check(self) -> Verdict:
        """Check all settings together."""
        try:
            return Verdict(load_config(self._values))
        except ConfigError as error:
            return self._sort(error)

    def to_save(
        self, below: Mapping[str, Any] | None = None, extends: str = ""
    ) -> tuple[dict[str, Any], str | None]:
        """Return what to save, and the preset it extends; None if it can't extend any.

        Args:
            below: the values to extend; by default those of the edited preset.
            extends: the name of the preset that holds them.
        """
        base = self._base if below is None else below
        changed = difference(base, self._with_empty(base))
        return (self.values, None) if changed is None else (changed, extends or self.preset)

    def _with_empty(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with the word for "empty" where `base` sets what was taken out here."""
        result = self.values
        for info in list_settings(_kinds(self._values)):
            gone = _get(result, info.key) is _ABSENT and _get(base, info.key) is not _ABSENT
            if info.optional and gone:
                _put(result, info.key, value=EMPTY)
        return result

    def _state(self, info: SettingInfo) -> FieldState:
        shown = _effective(info, self._values)
        before = _effective(info, self._base)
        return FieldState(info, write_text(info, shown), changed=shown != before)

    def _put(self, key: str, value: Any) -> None:
        _put(self._values, key, value=value)

    def _sort(self, error: ConfigError) -> Verdict:
        keys = {state.info.key for state in self.fields()}
        problems: dict[str, str] = {}
        general: list[str] = []
        for problem in error.problems:
            key = problem.key
            while key and key not in keys:
                key = key.rpartition(".")[0]
            if key:
                problems.setdefault(key, problem.message)
            else:
                general.append(str(problem))
        return Verdict(None, problems, general=tuple(general))


def _kinds(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the kinds to show: those chosen, the first there is in place of one that is none."""
    chosen, choices = chosen_kinds(values), kind_choices()
    return {
        section: kind if (kind := chosen.get(section)) in kinds else kinds[0]
        for section, kinds in choices.items()
    }


def _effective(info: SettingInfo, values: Mapping[str, Any]) -> Any:
    """Return the value of a setting: that of the preset, or else the default."""
    value = _get(values, info.key)
    if value == EMPTY and (info.optional or info.type_name == "list"):
        return None if info.optional else []
    if value is not _ABSENT:
        return value
    section, _, name = info.key.rpartition(".")
    if name == "kind" and section in VARIANTS:
        return _kinds(values)[section]
    return _as_plain(info.default)


def read_text(info: SettingInfo, text: str) -> Any:
    """Parse typed text; text that can't be parsed stays text, and the check rejects it."""
    stripped = text.strip()
    if not stripped and not (info.type_name == "text" and info.default == ""):
        return [] if info.type_name == "list" and not info.optional else _ABSENT
    match info.type_name:
        case "int" | "float" | "bool":
            value = parse_value(stripped)
            return value if isinstance(value, bool | int | float) else stripped
        case "choice" if isinstance(info.default, int):
            value = parse_value(stripped)
            return value if isinstance(value, int) else stripped
        case "list":
            return _read_list(info, stripped)
        case _:
            return stripped


def write_text(info: SettingInfo, value: Any) -> str:
    """Return a value as a user would type it; `read_text` parses it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _read_list(info: SettingInfo, text: str) -> Any:
    if text == EMPTY:
        return text
    if text.startswith("["):
        return parse_value(text)
    items = [item.strip() for item in text.split(",") if item.strip()]
    numbers = bool(info.default) and not isinstance(info.default[0], str)
    return [parse_value(item) for item in items] if numbers else items


def _section(info: SettingInfo) -> str:
    return info.key.rpartition(".")[0]


def _as_plain(value: Any) -> Any:
    """Return a default of the schema as a preset would hold it."""
    if isinstance(value, tuple):
        return [_as_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _put(values: dict[str, Any], key: str, *, value: Any) -> None:
    section, _, name = key.rpartition(".")
    target = values.setdefault(section, {}) if section else values
    if value is _ABSENT:
        target.pop(name, None)
    else:
        target[name] = value


def _get(values: Mapping[str, Any], key: str) -> Any:
    value: Any = values
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    return value
