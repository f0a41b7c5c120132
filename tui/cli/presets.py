"""`sepdash presets`: lists presets, shows one, or lists all settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.home import Home
from presets.catalogue import Catalogue, to_toml
from tui.cli.common import (
    complete_preset,
    json_option,
    print_json,
    print_table,
    set_option,
    with_home,
)

if TYPE_CHECKING:
    pass

_EXAMPLES = """\b
Examples:
  sepdash presets                       list all presets
  sepdash presets denoise/small         show the preset file
  sepdash presets denoise/small --full  show all settings of a run
  sepdash presets show denoise/small --plot   plot the learning rate
  sepdash presets denoise/small --origins   which file, option or default set each value
  sepdash presets --settings            list all settings: type, default, bounds, help
  sepdash presets --schema              JSON Schema of preset files, for editors
"""
_PLOT_COLUMNS, _PLOT_ROWS = 100, 16


@click.command(epilog=_EXAMPLES)
@click.argument("words", metavar="[show] [PRESET]", nargs=-1, shell_complete=complete_preset)
@click.option(
    "--full", is_flag=True, help="Show all settings, with defaults and `extends` resolved."
)
@click.option("--settings", is_flag=True, help="List all settings for presets and --set.")
@click.option("--plot", is_flag=True, help="Plot the learning rate over the run.")
@click.option(
    "--schema", type=click.Choice(["preset", "experiment"]), is_flag=False, flag_value="preset",
    help="Print the JSON Schema of preset or experiment files, for editors.",
)  # fmt: skip
@click.option(
    "--origins", is_flag=True, help="Show each value with the file, option or default that set it."
)
@set_option
@json_option
@with_home
def presets(
    words: tuple[str, ...],
    *,
    schema: str | None,
    assignments: tuple[str, ...],
    as_json: bool,
    home: Home,
    **views: bool,
) -> None:
    """List presets, show one, or list all settings."""
    preset = _named(words)
    catalogue = Catalogue(home.presets)
    if preset is not None and (schema is not None or views["settings"]):
        option = "--settings" if schema is None else "--schema"
        raise click.UsageError(f"{option} covers all presets; leave out {preset!r}")
    if schema is not None:
        _print_schema(schema)
    elif views["settings"]:
        _print_settings(as_json=as_json)
    elif preset is None:
        for name in ("plot", "origins"):
            if views[name]:
                raise click.UsageError(f"--{name} requires a PRESET")
        _print_list(catalogue, as_json=as_json)
    elif views["origins"]:
        _print_origins(catalogue, preset, assignments=assignments, as_json=as_json)
    elif views["plot"]:
        _print_plot(catalogue, preset, assignments=assignments)
    elif views["full"] or as_json:
        _print_full(catalogue, preset, assignments=assignments, as_json=as_json)
    elif assignments:
        raise click.UsageError("--set needs --full, --origins, --plot or --json")
    else:
        click.echo(catalogue.source(preset).rstrip())


def _named(words: tuple[str, ...]) -> str | None:
    """Return the requested preset; an optional `show` before it is accepted and ignored."""
    names = words[1:] if words[:1] == ("show",) else words
    if len(names) > 1:
        raise click.UsageError(f"expected one PRESET, found {' '.join(names)}")
    if words and not names:
        raise click.UsageError("show requires a PRESET")
    return names[0] if names else None


def _print_list(catalogue: Catalogue, *, as_json: bool) -> None:
    infos = catalogue.list()
    if as_json:
        print_json(infos)
        return
    rows = [
        [
            info.name,
            info.origin,
            f"cannot be read: {info.problem}" if info.problem else info.description,
        ]
        for info in infos
    ]
    print_table(["PRESET", "ORIGIN", "DESCRIPTION"], rows)


def _print_full(
    catalogue: Catalogue, preset: str, *, assignments: tuple[str, ...], as_json: bool
) -> None:
    from engine.config.overrides import config_with

    values = config_with(catalogue.read(preset), assignments).to_dict()
    if as_json:
        print_json(values)
        return
    click.echo(to_toml(values).rstrip())


def _print_origins(
    catalogue: Catalogue, preset: str, *, assignments: tuple[str, ...], as_json: bool
) -> None:
    from jobs.sweeps.origins import preset_origins
    from tui.cli.common import print_origins

    print_origins(preset_origins(catalogue, preset, assignments=assignments), as_json=as_json)


def _print_plot(catalogue: Catalogue, preset: str, *, assignments: tuple[str, ...]) -> None:
    from shutil import get_terminal_size

    from engine.config.overrides import config_with
    from engine.data.update_size import schedule_size
    from engine.training.schedule_preview import schedule_warnings
    from tui.widgets.charts.schedule import schedule_text

    config = config_with(catalogue.read(preset), assignments)
    width = min(_PLOT_COLUMNS, get_terminal_size().columns)
    size = schedule_size(config)
    click.echo(schedule_text(config, width=width, height=_PLOT_ROWS, size=size))
    for warning in schedule_warnings(config, size=size):
        click.echo(f"warning: {warning}", err=True)


def _print_schema(schema: str) -> None:
    from engine.config.json_schema import preset_schema
    from jobs.sweeps.experiment_schema import experiment_schema

    print_json(preset_schema() if schema == "preset" else experiment_schema())


def _print_settings(*, as_json: bool) -> None:
    from engine.config.fields import list_settings

    settings = list_settings()
    if as_json:
        print_json(settings)
        return
    rows = [
        [
            item.key,
            item.type_name,
            item.default_text,
            " ".join(filter(None, [item.bounds, item.unit])),
            item.help,
        ]
        for item in settings
    ]
    print_table(["SETTING", "TYPE", "DEFAULT", "BOUNDS", "DESCRIPTION"], rows)
