"""Shared by the commands: the home, the RUN argument, tables and JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from engine.config.old_names import current_setting
from jobs.home import Home
from models.user_paths import expanded
from tui.cli.paths import UserPath
from tui.reports.formats import aligned

if TYPE_CHECKING:
    from jobs.sweeps.origins import SettingOrigin

Function = TypeVar("Function", bound=Callable[..., Any])


def with_home(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the keyword `home` to a command; `--home` is accepted before and after the command name."""

    @click.option(
        "--home",
        "root",
        type=UserPath(file_okay=False),
        help="Home folder: run store, queue, presets.",
    )
    @functools.wraps(function)
    def wrapper(*args: Any, root: Path | None, **options: Any) -> Any:
        outer = click.get_current_context().find_root().obj
        return function(*args, home=Home.locate(root or outer), **options)

    return wrapper


def json_option(function: Function) -> Function:
    """Add the switch `--json`, passed on as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def device_option(*, only_with: str = "") -> Callable[[Function], Function]:
    """Add the option `--device`, passed on as `device`.

    Args:
        only_with: another option, without which it means nothing.
    """
    text = f"{_only_with(only_with)}auto, cpu, cuda or cuda:N."
    return click.option("--device", default="auto", show_default=True, help=text)


def checkpoint_option(
    *, of: str = "the run", only_with: str = ""
) -> Callable[[Function], Function]:
    """Add the option `--checkpoint`, passed on as `kind`.

    Args:
        of: what has the checkpoint.
        only_with: another option, without which it means nothing.
    """
    what = f"checkpoint of {of}, last or best-METRIC [default: the best one]."
    text = f"{_only_with(only_with)}{what}"
    return click.option("--checkpoint", "kind", help=text[0].upper() + text[1:])


def out_option(
    text: str, *, metavar: str = "DIR", required: bool = False, also: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """Add the option `-o`, `--out`, passed on as `out`.

    Args:
        text: what is written there.
        metavar: DIR can't be a file, and FILE no folder.
        required: whether nothing is done without.
        also: older names of the option.
    """
    kind = UserPath(file_okay=metavar != "DIR", dir_okay=metavar != "FILE")
    return click.option(
        "-o", "--out", *also, "out", metavar=metavar, required=required, type=kind, help=text
    )


def _only_with(option: str) -> str:
    return f"With {option}: " if option else ""


def run_argument(function: Function) -> Function:
    """Add the argument RUN, an id or a name, passed on as `run`."""
    return click.argument("run", metavar="RUN", shell_complete=complete_run)(function)


def runs_argument(function: Function) -> Function:
    """Add the argument RUN..., ids or names, passed on as the tuple `runs`."""
    return click.argument(
        "runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_run
    )(function)


def preset_argument(*, required: bool = True) -> Callable[[Function], Function]:
    """Add the argument PRESET, passed on as `preset`."""
    return click.argument("preset", required=required, shell_complete=complete_preset)


def set_option(function: Function) -> Function:
    """Add the option `--set KEY=VALUE`, passed on as the tuple `assignments`."""
    return click.option(
        "--set",
        "assignments",
        metavar="KEY=VALUE",
        multiple=True,
        callback=note_new_names,
        shell_complete=_complete_key,
        help="Override a setting; `sepdash presets --settings` lists them. Can be repeated.",
    )(function)


def note_new_names(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Print the current names of settings given by an old name."""
    for key in dict.fromkeys(text.partition("=")[0].strip() for text in values):
        if (name := current_setting(key)) != key:
            click.echo(f"note: {key} is now called {name}; the old name still works", err=True)
    return values


def home_of(ctx: click.Context) -> Home:
    """Return the home during shell completion, when no command is running."""
    return Home.locate(ctx.params.get("root") or ctx.find_root().params.get("home"))


def print_json(value: Any) -> None:
    """Print records, or lists and dicts of them; NaN becomes null, paths become text."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def write_file(file: Path, text: str) -> None:
    """Write text that a person asked for to a file, or to standard output for "-"."""
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    try:
        expanded(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{file} can't be written: {error.strerror}") from None


def counter_of(what: str, *, every: int = 1) -> Callable[[int, int], None] | None:
    """Return what shows "WHAT 3 of 8" on a line of stderr that grows; None if stderr is no terminal.

    Args:
        what: verb and noun with a place for both numbers, as in "checked {} of {} files".
        every: how often it is shown.
    """
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        if done % every == 0 or done == total:
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{what.format(done, total)}{end}")
            sys.stderr.flush()

    return show


def has_terminal() -> bool:
    """Return whether an application can be shown: keys come from stdin, and it draws on the real stderr."""
    return sys.stdin.isatty() and sys.__stderr__ is not None and sys.__stderr__.isatty()


def plain(value: Any) -> Any:
    """Return `value` converted to JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [item.name for item in dataclasses.fields(value)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: str = "") -> None:
    """Print aligned columns; a header listed in `right` (space-separated) aligns its column right."""
    for line in aligned(headers, rows, right=right.split()):
        click.echo(line)


def print_origins(settings: Sequence[SettingOrigin], *, as_json: bool) -> None:
    """Print settings with what set each of them, and the paths of the files."""
    from tui.reports import origins

    if as_json:
        print_json([origins.record(item) for item in settings])
        return
    print_table(origins.HEADERS, origins.rows(settings))
    for line in origins.files(settings):
        click.echo(line, err=True)


def complete_run(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete names of runs that start with `text`."""
    from jobs.store.reader import StoreReader

    with StoreReader(home_of(ctx).store) as reader:
        runs = [run for run in reader.runs() if run.name.startswith(text)]
    return [CompletionItem(run.name, help=run.state) for run in runs]


def complete_model(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete run names; if none matches, complete files, so that checkpoint folders can be given."""
    return complete_run(ctx, param, text) or [CompletionItem(text, type="file")]


def complete_preset(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    """Complete names of presets that start with `text`."""
    from presets.catalogue import Catalogue

    infos = Catalogue(home_of(ctx).presets).list()
    return [CompletionItem(p.name, help=p.description) for p in infos if p.name.startswith(text)]


def _complete_key(ctx: click.Context, param: click.Parameter, text: str) -> list[CompletionItem]:
    from engine.config.fields import list_settings

    return [
        CompletionItem(f"{item.key}=", help=item.help)
        for item in list_settings()
        if item.key.startswith(text)
    ]
