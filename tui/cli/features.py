"""`sepdash features`: writes the features of a pre-trained model to .npy files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from jobs.home import Home
from models.user_paths import expanded
from tui.cli.checkpoints import locate_checkpoint
from tui.cli.common import checkpoint_option, complete_model, device_option, out_option, with_home
from tui.cli.paths import UserPath
from tui.reports.formats import clean

_EXAMPLES = """\b
Examples:
  sepdash features hubert-small *.flac -o features             the middle layer
  sepdash features hubert-small *.flac -o features --layer 3   a layer of your choice
"""


@click.command(epilog=_EXAMPLES)
@click.argument("model", metavar="RUN|CHECKPOINT", shell_complete=complete_model)
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True,
    type=UserPath(exists=True, dir_okay=False),
)  # fmt: skip
@out_option("Folder for the .npy files; created if missing.", required=True)
@click.option(
    "--layer", type=click.IntRange(0, 1000),
    help="Layer; 0 is the input of layer 1 [default: the middle one].",
)  # fmt: skip
@checkpoint_option()
@device_option()
@with_home
def features(
    model: str,
    files: tuple[Path, ...],
    *,
    out: Path,
    layer: int | None,
    kind: str | None,
    device: str,
    home: Home,
) -> None:
    """Write the features of a pre-trained model to files: (frames, channels), float32.

    Audio is resampled to the rate of the model, mixed to mono, and normalised as in training.
    """
    from engine.child_processes import answers_of

    job = {
        "model": str(locate_checkpoint(home, model, kind=kind)), "layer": layer, "device": device,
        "files": [str(expanded(path).absolute()) for path in files],
        "out": str(expanded(out).absolute()),
    }  # fmt: skip
    command = (sys.executable, "-P", "-m", "engine.programs.features")
    for answer in answers_of(command, job):
        if "hop" in answer:
            hop, rate = answer["hop"], answer["rate_hz"]
            click.echo(
                f"layer {answer['layer']}: a frame every {hop} samples at {rate} Hz "
                f"({1000 * hop / rate:g} ms); frame 0 begins at sample 0 and sees {answer['window']}",
                err=True,
            )
        elif "path" in answer:
            shape = " x ".join(map(str, answer["shape"]))
            click.echo(f"{clean(answer['path'])}  {shape}")
