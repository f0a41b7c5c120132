"""Checks audio without texts before a run is queued, surveys it, and sizes its items. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from engine.config.errors import DataError, Problem, counted
from engine.config.unlabelled import UnlabelledData
from engine.data.checks.before_queue import header_warnings
from engine.data.checks.findings import Contents, Finding, Progress, Survey, make_survey, sounds
from engine.data.files.audio_files import (
    AudioInfo,
    check_ends,
    is_audio_name,
    not_used,
    probe_each,
)
from engine.data.files.foreign_tables import kaldi_folder
from engine.data.files.index import INDEX_NAME
from engine.data.files.manifest_keys import own_keys
from engine.data.files.manifest_rows import ROUNDING_S, objects_of, outside
from engine.data.files.rates import check_all_rates
from engine.data.speech.labelled import read_labelled
from engine.data.unlabelled.items import Items, items_of, left_out_clause, make_items, nothing_left
from engine.data.unlabelled.rows import Rows, is_file_list, read_manifest, rows_of_files
from models.folders import walk

Setting = Literal["data.train", "data.valid"]
# Opening a file takes 0.3 ms: of more files, as many are opened, evenly spread.
MOST_OPENED = 20_000


def check_unlabelled(data: UnlabelledData) -> None:
    """Check both splits: rows, files, rates, and that items are left; and what is probed with.

    Raises:
        DataError: with everything that is wrong with either.
    """
    problems: list[Problem] = []
    for setting, path in splits_of(data).items():
        try:
            items = items_of(data, path, setting=setting)
        except DataError as error:
            problems += error.problems
            continue
        problems += [Problem(setting, message) for message in _unusable(items.rows, data)]
    if data.probe is not None:
        try:
            read_labelled(data.probe, setting="data.probe")
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)


def splits_of(data: UnlabelledData) -> dict[Setting, Path]:
    """Return the path of each split, once if they are the same."""
    if data.train == data.valid:
        return {"data.train": data.train}
    return {"data.train": data.train, "data.valid": data.valid}


def unlabelled_sizes(data: UnlabelledData) -> np.ndarray:
    """Return (N, 1) seconds.

    Raises:
        DataError: when the data can't be read, or no item is left.
    """
    items = items_of(data, data.train, setting="data.train")
    return items.lengths[:, None] / data.rate_hz


def unlabelled_warnings(data: UnlabelledData) -> list[str]:
    """Return warnings: what is skipped, validation on training audio, and files that were not opened."""
    warnings, rows = [], {}
    for setting, path in splits_of(data).items():
        items = items_of(data, path, setting=setting)
        rows[setting] = items.rows
        if clause := left_out_clause(items, data):
            warnings.append(f"{setting}: {clause}")
        if path.is_dir():
            warnings += [f"{setting}: {note}" for note in not_used(walk(path))]
        opened, _ = _opened(items.rows, only=_spread(list(dict.fromkeys(items.rows.paths))))
        warnings += header_warnings(opened, setting=setting)
        if doubles := items.rows.doubles():
            warnings.append(f"{setting}: {doubles}")
        num_files = len(set(items.rows.paths))
        if num_files > MOST_OPENED:
            warnings.append(
                f"{setting}: only {MOST_OPENED:,} of {num_files:,} files are opened before a run is queued; "
                "`sepdash data check PRESET` opens all of them"
            )
    trained = set(_places(rows["data.train"]))
    shared = sum(place in trained for place in _places(rows.get("data.valid", rows["data.train"])))
    if shared:
        warnings.append(
            f"data.valid shares {counted(shared, 'utterance')} with data.train, so validation scores include "
            "training audio; use separate files"
        )
    return warnings


def survey_unlabelled(
    data: UnlabelledData, *, content: bool = True, progress: Progress | None = None
) -> list[Survey]:
    """Survey what training and validation name (absolute paths), held to the settings.

    Arguments are those of `engine.data.checks.survey.survey_data`.
    """
    return [
        _survey(data, path, setting=setting, content=content, progress=progress)
        for setting, path in splits_of(data).items()
    ]


def survey_manifest(
    path: Path, *, content: bool = True, progress: Progress | None = None
) -> Survey:
    """Survey a manifest without texts (absolute path) that no preset describes."""
    data = UnlabelledData(train=path, valid=path)
    return _survey(data, path, setting="", content=content, progress=progress)


def has_texts(path: Path) -> bool:
    """Return whether a manifest has texts, or is none at all: its first row has the say."""
    if path.name == INDEX_NAME or is_file_list(path):
        return False
    bad_rows: list[str] = []
    _, values = next(objects_of(path, bad_rows), ("", {}))
    try:
        row = own_keys(values)
    except ValueError:
        return True
    return bool(bad_rows) or "text" in row or "path" not in row


def _survey(
    data: UnlabelledData,
    path: Path,
    *,
    setting: str,
    content: bool,
    progress: Progress | None,
) -> Survey:
    """Survey a folder or manifest; one that no setting names is held to no limits of duration."""
    rows, findings = _rows_and_findings(path)
    infos, more = _opened(rows)
    findings += more
    try:
        check_all_rates(infos, data.rate_hz, setting="")
    except DataError as error:
        findings += [Finding("rate", problem.message) for problem in error.problems]
    items = make_items(rows, data)
    if setting and len(rows) and (nothing := nothing_left(items, data, path=path)):
        findings.append(Finding("empty", nothing))
    findings += sounds(infos, content=content, progress=progress)
    notes = _notes(items, data) if setting else ()
    notes = (*notes, *filter(None, [rows.doubles()]))
    contents = Contents(infos, [], layout=counted(len(rows), "utterance"), notes=notes)
    return make_survey(path, setting, contents=contents, findings=findings)


def _rows_and_findings(path: Path) -> tuple[Rows, list[Finding]]:
    if path.is_dir() and kaldi_folder(path) is None:
        found_files = walk(path)
        files = found_files.named(is_audio_name)
        infos, problems = probe_each(files)
        findings = [Finding("unreadable", text) for text in (*found_files.problems, *problems)]
        if not files and not findings:
            findings.append(Finding("empty", f"{path}: no audio files, at any depth"))
        return rows_of_files(infos), findings
    found = read_manifest(path)
    kind: Literal["rows", "empty"] = "rows" if path.exists() else "empty"
    return found.rows, [Finding(kind, message) for message in found.bad_rows]


def _notes(items: Items, data: UnlabelledData) -> tuple[str, ...]:
    if not len(items):
        return ()
    lengths_s = items.lengths / data.rate_hz
    notes = [
        f"{counted(len(items), 'item')} of {lengths_s.min():.1f} to {lengths_s.max():.1f} s, "
        f"{lengths_s.sum() / 3600:.2f} h"
    ]
    if items.num_cut:
        notes.append(
            f"{counted(items.num_cut, 'utterance')} cut: longer than data.max_s = {data.max_s:g} s"
        )
    if items.num_joined:
        notes.append(
            f"{counted(items.num_joined, 'utterance')} joined: shorter than data.join_s = {data.join_s:g} s"
        )
    if clause := left_out_clause(items, data):
        notes.append(clause)
    return tuple(notes)


def _unusable(rows: Rows, data: UnlabelledData) -> list[str]:
    """Describe files that can't be read or converted, and rows that end after their file."""
    spread = _spread(list(dict.fromkeys(rows.paths)))
    infos, findings = _opened(rows, only=spread)
    problems = [finding.message for finding in findings]
    try:
        check_all_rates(infos, data.rate_hz, setting="")
    except DataError as error:
        problems += [problem.message for problem in error.problems]
    try:
        check_ends(infos, setting="")
    except DataError as error:
        problems += [problem.message for problem in error.problems]
    return problems


def _opened(
    rows: Rows, *, only: Sequence[str] | None = None
) -> tuple[list[AudioInfo], list[Finding]]:
    """Open files once each; return their headers, and what is wrong with files and the rows in them.

    Args:
        rows: the utterances.
        only: the files to open; all when left out.
    """
    wanted = dict.fromkeys(rows.paths if only is None else only)
    probed, problems = probe_each(map(Path, wanted))
    name_of = {Path(name): name for name in wanted}
    infos = {name_of[info.path]: info for info in probed}
    findings = [Finding("unreadable", message) for message in problems]
    for row in _unlike(rows, infos).tolist():
        problem = _difference(rows, row, info=infos[rows.paths[row]])
        findings.append(Finding("rows", f"{rows.place(row)}: {problem}"))
    return list(infos.values()), findings


def _unlike(rows: Rows, infos: Mapping[str, AudioInfo]) -> np.ndarray:
    """Return the rows that differ from their opened files."""
    of_file = {name: (info.frames, info.rate_hz) for name, info in infos.items()}
    frames, rate_hz = (
        np.array([of_file.get(name, (0, 0)) for name in rows.paths], np.int64).reshape(-1, 2).T
    )
    changed = (rows.frames > 0) & ((rows.frames != frames) | (rows.rate_hz != rate_hz))
    length_s = frames / np.maximum(rate_hz, 1)
    end_s = rows.start_s + rows.duration_s
    is_part = ~np.isnan(rows.duration_s)
    beyond = (rows.start_s >= length_s) | (end_s > length_s + ROUNDING_S)
    odd = is_part & (beyond | (rows.start_s < 0) | ~(rows.duration_s > 0))
    return np.flatnonzero((frames > 0) & (changed | odd))


def _difference(rows: Rows, row: int, *, info: AudioInfo) -> str:
    frames, rate_hz = int(rows.frames[row]), int(rows.rate_hz[row])
    if frames and (frames, rate_hz) != (info.frames, info.rate_hz):
        return (
            f"says {frames} samples at {rate_hz} Hz, but the file has {info.frames} at {info.rate_hz} Hz; "
            "it has changed: write the manifest again"
        )
    start_s, duration_s = float(rows.start_s[row]), float(rows.duration_s[row])
    return "; ".join(outside(start_s, duration_s, length_s=info.duration_s))


def _spread(names: Sequence[str]) -> Sequence[str]:
    if len(names) <= MOST_OPENED:
        return names
    picked = np.linspace(0, len(names) - 1, MOST_OPENED).astype(np.int64)
    return [names[place] for place in picked.tolist()]


def _places(rows: Rows) -> list[tuple[str, float]]:
    """Return file and start of each utterance; links count as the files that they lead to."""
    names = dict.fromkeys(rows.paths)
    # A million links would take half a minute to follow.
    real = {name: os.path.realpath(name) for name in names} if len(names) <= MOST_OPENED else {}
    return [
        (real.get(name, name), start)
        for name, start in zip(rows.paths, rows.start_s.tolist(), strict=True)
    ]
