"""Outputs of a model for a folder of audio, made by the process behind `sepdash separate`, and kept.

A listening test that is continued tomorrow must play the same audio, so outputs are made once for each
checkpoint and set of files. They may be deleted at any time; then they are made again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.checkpoints.layout import content_of
from engine.data.files.audio_files import find_audio
from jobs.listening.audio import Stimulus
from jobs.listening.sources import INPUT, TARGET, Sides, by_name

_FOLDER = "applied"


class ApplyError(ValueError):
    """A model can't be applied to the audio."""


def outputs_of(checkpoint: Path, inputs: Sequence[Path], *, listening: Path, device: str) -> Path:
    """Return the folder of a model's outputs for files, `<input>.<source>.wav`.

    Raises:
        ApplyError: when the process failed; it has said why.
    """
    identity = [content_of(checkpoint), *(f"{path}\n{_content(path)}" for path in inputs)]
    key = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    kept = listening / _FOLDER / key
    if kept.is_dir():
        return kept
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=kept.parent))
    try:
        # `-P` prevents imports from the current folder, which may contain any file.
        command = [sys.executable, "-P", "-m", "engine.programs.separate", f"--device={device}"]
        words = ["--out", str(part), "--", str(checkpoint), *map(str, inputs)]
        # What it lists on standard output is of no interest here.
        code = subprocess.run([*command, *words], stdout=subprocess.DEVNULL, check=False).returncode
        if code:
            raise ApplyError(
                f"{checkpoint} could not be applied (exit code {code}); see the message above"
            )
        part.replace(kept)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return kept


def files_to_apply(audio: Path) -> list[Path]:
    """Return a file, or the audio files below a folder.

    Raises:
        ValueError: when there is none.
    """
    files = [audio] if audio.is_file() else find_audio(audio)
    if not files:
        raise ValueError(f"no audio files in {audio}")
    return files


def applied_sides(
    names: tuple[str, str], folders: tuple[Path | None, Path | None], *, inputs: Sequence[Path]
) -> Sides:
    """Return the outputs of two models, or of one and its input, where the folder is None.

    Raises:
        ValueError: for `target`, and for models that have no source in common.
    """
    if TARGET in names:
        raise ValueError(
            f"{TARGET!r} is unknown for --audio; compare with {INPUT!r}, or with another run"
        )
    pools = [None if folder is None else by_name(folder) for folder in folders]
    found = next(pool for pool in pools if pool is not None)
    stems = {path.stem: path for path in inputs}
    stimuli = []
    for name in found:
        # The name of a source has no dot, that of a file may.
        unprocessed = stems.get(name.rpartition(".")[0])
        a, b = (unprocessed if pool is None else pool.get(name) for pool in pools)
        if a is not None and b is not None:
            stimuli.append(Stimulus(name, a, b=b))
    if not stimuli:
        raise ValueError(f"{names[0]} and {names[1]} have no outputs of the same source")
    return Sides(*names, stimuli=tuple(stimuli))


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
