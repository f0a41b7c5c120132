"""`sepdash listen`: a blind listening test of two models, in the terminal or a browser."""

from __future__ import annotations

import getpass
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.config.errors import counted
from jobs.home import Home
from models.user_paths import expanded
from tui.cli.common import (
    checkpoint_option,
    complete_model,
    device_option,
    has_terminal,
    json_option,
    print_json,
    with_home,
)
from tui.cli.numbers import Number
from tui.cli.paths import UserPath
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.listening.records import SessionRecord
    from jobs.listening.results import PairResult
    from jobs.listening.session import Material, Session
    from jobs.listening.sources import Sides

_KEYWORDS = ("input", "target")
_LAST_REQUEST_S = 5.0
_EXAMPLES = """\b
Examples:
  sepdash listen baseline wide
  sepdash listen baseline wide --mode preference --browser
  sepdash listen baseline wide --audio ~/recordings
  sepdash listen baseline target
  sepdash listen --results
"""


@click.command(epilog=_EXAMPLES)
@click.argument("side_a", metavar="A", required=False, shell_complete=complete_model)
@click.argument("side_b", metavar="B", required=False, shell_complete=complete_model)
@click.option(
    "--mode", type=click.Choice(["abx", "preference"]), default="abx", show_default=True,
    help="abx: is a difference heard? preference: which one is preferred?",
)  # fmt: skip
@click.option(
    "--trials", type=click.IntRange(1, 1000),
    help="Number of trials, fixed in advance. [default: finds 80 % of listeners who are correct 70 % of the time]",
)  # fmt: skip
@click.option(
    "--at", "when", default="final", show_default=True,
    help="Evaluation whose clips are compared: best, final, or its number of updates.",
)  # fmt: skip
@click.option(
    "--audio", metavar="PATH", type=UserPath(exists=True),
    help="Apply both models to this file or folder instead of comparing clips.",
)  # fmt: skip
@checkpoint_option(of="the runs", only_with="--audio")
@device_option(only_with="--audio")
@click.option(
    "--excerpt", "excerpt_s", type=Number(0.1, 120), default=10.0, show_default=True,
    help="Play at most this many seconds, from the middle.",
)  # fmt: skip
@click.option("--listener", help="Name of the listener [default: the user name].")
@click.option("--seed", type=click.IntRange(0), help="Seed of the random order [default: random].")
@click.option("--browser", is_flag=True, help="Listen in a browser, on this or another machine.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of --browser [default: a free one].")  # fmt: skip
@click.option("--player", help="Audio player: pw-play, paplay, afplay, aplay, ffplay, sounddevice.")
@click.option("--results", "only_results", is_flag=True, help="Print the results of all tests, or of those of A and B.")  # fmt: skip
@json_option
@with_home
def listen(
    side_a: str | None,
    side_b: str | None,
    *,
    only_results: bool,
    as_json: bool,
    home: Home,
    **options: Any,
) -> None:
    """Find out by a blind test whether a person hears a difference between A and B.

    A and B are two runs, two folders or two audio files; one of them may be `input` or `target`, the
    signals of the other run. Both are played at the same loudness, in random order and without names.
    Answers are saved at once: the same command continues a test that was stopped.
    """
    if only_results:
        _print_results(home, (side_a, side_b), as_json=as_json)
        return
    if side_a is None or side_b is None:
        raise click.UsageError("expected two sides, A and B; or --results")
    if not (options["browser"] or has_terminal()):
        raise click.UsageError("a listening test requires a terminal; or use --browser")
    home.create()
    material = _material(home, (side_a, side_b), options=options)
    _run_test(home, material, options=options, as_json=as_json)


def _material(home: Home, names: tuple[str, str], *, options: dict[str, Any]) -> Material:
    from jobs.listening.session import prepare

    if all(name in _KEYWORDS for name in names):
        raise click.UsageError("at least one of A and B must be a run")
    sides = _sides(home, names, options=options)
    material = prepare(sides, excerpt_s=options["excerpt_s"])
    for note in material.sides.notes:
        click.echo(f"note: {formats.clean(note)}", err=True)
    return material


def _sides(home: Home, names: tuple[str, str], *, options: dict[str, Any]) -> Sides:
    from jobs.listening.sources import ClipsError, clips_of, files_of
    from jobs.store.reader import StoreReader

    if options["audio"] is not None:
        return _applied(home, names, options=options)
    with StoreReader(home.store) as reader:
        known = {text for run in reader.runs() for text in (run.name, str(run.id))}
        paths = [None if n in known or n in _KEYWORDS else expanded(n) for n in names]
        files = [path for path in paths if path is not None and path.exists()]
        if len(files) == 2:
            return files_of(*files)
        for name, path in zip(names, paths, strict=True):
            if path is not None and "/" in name and not path.exists():
                raise click.UsageError(f"no run, file or folder {name!r}")
        if files:
            raise click.UsageError(
                f"{files[0]} is a path: expected another one to compare it with, or two runs"
            )
        try:
            return clips_of(home, reader, a=names[0], b=names[1], when=options["when"])
        except ClipsError as error:
            raise click.UsageError(
                f"{error}; to apply both models to audio files and compare those: "
                f"sepdash listen {' '.join(names)} --audio FOLDER"
            ) from None


def _applied(home: Home, names: tuple[str, str], *, options: dict[str, Any]) -> Sides:
    from jobs.listening.applied import applied_sides, files_to_apply, outputs_of
    from tui.cli.checkpoints import locate_checkpoint

    inputs = files_to_apply(expanded(options["audio"]))
    folders: list[Path | None] = []
    for name in names:
        if name in _KEYWORDS:
            folders.append(None)
            continue
        checkpoint = locate_checkpoint(home, name, kind=options["kind"])
        click.echo(f"applying {formats.clean(name)} to {counted(len(inputs), 'file')}", err=True)
        folders.append(
            outputs_of(checkpoint, inputs, listening=home.listening, device=options["device"])
        )
    return applied_sides(names, (folders[0], folders[1]), inputs=inputs)


def _run_test(home: Home, material: Material, *, options: dict[str, Any], as_json: bool) -> None:
    from jobs.listening.session import Asked, open_session
    from tui.reports.listening import plan_lines

    seed = None if options["seed"] is None else str(options["seed"])
    asked = Asked(
        options["mode"], options["listener"] or _user(), trials=options["trials"], seed=seed
    )
    with open_session(home.listening, material, asked=asked) as session:
        answered = len(session.record.answers)
        if answered:
            click.echo(f"continuing after {answered} of {session.num_trials} trials", err=True)
        else:
            for line in [
                *_other_sessions(home, session),
                *plan_lines(session.mode, session.num_trials),
            ]:
                click.echo(line, err=True)
        if options["browser"]:
            _in_browser(home, session, port=options["port"])
        else:
            _in_terminal(session, player=options["player"])
    _report(home, session, as_json=as_json)


def _other_sessions(home: Home, session: Session) -> list[str]:
    """Return what a listener should know of earlier sessions, when a new one begins."""
    from jobs.listening.records import read_sessions

    new = session.record
    lines = []
    for old in read_sessions(home.listening):
        if (old.listener, old.mode) != (new.listener, new.mode):
            continue
        if old.pair == new.pair:
            lines.append(f"note: {old.trials} trials of an earlier session count, too")
        elif not old.is_complete and _runs(old) == _runs(new):
            what = f"{len(old.answers)} of {old.trials} trials answered"
            lines.append(f"note: this is other audio than in an open session ({what}) of")
            lines.append(
                f"  {formats.clean(old.a)} and {formats.clean(old.b)}; --at continues that one"
            )
    return lines


def _runs(record: SessionRecord) -> set[str]:
    return {side.partition(" at ")[0] for side in (record.a, record.b)}


def _in_terminal(session: Session, *, player: str | None) -> None:
    from jobs.listening.players import open_player

    if os.environ.get("SSH_CONNECTION"):
        click.echo("note: sound is played on this machine; --browser plays it on yours", err=True)
    with open_player(player) as opened:
        from tui.apps.listening import ListeningApp

        ListeningApp(session, opened).run()


def _in_browser(home: Home, session: Session, *, port: int) -> None:
    from jobs.listening.server import ListeningServer

    try:
        server = ListeningServer(session, result=lambda: _lines(home, session), port=port)
    except OSError as error:
        raise click.UsageError(f"port {port} can't be used: {error.strerror}") from None
    try:
        with server:
            click.echo(f"Open {server.url}")
            port = server.port
            click.echo(f"From another machine, first: ssh -L {port}:127.0.0.1:{port} {_login()}")
            click.echo("Ctrl-C stops; answers are saved, and the same command continues.", err=True)
            _wait(server)
    except KeyboardInterrupt:
        click.echo(err=True)


def _wait(server: Any) -> None:
    """Wait for the end; a browser that was closed right after the last answer doesn't say it."""
    over_at: float | None = None
    while not server.ended.wait(0.2):
        if server.session.pending is None:
            over_at = over_at or time.monotonic()
            if time.monotonic() - over_at > _LAST_REQUEST_S:
                return


def _report(home: Home, session: Session, *, as_json: bool) -> None:
    pending = session.pending
    if pending is not None:
        click.echo(
            f"stopped after {pending} of {session.num_trials} trials; the same command continues", err=True
        )  # fmt: skip
    if as_json:
        result = _result(home, session)
        print_json(_values([] if result is None else [result]))
    else:
        for line in _lines(home, session):
            click.echo(line)


def _result(home: Home, session: Session) -> PairResult | None:
    from jobs.listening.records import read_sessions
    from jobs.listening.results import result_of

    sessions = read_sessions(home.listening)
    return result_of(sessions, pair=session.record.pair, mode=session.mode)


def _lines(home: Home, session: Session) -> list[str]:
    from tui.reports.listening import result_lines

    result = _result(home, session)
    mine = session.record.listener
    if result is None or not any(one.listener == mine for one in result.listeners):
        return []
    return result_lines(result, listener=mine)


def _print_results(home: Home, names: tuple[str | None, str | None], *, as_json: bool) -> None:
    from jobs.listening.records import read_sessions
    from jobs.listening.results import results
    from tui.reports.listening import all_lines

    wanted = [name for name in names if name is not None]
    known = results(read_sessions(home.listening))
    found = [
        result
        for result in known
        if all(any(_names(side, name) for side in (result.a, result.b)) for name in wanted)
    ]
    if as_json:
        print_json(_values(found))
    elif known and not found:
        what = " and ".join(formats.clean(name) for name in wanted)
        click.echo(f"no listening tests of {what}; `sepdash listen --results` lists all", err=True)
    elif not found:
        click.echo("no listening tests yet; start one with `sepdash listen A B`", err=True)
    for line in [] if as_json else all_lines(found):
        click.echo(line)


def _names(side: str, name: str) -> bool:
    return side == name or side.startswith(f"{name} at ") or side == Path(name).name


def _values(found: list[PairResult]) -> list[dict[str, Any]]:
    from tui.reports.listening import sentence

    values = []
    for result in found:
        value = asdict(result)
        for one, listener in zip(value["listeners"], result.listeners, strict=True):
            names = (result.a, result.b)
            one["statement"] = sentence(listener.outcome, who=listener.listener, names=names)
        values.append(value)
    return values


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "listener"


def _login() -> str:
    """Return what to give to ssh on another machine."""
    parts = os.environ.get("SSH_CONNECTION", "").split()
    host = parts[2] if len(parts) == 4 else os.uname().nodename
    return f"{_user()}@{host}"
