"""`sepdash presets`: lists presets, shows one, or lists all settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobs.home import Home
from presets.catalogue import Catalogue, to_toml
from tui.cli.common import complete_preset, json_option, print_json, print_table, with_home

if TYPE_CHECKING:
    from engine.config.fields import SettingInfo

_EXAMPLES = """\b
Examples:
  sepdash presets                       list all presets
  sepdash presets denoise/small         show the preset file
  sepdash presets denoise/small --full  show all settings of a run
  sepdash presets show denoise/small --plot   plot the learning rate
  sepdash presets --settings            list all settings: type, default, bounds, help
"""
_PLOT_COLUMNS, _PLOT_ROWS = 100, 16


@click.command(epilog=_EXAMPLES)
@click.argument("words", metavar="[show] [PRESET]", nargs=-1, shell_complete=complete_preset)
@click.option(
    "--full", is_flag=True, help="Show all settings, with defaults and `extends` resolved."
)
@click.option("--settings", is_flag=True, help="List all settings for presets and --set.")
@click.option("--plot", is_flag=True, help="Plot the learning rate over the run.")
@json_option
@with_home
def presets(
    words: tuple[str, ...],
    *,
    full: bool,
    settings: bool,
    plot: bool,
    as_json: bool,
    home: Home,
) -> None:
    """List presets, show one, or list all settings."""
    preset = _named(words)
    catalogue = Catalogue(home.presets)
    if settings:
        _print_settings(as_json=as_json)
    elif preset is None:
        if plot:
            raise click.UsageError("--plot requires a PRESET")
        _print_list(catalogue, as_json=as_json)
    elif plot:
        _print_plot(catalogue, preset)
    elif full or as_json:
        _print_full(catalogue, preset, as_json=as_json)
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


def _print_full(catalogue: Catalogue, preset: str, *, as_json: bool) -> None:
    from engine.config.loading import load_config

    values = load_config(catalogue.read(preset)).to_dict()
    if as_json:
        print_json(values)
        return
    click.echo(to_toml(values).rstrip())


def _print_plot(catalogue: Catalogue, preset: str) -> None:
    from shutil import get_terminal_size

    from engine.config.loading import load_config
    from engine.data.update_size import schedule_size
    from engine.training.schedule_preview import schedule_warnings
    from tui.widgets.charts.schedule import schedule_text

    config = load_config(catalogue.read(preset))
    width = min(_PLOT_COLUMNS, get_terminal_size().columns)
    size = schedule_size(config)
    click.echo(schedule_text(config, width=width, height=_PLOT_ROWS, size=size))
    for warning in schedule_warnings(config, size=size):
        click.echo(f"warning: {warning}", err=True)


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
            _default(item),
            " ".join(filter(None, [item.bounds, item.unit])),
            item.help,
        ]
        for item in settings
    ]
    print_table(["SETTING", "TYPE", "DEFAULT", "BOUNDS", "DESCRIPTION"], rows)


def _default(item: SettingInfo) -> str:
    if item.required:
        return "required"
    if item.default is None:
        return "none"
    if isinstance(item.default, bool):
        return str(item.default).lower()
    if isinstance(item.default, tuple):
        return f"[{', '.join(map(str, item.default))}]"
    return str(item.default)
