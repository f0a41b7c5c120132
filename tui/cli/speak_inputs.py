"""What `sepdash speak` is given: texts, where they go, and voices; checked before anything is loaded."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from jobs.home import Home
from models.user_paths import expanded

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_SUFFIX = ".safetensors"
_MOST_TEXTS = 9_999


def items_to_speak(
    text: str | None, *, file: Path | None, out: Path | None, may_be_none: bool
) -> list[dict[str, Any]]:
    """Return texts with the files they go to: `text`, `path`, and `place` for messages.

    Raises:
        click.UsageError: when texts or the output are missing, twice there, or can't be used.
    """
    if text is not None and file is not None:
        raise click.UsageError("a text and --file are both given; leave one out")
    if text is None and file is None:
        if may_be_none and out is None:
            return []
        raise click.UsageError(
            'nothing to speak: add a text, as in sepdash speak RUN "seven two" -o out.wav, or --file texts.txt'
        )
    if out is None:
        what = "a folder" if file else "a file that ends in .wav"
        raise click.UsageError(f"-o is missing: name {what} for the audio")
    out = out.absolute()
    if file is not None:
        return _lines(file, out)
    assert text is not None
    if out.suffix.lower() != ".wav":
        raise click.UsageError(f"-o {out}: audio is written as WAV; name a file that ends in .wav")
    if not text.strip():
        raise click.UsageError("the text is empty; write words")
    if not out.parent.is_dir():
        raise click.UsageError(f"-o {out}: folder {out.parent} does not exist")
    _require_writable(out.parent)
    _require_free(out)
    return [{"place": "the text", "text": text, "path": str(out)}]


def _lines(file: Path, out: Path) -> list[dict[str, Any]]:
    """Return the lines of a file that are not empty, each with a file of its number."""
    try:
        lines = _text_of(file).removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"--file {file} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise click.UsageError(f"--file {file} can't be read: {error.strerror}") from None
    if out.exists() and not out.is_dir():
        raise click.UsageError(f"-o {out} is a file; with --file, name a folder")
    items = [
        {"place": f"line {number}", "text": line, "path": str(out / f"{number:04}.wav")}
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not items:
        raise click.UsageError(f"--file {file} has no text; write one text a line")
    if len(lines) > _MOST_TEXTS:
        raise click.UsageError(
            f"--file {file} has {len(lines):,} lines, more than {_MOST_TEXTS:,}; divide it into several files"
        )
    _require_writable(out)
    for item in items:
        _require_free(Path(item["path"]))
    return items


def _text_of(file: Path) -> str:
    """Read UTF-8 from a file, or from standard input for "-"; every end of a line is then a line feed.

    Other signs at which `str.splitlines` would divide are none to an editor: its numbers of lines count.
    """
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def chosen_voice(home: Home, voices: tuple[str, ...]) -> tuple[list[str], str | None]:
    """Return the recordings that are named, and the file of a saved voice; at most one of them.

    A path with a folder or an ending is a recording; a plain word is a saved voice, if there is one.

    Raises:
        click.UsageError: when one is missing, or they are mixed.
    """
    if not all(voice.strip() for voice in voices):
        raise click.UsageError("--voice is empty; is a variable of the shell unset?")
    saved = [file for voice in voices if (file := _file_of(home, voice)).is_file()]
    if saved and len(voices) > 1:
        raise click.UsageError(
            f"--voice {saved[0].stem} is a saved voice and stands alone; leave the other --voice out"
        )
    if saved:
        return [], str(saved[0])
    clips = [expanded(voice).absolute() for voice in voices]
    for voice, clip in zip(voices, clips, strict=True):
        if clip.is_dir():
            raise click.UsageError(f"--voice {voice} is a folder; name recordings")
        if not clip.exists():
            names = sorted(file.stem for file in home.voices.glob(f"*{_SUFFIX}"))
            known = f" (saved: {', '.join(names)})" if names else ""
            what = f"nor is it a saved voice{known}" if _NAME.fullmatch(voice) else ""
            raise click.UsageError(f"--voice {voice}: no such file{', ' + what if what else ''}")
    return [str(clip) for clip in clips], None


def file_of_new_voice(home: Home, name: str | None) -> str | None:
    """Return the file that a voice is to be kept in; None when none is.

    Raises:
        click.UsageError: when the name can't be used, or is taken.
    """
    if name is None:
        return None
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"--save-voice {name!r}: expected at most 80 letters, digits, '_' or '-', starting with a letter or "
            "digit"
        )
    file = _file_of(home, name)
    if file.exists():
        raise click.UsageError(
            f"--save-voice {name}: a voice of that name exists; choose another name, or remove {file}"
        )
    return str(file)


def _file_of(home: Home, name: str) -> Path:
    """Return where a saved voice would be; a path that is never there for what can't be a name."""
    return home.voices / (f"{name}{_SUFFIX}" if _NAME.fullmatch(name) else ".no-voice")


def _require_free(path: Path) -> None:
    if path.exists():
        raise click.UsageError(f"{path} exists; choose another name, or remove it")


def _require_writable(folder: Path) -> None:
    """Refuse a folder, or the first one above it that is there, in which nothing can be made."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise click.UsageError(f"-o: folder {there} is not writable; choose another one")
