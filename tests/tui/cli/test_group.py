"""The door of the command line: help, errors, signals, and how quickly it opens."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from jobs.store.errors import StoreError
from presets.catalogue import Catalogue
from tui.cli.group import VERBS, LazyGroup, open_dashboard
from tui.cli.group import sepdash as group


def test_every_verb_says_in_its_help_what_the_list_says(sepdash) -> None:
    assert isinstance(group, LazyGroup)
    for name, (_, summary) in VERBS.items():
        command = group.get_command(click.Context(group), name)
        assert command is not None
        assert (command.help or "").startswith(re.split("[.:,]", summary)[0])


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_an_example_that_starts_with_the_verb(sepdash, verb: str) -> None:
    answer = sepdash(verb, "--help")
    assert answer.code == 0
    assert "Example" in answer.out
    assert f"sepdash {verb}" in answer.out.partition("Example")[2]
    assert max(map(len, answer.out.splitlines())) <= 100


@pytest.mark.parametrize("verb", ["enqueue", "plan", "presets", "tune"])
def test_presets_in_the_examples_are_there(sepdash, verb: str) -> None:
    named = re.findall(rf"sepdash {verb} (\w+/[\w-]+)", sepdash(verb, "--help").out)
    assert named
    assert set(named) <= {info.name for info in Catalogue().list()}


def options_of(command: click.Command) -> dict[str, list[click.Option]]:
    """Return the options of a command and of its subcommands, by each name."""
    found: dict[str, list[click.Option]] = {}
    for param in command.params:
        for name in param.opts if isinstance(param, click.Option) else ():
            found.setdefault(name, []).append(param)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            for option, params in options_of(child).items():
                found.setdefault(option, []).extend(params)
    return found


def test_an_option_of_several_commands_is_worded_alike() -> None:
    found = options_of(group)
    ends = {
        "--device": "auto, cpu, cuda or cuda:N.",
        "--checkpoint": "last or best-METRIC [default: the best one].",
    }
    for name, end in ends.items():
        assert len(found[name]) > 5
        assert {
            param.help or "" for param in found[name] if not (param.help or "").endswith(end)
        } == set()
    assert all("--out" in param.opts for param in found["-o"])
    # Scripts may have the older name.
    assert len(found["--output"]) == 1


def test_help_lists_every_verb(sepdash) -> None:
    out = sepdash("--help").out
    assert [verb for verb in VERBS if f"\n  {verb} " not in out] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rns"], "no such command 'rns', did you mean 'runs'?"),
        (["zzz"], "no such command 'zzz', expected demo, presets"),
        (["runs", "--jsn"], "no such option '--jsn'"),
        (["runs", "--state", "don"], "'don' is not one of 'queued', 'running'"),
        (["runs", "extra"], "got unexpected extra argument (extra)"),
        (["enqueue"], "missing argument 'PRESET'"),
        (
            ["enqueue", "denoise/smal"],
            "unknown preset 'denoise/smal', did you mean 'denoise/small'?",
        ),
        (["presets", "basline"], "did you mean 'demo/baseline'?"),
        (["show", "7"], "no run '7'"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_a_typo_gets_one_clear_line_and_exit_code_2(sepdash, words, message: str) -> None:
    answer = sepdash(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.startswith("sepdash: ")
    assert answer.err.count("\n") == 1


def test_the_dashboard_asks_for_a_terminal(sepdash) -> None:
    answer = sepdash()
    assert answer.code == 2
    assert "requires a terminal" in answer.err


def test_the_dashboard_refuses_a_store_it_cannot_read(monkeypatch, tmp_path: Path) -> None:
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr("tui.apps.dashboard.SepdashApp.run", lambda app: pytest.fail("it opened"))
    with sqlite3.connect(tmp_path / "runs.db") as store:
        store.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="written by a newer sepdash"):
        open_dashboard(tmp_path)


def test_a_drained_queue_with_failed_runs_is_no_success(sepdash, monkeypatch) -> None:
    for failed, code in ((0, 0), (2, 1)):
        monkeypatch.setattr("jobs.worker.serve.serve", lambda *_, count=failed, **__: count)
        answer = sepdash("worker", "--drain")
        assert (answer.code, answer.err) == (
            code, "2 runs failed or still waiting; `sepdash runs` lists them\n" if failed else ""
        )  # fmt: skip
        assert sepdash("worker").code == 0


def test_a_home_that_cannot_be_made_is_said_with_what_to_do(sepdash, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = sepdash("--home", str(tmp_path / "file" / "home"), "worker", "--drain")
    assert answer.code == 2
    assert answer.err == (
        f"sepdash: {tmp_path}/file/home: can't be created (Not a directory); choose another folder with "
        "--home or SEPDASH_HOME\n"
    )


def test_a_home_that_is_a_file_is_refused(sepdash, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = sepdash("--home", str(tmp_path / "file"), "runs")
    assert answer.code == 2
    assert "is a file" in answer.err


def test_version_is_the_installed_one(sepdash) -> None:
    from importlib.metadata import version

    assert sepdash("--version").out == f"sepdash {version('sepdash')}\n"


def test_a_defect_of_ours_is_not_hidden(sepdash, monkeypatch) -> None:
    def explode(self: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("presets.catalogue.Catalogue.list", explode)
    with pytest.raises(RuntimeError, match="a defect"):
        sepdash("presets")


def test_traceback_of_a_user_error_can_be_asked_for(sepdash, monkeypatch) -> None:
    from presets.catalogue import PresetError

    monkeypatch.setenv("SEPDASH_TRACEBACK", "1")
    with pytest.raises(PresetError):
        sepdash("presets", "nothing-like-it")


def test_a_closed_pipe_is_quiet(spawn) -> None:
    process = spawn("presets", "--settings")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 1


def test_ctrl_c_is_quiet(spawn, lab) -> None:
    run = lab.run("waiting")
    # A test run in the background ignores SIGINT, and so would its children.
    process = spawn(
        "--home", str(lab.home.root), "logs", str(run), "-f",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    folder = lab.home.run_folder(run)
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("first line\n")
    assert process.stdout.readline() == "first line\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr.read().strip() == ""


def test_help_loads_only_click(repository: Path) -> None:
    code = (
        "import sys\nfrom tui.main import run\nrun(['--help'])\n"
        "heavy = {'torch', 'textual', 'pydantic', 'numpy', 'sqlite3', 'sqlite_utils', 'huey', 'wandb'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_help_takes_less_than_three_tenths_of_a_second_of_cpu(repository: Path) -> None:
    def cpu_s() -> float:
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "tui.main", "--help"],
            cwd=repository, capture_output=True, check=True,
        )  # fmt: skip
        after = os.times()
        return (
            after.children_user
            + after.children_system
            - (before.children_user + before.children_system)
        )

    assert min(cpu_s() for _ in range(3)) < 0.3


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sepdash mo", "move"),
        ("sepdash presets den", "denoise/small"),
        ("sepdash enqueue demo/", "demo/baseline"),
        ("sepdash enqueue demo/baseline --set optimizer.l", "optimizer.lr="),
        ("sepdash show wait", "waiting"),
        ("sepdash separate wait", "waiting"),
        ("sepdash runs --sta", "--state"),
    ],
)
def test_completion_knows_verbs_presets_settings_and_runs(
    spawn, lab, words: str, expected: str
) -> None:
    lab.run("waiting")
    process = spawn(
        env={
            **os.environ, "_SEPDASH_COMPLETE": "bash_complete", "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1), "SEPDASH_HOME": str(lab.home.root),
        }
    )  # fmt: skip
    out, _ = process.communicate(timeout=30)
    assert expected in [line.partition(",")[2] for line in out.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(sepdash, shell: str) -> None:
    out = sepdash("completion", shell).out
    assert "_SEPDASH_COMPLETE" in out
    assert f"{shell}_complete" in out


def test_follow_ends_with_the_run(spawn, lab) -> None:
    run = lab.run("short", "running", total=10)
    folder = lab.home.run_folder(run)
    folder.mkdir(parents=True)
    log = folder / "log.txt"
    log.write_text("one\ntwo\n")
    process = spawn("--home", str(lab.home.root), "logs", "short", "-f", "-n", "1")
    assert process.stdout.readline() == "two\n"
    with log.open("a") as file:
        file.write("three\n")
    lab.writer.move(run, "finished", ["running"], ended_at=time.time())
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("three\n", "", 0)


def test_a_message_does_not_control_the_terminal(sepdash) -> None:
    answer = sepdash("presets", "a\x1b[31mb\x07\rc")
    assert answer.code == 2
    assert answer.err.isprintable() or answer.err.rstrip("\n").isprintable()

    several = sepdash("enqueue", "demo/baseline", "--set", "x\x1b[2J=1", "--set", "y\r=1")
    assert several.err.startswith("sepdash: 2 problems:\n  ")
    assert all(line.isprintable() for line in several.err.splitlines())


def test_the_home_folder_of_nobody_does_not_exist(sepdash) -> None:
    for words in (
        ["sweep", "~nobody-here/x.toml"],
        ["separate", "~nobody-here/x", __file__, "-o", "out"],
    ):
        answer = sepdash(*words)
        assert answer.code == 2
        assert "Traceback" not in answer.err
        assert "~nobody-here/x" in answer.err


def test_paths_of_people_are_expanded_in_one_place(repository: Path) -> None:
    """`Path.expanduser` raises what no caller expects where nobody has that name."""
    users = [
        file.relative_to(repository).as_posix()
        for package in ("tui", "jobs", "engine", "models", "presets")
        for file in (repository / package).rglob("*.py")
        if ".expanduser(" in file.read_text()
    ]
    assert users == ["models/user_paths.py"]
