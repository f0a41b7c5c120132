"""`sepdash speak`: speech of a trained voice, in a child process that loads torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from engine.child_processes import answers_of
from jobs.home import Home
from tui.cli.checkpoints import locate_checkpoint
from tui.cli.common import (
    checkpoint_option,
    complete_model,
    device_option,
    json_option,
    out_option,
    print_json,
    with_home,
)
from tui.cli.numbers import Number
from tui.cli.paths import UserPath
from tui.cli.speak_inputs import chosen_voice, file_of_new_voice, items_to_speak
from tui.reports.formats import clean

_EXAMPLES = """\b
Examples:
  sepdash speak voice-small-1 "seven two nine" -o out.wav
  sepdash speak 3 "Good morning." -o out.wav --speaker anna --candidates 8
  sepdash speak 3 "Good morning." -o out.wav --voice a.wav --voice b.wav --save-voice anna
  sepdash speak 3 --file texts.txt -o spoken --voice anna --candidates 8 --judge digits-1
"""


@click.command(epilog=_EXAMPLES)
@click.argument("model", metavar="RUN|CHECKPOINT", shell_complete=complete_model)
@click.argument("text", required=False)
@out_option(
    "WAV file to write; with --file, the folder for 0001.wav (line 1) and so on.",
    metavar="FILE|DIR",
)
@click.option(
    "--file", "texts", metavar="FILE", type=UserPath(exists=True, dir_okay=False, allow_dash=True),
    help="Speak the lines of a text file (UTF-8); '-' reads standard input.",
)  # fmt: skip
@click.option(
    "--voice", "voices", metavar="CLIP|NAME", multiple=True,
    help="Recording of the voice to speak in (can be repeated), or the name of a saved voice.",
)  # fmt: skip
@click.option(
    "--speaker", metavar="NAME", help="Training speaker to speak as [default: the first]."
)
@click.option(
    "--save-voice", metavar="NAME",
    help="Keep this voice in the home; --voice NAME uses it with the same weights.",
)  # fmt: skip
@checkpoint_option()
@device_option()
@click.option(
    "--temperature", type=Number(0, 10), default=0.8, show_default=True,
    help="Sampling temperature; 0 always takes the likeliest code.",
)  # fmt: skip
@click.option(
    "--top-k", type=click.IntRange(0), default=50, show_default=True,
    help="Sample from the K likeliest codes; 0: from all.",
)  # fmt: skip
@click.option(
    "--top-p", type=Number(0, 1, min_open=True), default=0.9, show_default=True,
    help="Sample from the likeliest codes that have this probability together.",
)  # fmt: skip
@click.option(
    "--repetition-penalty", type=Number(0.1, 10), default=1.3, show_default=True,
    help="Penalty for codes that were used before; above 1 makes them less likely.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
    help="Random seed; the same seed gives the same audio.",
)  # fmt: skip
@click.option(
    "--candidates", type=click.IntRange(1, 1024), default=1, show_default=True,
    help="Speak each text N times and keep the best one, by log-probability per code or by --judge.",
)  # fmt: skip
@click.option(
    "--judge", metavar="RUN", shell_complete=complete_model,
    help="Choose by the character error rate of a speech recogniser, and print it.",
)  # fmt: skip
@json_option
@with_home
def speak(
    model: str,
    text: str | None,
    *,
    out: Path | None,
    texts: Path | None,
    voices: tuple[str, ...],
    save_voice: str | None,
    as_json: bool,
    home: Home,
    **options: Any,
) -> None:
    """Speak texts with a trained voice.

    The voice is that of a training speaker, unless recordings (--voice CLIP) or a saved voice are given. Speech
    ends at the stop code of the model; speech that had to be cut is reported.
    """
    saving = file_of_new_voice(home, save_voice)
    items = items_to_speak(text, file=texts, out=out, may_be_none=saving is not None)
    clips, saved = chosen_voice(home, voices)
    if voices and options["speaker"] is not None:
        raise click.UsageError("--voice and --speaker both name a voice; leave one out")
    checkpoint = locate_checkpoint(home, model, kind=options.pop("kind"))
    judge = options.pop("judge")
    own = {name: options.pop(name) for name in ("speaker", "device", "seed", "candidates")}
    job = {
        "checkpoint": str(checkpoint), "items": items, "clips": clips, "saved": saved,
        "save_as": saving, "judge": judge and str(locate_checkpoint(home, judge, kind=None)),
        **own, "sampling": options,
    }  # fmt: skip
    head, results = _spoken(job, checkpoint, as_json=as_json)
    if as_json:
        about = {name: job[name] for name in ("checkpoint", "seed", "sampling", "judge")}
        print_json({**about, **head, "saved_as": saving, "items": results})
    if silent := [result["text"] for result in results if result["path"] is None]:
        named = ", ".join(repr(text) for text in silent[:5])
        raise click.UsageError(
            f"the model stopped at once, and nothing was written, for {named}; try another --seed, or --candidates 8"
        )


def _spoken(
    job: dict[str, Any], checkpoint: Path, *, as_json: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run the job; return what is said of the voice, and the results. Prints each, unless JSON follows."""
    head: dict[str, Any] = {}
    results: list[dict[str, Any]] = []
    # `-P` prevents imports from the current folder, which may contain any file.
    for answer in answers_of((sys.executable, "-P", "-m", "engine.programs.speak"), job):
        if "voice" in answer:
            head = answer
            if not as_json:
                click.echo(f"{clean(answer['voice'])}; {checkpoint.name}, {answer['device']}")
                if lacking := answer.get("without_similarity"):
                    click.echo(clean(lacking))
                if job["save_as"]:
                    click.echo(f"voice saved as {job['save_as']}")
        elif "spoken" in answer:
            results.append(answer["spoken"])
            if not as_json:
                _show(answer["spoken"])
    return head, results


def _show(result: dict[str, Any]) -> None:
    """Print what was spoken, why it was chosen, and how it ended."""
    if result["path"] is None:
        return
    text, read_as = clean(result["text"]), clean(result["read_as"])
    click.echo(
        f"{clean(result['path'])}: {result['duration_s']:.2f} s in {result['generation_s']:.2f} s (real-time factor "
        f"{result['real_time_factor']:.2f}): {text}"
    )
    if read_as != text:
        click.echo(f"  read as: {read_as}")
    if result["why"]:
        click.echo(f"  {result['why']}")
    if result["heard"] is not None:
        errors = result["character_error_rate"]
        rate = "no CER" if errors is None else f"CER {errors:.1%}"
        click.echo(f"  the judge heard ({rate}): {clean(result['heard']) or '(nothing)'}")
    similarity, others = (result.get(f"similarity{name}") for name in ("", "_others"))
    if similarity is not None:
        beside = "" if others is None else f" (other training speakers: {others:.2f} on average)"
        click.echo(f"  similarity to the voice: {similarity:.2f}{beside}")
    if result["ending"] != "stop":
        how = (
            "one code was repeated for a second"
            if result["ending"] == "stuck"
            else f"reached the limit of {result['codes']} codes"
        )
        click.echo(
            f"warning: {clean(result['path'])} did not stop by itself: {how}; try another --seed, or --candidates 8",
            err=True,
        )
