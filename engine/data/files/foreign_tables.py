"""Manifests that are no JSON: Kaldi's and ESPnet's folders, and tables with named columns. Free of torch.

- A folder of Kaldi: `wav.scp` (`<recording> <path>`), and where they are there `segments` (`<utterance>
  <recording> <start> <end>`), `text` (`<utterance> <words>`) and `utt2spk`. Commands in `wav.scp` are not run.
- CSV of SpeechBrain (`ID,duration,wav,spk_id,wrd`; `start` and `stop` are samples), and any CSV or TSV whose
  first row names a column of paths.

Yields rows as objects of JSON, for `engine.data.files.manifest_keys`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.config.errors import DataError
from engine.data.files.audio_files import probe
from engine.data.files.manifest_keys import NAMES
from engine.data.files.text_files import lines_of
from models.user_paths import expanded

KALDI = "wav.scp"
_KALDI_FILES = (KALDI, "segments", "text")
TABLES = (".csv", ".tsv")
# Folders beside a table in which data sets keep what it names.
_BESIDE = ("", "clips", "wavs")

Row = tuple[str, dict[str, Any]]


def kaldi_folder(path: Path) -> Path | None:
    """Return the folder of Kaldi that a path is or is one of the files of; None for others."""
    folder = path.parent if path.name in _KALDI_FILES else path
    return folder if (folder / KALDI).is_file() else None


def kaldi_rows(folder: Path, bad_rows: list[str]) -> Iterator[Row]:
    """Yield ("file:line", values) of the utterances of a folder of Kaldi; `bad_rows` takes what is wrong."""
    paths = _recordings(folder, bad_rows)
    texts = _pairs(folder / "text", bad_rows)
    speakers = _pairs(folder / "utt2spk", bad_rows)
    segments = folder / "segments"
    places: Iterator[Row]
    if segments.is_file():
        places = _segments(segments, paths, bad_rows=bad_rows)
    else:
        places = ((place, {"id": name, "path": path}) for name, (place, path) in paths.items())
    seen = set()
    for place, values in places:
        name = values["id"]
        seen.add(name)
        if name in texts:
            values["text"] = texts[name][1]
        elif texts:
            bad_rows.append(f"{place}: {name} has no line in {folder / 'text'}")
            continue
        if name in speakers:
            values["speaker"] = speakers[name][1]
        yield place, values
    source = segments.name if segments.is_file() else KALDI
    bad_rows += [
        f"{place}: {name} is not in {folder / source}"
        for name, (place, _) in texts.items()
        if name not in seen
    ]


def _recordings(folder: Path, bad_rows: list[str]) -> dict[str, tuple[str, str]]:
    found = {}
    for name, (place, value) in _pairs(folder / KALDI, bad_rows).items():
        if value.endswith("|"):
            bad_rows.append(
                f"{place}: {value:.60} is a command, which is not run; write the audio to files, for example with "
                "ESPnet's `scripts/audio/format_wav_scp.sh` or Kaldi's `wav-copy`"
            )
        elif ".ark:" in value:
            bad_rows.append(
                f"{place}: {value:.60} is a part of an archive; write the audio to files: `wav-copy scp:wav.scp "
                "scp:NEW.scp`"
            )
        else:
            found[name] = place, str(_there(value, folder))
    return found


def _segments(
    file: Path, paths: Mapping[str, tuple[str, str]], *, bad_rows: list[str]
) -> Iterator[Row]:
    known = set()
    for number, line in lines_of(file, bad_rows):
        place, fields = f"{file}:{number}", line.split()
        try:
            name, recording, start, end = fields
            values: dict[str, Any] = {"id": name, "start": float(start)}
            if float(end) >= 0:  # -1: to the end
                values["end"] = float(end)
        except ValueError:
            bad_rows.append(
                f"{place}: expected <utterance> <recording> <start> <end>, found {line!r:.60}"
            )
            continue
        if name in known:
            bad_rows.append(f"{place}: {name} is there twice")
        elif recording not in paths:
            bad_rows.append(
                f"{place}: the recording {recording} is not in {KALDI}, or can't be used"
            )
        else:
            known.add(name)
            yield place, {**values, "path": paths[recording][1]}


def _pairs(file: Path, bad_rows: list[str]) -> dict[str, tuple[str, str]]:
    """Return the first word of each line -> where it was found, and the rest of the line."""
    found: dict[str, tuple[str, str]] = {}
    for number, line in lines_of(file, bad_rows) if file.is_file() else ():
        name, *rest = line.split(maxsplit=1)
        place = f"{file}:{number}"
        if name in found:
            bad_rows.append(f"{place}: {name} is there twice")
            continue
        found[name] = place, rest[0] if rest else ""
    return found


def _there(name: str, folder: Path) -> Path:
    """Return a path that may be seen from the folder, or, as in Kaldi's recipes, from one above it."""
    folder = folder.absolute()
    path = expanded(name, beside=folder)
    if path.is_absolute():
        return path
    return next(
        (top / path for top in (folder, *folder.parents) if (top / path).exists()), folder / path
    )


def lhotse_path(name: str, folder: Path) -> str:
    """Return a path of Lhotse's: seen from where it was written, which is above or beside the manifest."""
    return str(_there(name, folder))


def table_rows(path: Path, bad_rows: list[str]) -> Iterator[Row]:
    """Yield ("file:line", values) of a CSV or TSV file whose first row names its columns."""
    lines = list(lines_of(path, bad_rows))
    if not lines:
        return
    names = [name.strip() for name in _fields(lines[0][1], path)]
    paths = {"path", *NAMES["path"]}
    if not paths & set(names):
        bad_rows.append(
            f"{path}: is a table, not a manifest (.jsonl), whose first row names no column of audio files (path, "
            f"wav, ...); make one of it with `sepdash data voice {path}`"
        )
        return
    for number, line in lines[1:]:
        place, fields = f"{path}:{number}", _fields(line, path)
        if len(fields) != len(names):
            bad_rows.append(
                f"{place}: {len(fields)} fields, but the first row names {len(names)}; quote texts with commas"
            )
            continue
        try:
            yield place, _values(dict(zip(names, fields, strict=True)), path.parent.absolute())
        except ValueError as error:
            bad_rows.append(f"{place}: {error}")


def _fields(line: str, path: Path) -> list[str]:
    if path.suffix.lower() == ".csv":
        return next(csv.reader([line]), [])
    # A quotation mark in a table with tabs is one.
    return line.split("\t")


def _values(row: dict[str, str], folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = {key: value for key, value in row.items() if value.strip()}
    key = next((name for name in ("path", *NAMES["path"]) if name in values), None)
    if key is None:
        raise ValueError("names no audio file")
    name = values.pop(key).strip()
    if name.startswith(("$", "{")):
        raise ValueError(
            f"{name:.60} stands for a folder that the recipe fills in; replace it in the file, for example with "
            "`sed 's|$data_root|/the/folder|'`"
        )
    beside = (folder / place / expanded(name, beside=folder) for place in _BESIDE)
    values["path"] = str(
        next((path for path in beside if path.exists()), folder / expanded(name, beside=folder))
    )
    for column in ("start", "stop", "end", "offset", "duration"):
        if column in values:
            try:
                values[column] = float(values[column])
            except ValueError:
                raise ValueError(
                    f"{column} must be a number, found {values[column]!r:.60}"
                ) from None
    if "stop" in values:
        _in_seconds(values)
    return values


def _in_seconds(values: dict[str, Any]) -> None:
    """Read `start` and `stop` as SpeechBrain writes them: numbers of samples."""
    start, stop = values.pop("start", 0.0), values.pop("stop")
    if not (start.is_integer() and stop.is_integer()):
        raise ValueError(
            f"start = {start:g} and stop = {stop:g} are no numbers of samples, as SpeechBrain writes them; name "
            "them 'start' and 'end' if they are seconds"
        )
    try:
        rate_hz = probe(Path(values["path"])).rate_hz
    except DataError as error:
        raise ValueError(error.problems[0].message) from None
    values.pop("duration", None)  # of the part, or of the whole file: recipes differ
    values |= {"start": start / rate_hz, "end": stop / rate_hz}
