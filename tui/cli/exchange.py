"""`sepdash import` and `sepdash export`: weights from and for other libraries, in a child process."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from jobs.home import Home
from models.user_paths import expanded
from tui.cli.checkpoints import locate_checkpoint
from tui.cli.common import checkpoint_option, complete_model, out_option, with_home
from tui.cli.paths import UserPath

_IMPORT_EXAMPLES = """\b
Examples:
  sepdash import hubert_base_ls960.pt -o models/hubert-base --kmeans km500.npy
  sepdash import ./wav2vec2-base -o models/wav2vec2-base --new-parts
  sepdash import autoregressive.pth -o tts --dvae dvae.pth --tokenizer bpe.json --mel-norms m.pth
  sepdash features models/hubert-base *.flac -o features
"""
_EXPORT_EXAMPLES = """\b
Examples:
  sepdash export hubert-2 --format transformers -o out/hubert
  sepdash export 7 --checkpoint last --format torchaudio -o out/ta
"""
_STRIDES = re.compile(r"[1-9]\d*(,[1-9]\d*)*")


@click.command("import", epilog=_IMPORT_EXAMPLES)
@click.argument("file", type=UserPath(exists=True))
@out_option("Folder of the new checkpoint.", required=True)
@click.option(
    "--kind", type=click.Choice(["hubert", "wav2vec2"]),
    help="Model [default: read from the file].",
)  # fmt: skip
@click.option(
    "--kmeans", metavar="FILE.npy", type=UserPath(exists=True, dir_okay=False),
    help="Centroids of the k-means model that gave its labels (clusters x numbers of a frame).",
)  # fmt: skip
@click.option(
    "--dvae", metavar="FILE", type=UserPath(exists=True, dir_okay=False),
    help="DVAE of TorToiSe, whose codes its autoregressive model speaks.",
)  # fmt: skip
@click.option(
    "--tokenizer", metavar="FILE.json", type=UserPath(exists=True, dir_okay=False),
    help="Tokenizer of that model.",
)  # fmt: skip
@click.option(
    "--mel-norms", metavar="FILE", type=UserPath(exists=True, dir_okay=False),
    help="Numbers that TorToiSe divides its mel bands by (mel_norms.pth).",
)  # fmt: skip
@click.option(
    "--new-parts", is_flag=True,
    help="Initialise what the file lacks besides the encoder (mask embedding, predictions, codebooks).",
)  # fmt: skip
@click.option(
    "--clusters", type=click.IntRange(2, 65_536),
    help="Number of clusters, if the file has no label embeddings.",
)  # fmt: skip
@click.option("--heads", type=click.IntRange(1, 64), help="Number of attention heads per layer.")
@click.option("--strides", metavar="N,N,...", help="Strides of the convolutions.")
@click.option(
    "--layer-norm-first/--layer-norm-after", default=None,
    help="Where each block normalises [default: first, if all convolutions have a layer norm].",
)  # fmt: skip
@click.option(
    "--normalize-waveform/--raw-waveform", default=None,
    help="Whether its waveforms were normalised [default: yes, if all convolutions have a layer norm].",
)  # fmt: skip
@click.option(
    "--rate-hz", type=click.IntRange(4_000, 48_000),
    help="Sampling rate that an encoder was trained at [default: 16000].",
)  # fmt: skip
def import_(
    file: Path, *, out: Path, strides: str | None, **settings: str | int | bool | Path | None
) -> None:
    """Make a checkpoint of weights that another program trained.

    FILE is a .safetensors file, a file of torch.save (read as tensors only, never as code), or a folder
    of transformers: HuBERT or wav2vec 2.0 of torchaudio, transformers or fairseq, or the autoregressive model
    of TorToiSe (with --dvae, --tokenizer and --mel-norms), or its DVAE (with --mel-norms). The checkpoint
    serves as init_from; an encoder also for probe, cluster, features and export, a voice for speak, a DVAE
    as codec.
    """
    if strides is not None and not _STRIDES.fullmatch(strides):
        raise click.UsageError(f"--strides {strides}: expected numbers like 5,2,2,2,2,2,2")
    options = _options({**settings, "strides": strides})
    _run(["import", *options, "--out", str(expanded(out)), "--", str(file)])


@click.command(epilog=_EXPORT_EXAMPLES)
@click.argument("model", metavar="RUN|CHECKPOINT", shell_complete=complete_model)
@click.option(
    "--format", "library", type=click.Choice(["torchaudio", "transformers"]), required=True,
    help="Library that will load the weights.",
)  # fmt: skip
@out_option("New or empty folder for weights and config.", required=True)
@checkpoint_option()
@with_home
def export(model: str, *, library: str, out: Path, kind: str | None, home: Home) -> None:
    """Write a HuBERT, wav2vec 2.0 or CTC encoder as torchaudio or transformers load it.

    Prints the lines of Python that load it.
    """
    checkpoint = locate_checkpoint(home, model, kind=kind)
    _run(["export", f"--format={library}", "--out", str(expanded(out)), "--", str(checkpoint)])


def _options(settings: Mapping[str, str | int | bool | Path | None]) -> list[str]:
    """Return the settings that were given as options of the child."""
    options = []
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        elif value is False:
            options += [] if name == "new_parts" else [f"--no-{option.removeprefix('--')}"]
        elif value is not None:
            options.append(f"{option}={value}")
    return options


def _run(arguments: list[str]) -> None:
    # `-P` prevents imports from the current folder, which may contain any file.
    child = [sys.executable, "-P", "-m", "engine.programs.exchange", *arguments]
    code = subprocess.run(child, check=False).returncode
    click.get_current_context().exit(code if code >= 0 else 128 - code)
