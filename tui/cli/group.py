"""The command tree. Each command is imported only when used, so that `sepdash --help` stays fast."""

from __future__ import annotations

import importlib
import os
from keyword import iskeyword
from pathlib import Path

import click

from tui.cli.paths import UserPath

# Name of the verb -> (module, what it does). The module holds the command under the name of the verb, `_` for `-`.
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("tui.cli.demo", "Train two small models on synthetic audio and compare them."),
    "presets": ("tui.cli.presets", "List presets, show one, or list all settings."),
    "data": ("tui.cli.data", "Check audio folders before training."),
    "plan": (
        "tui.cli.plan",
        "Show how a preset is batched: global batch size, padding, skipped items.",
    ),
    "enqueue": ("tui.cli.enqueue", "Queue a run of a preset."),
    "tune": ("tui.cli.tune", "Benchmark a preset on this machine and suggest faster settings."),
    "lr-find": ("tui.cli.lr_find", "Suggest a learning rate for a preset, by a short range test."),
    "sweep": ("tui.cli.sweep", "Queue the runs of an experiment, with matched lengths."),
    "search": ("tui.cli.search", "List searches for good settings, or show one with its verdict."),
    "cluster": ("tui.cli.cluster", "Cluster the features of a run, or MFCCs, and label its data."),
    "worker": ("tui.cli.worker", "Train the queued runs one after another."),
    "runs": ("tui.cli.runs", "List runs: queued, running and ended."),
    "show": ("tui.cli.show", "Show one run: state, metrics, checkpoints, config."),
    "checkpoints": (
        "tui.cli.checkpoint_list",
        "List the checkpoints of a run, and what each can be used for.",
    ),
    "compare": (
        "tui.cli.compare",
        "Compare runs: which is better, by how much, and is that reliable?",
    ),
    "probe": ("tui.cli.probe", "Measure what the features of pre-trained models are worth."),
    "features": ("tui.cli.features", "Write the features of a pre-trained model to files."),
    "clips": ("tui.cli.clips", "List or export the clips of a run: audio kept of its evaluations."),
    "listen": (
        "tui.cli.listen",
        "Find out by a blind test whether a person hears a difference.",
    ),
    "logs": ("tui.cli.logs", "Print the log of a run."),
    "stop": ("tui.cli.control", "Stop runs; they save a checkpoint and can be resumed."),
    "resume": ("tui.cli.control", "Queue stopped or failed runs again."),
    "move": ("tui.cli.control", "Move a queued run within the queue."),
    "rm": ("tui.cli.control", "Remove runs and their files."),
    "separate": ("tui.cli.separate", "Apply a trained model to audio files."),
    "transcribe": ("tui.cli.transcribe", "Transcribe audio files."),
    "speak": ("tui.cli.speak", "Speak texts with a trained voice."),
    "import": (
        "tui.cli.exchange",
        "Make a checkpoint of weights that another program trained.",
    ),
    "export": (
        "tui.cli.exchange",
        "Write a HuBERT, wav2vec 2.0 or CTC encoder as torchaudio or transformers load it.",
    ),
    "backup": ("tui.cli.backup", "Back up the run store, presets and searches to one file."),
    "restore": ("tui.cli.backup", "Restore a backup."),
    "doctor": ("tui.cli.doctor", "Check versions, devices, paths and the run store."),
    "completion": ("tui.cli.completion", "Print a shell completion script."),
}

# What verbs were called in earlier versions; these work, and no list names them.
OLD_VERBS = {"samples": "clips"}

_EXAMPLES = """\b
Examples:
  sepdash demo                                   try it, in two to four minutes
  sepdash enqueue denoise/small --set data.train=~/speech
  sepdash worker                                 train the queued runs
  sepdash                                        open the dashboard
"""


class LazyGroup(click.Group):
    """A group whose commands are named by `VERBS` and imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs, in the order of a first day with sepdash."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name; None if there is none."""
        verb = OLD_VERBS.get(cmd_name, cmd_name)
        if verb not in VERBS:
            return None
        name = verb.replace("-", "_")
        command = getattr(
            importlib.import_module(VERBS[verb][0]), f"{name}_" if iskeyword(name) else name
        )
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for an unknown one, suggest the nearest name."""
        name = args[0]
        if name not in (*VERBS, *OLD_VERBS) and not ctx.resilient_parsing:
            from difflib import get_close_matches

            close = get_close_matches(name, VERBS, n=1)
            hint = f", did you mean {close[0]!r}?" if close else f", expected {', '.join(VERBS)}"
            raise click.UsageError(f"no such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with their summaries, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in VERBS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXAMPLES,
)
@click.option(
    "--home",
    type=UserPath(file_okay=False),
    help="Home folder: run store, queue, presets [default: SEPDASH_HOME or ~/.local/share/sepdash].",
)
@click.option("--version", is_flag=True, help="Print the version.")
@click.pass_context
def sepdash(ctx: click.Context, home: Path | None, version: bool) -> None:
    """Train audio models overnight from a terminal. Without a command, open the dashboard."""
    ctx.obj = home
    if version:
        from importlib.metadata import version as installed

        click.echo(f"sepdash {installed('sepdash')}")
        ctx.exit()
    if ctx.invoked_subcommand is None:
        open_dashboard(home)


def open_dashboard(home: Path | None) -> None:
    """Open the dashboard on a home; it draws on the terminal, so there must be one.

    Raises:
        click.UsageError: when stdin or stderr is no terminal.
        StoreError: when the store can't be read; an empty screen would say there are no runs.
    """
    from jobs.home import Home
    from jobs.store.reader import StoreReader
    from tui.cli.common import has_terminal

    if not has_terminal():
        raise click.UsageError(
            "the dashboard requires a terminal; `sepdash runs` lists runs without one"
        )
    if os.environ.get("TERM") in ("dumb", "unknown"):
        raise click.UsageError(
            f"the dashboard requires a terminal that can move its cursor, but TERM is {os.environ['TERM']}; "
            "`sepdash runs` lists runs without one, or set TERM, for example to xterm-256color"
        )
    located = Home.locate(home)
    with StoreReader(located.store) as reader:
        reader.data_version()
    from tui.apps.dashboard import SepdashApp

    SepdashApp(located).run()
