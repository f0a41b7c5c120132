"""Writes a corpus as the manifests that training reads, in a folder of its own. Free of torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.config.errors import DataError, Problem, encodable
from engine.config.text_data import TextData
from engine.data.corpus.clips import Clip
from engine.data.corpus.survey import Corpus
from engine.data.speech.transcripts import Utterance, write_manifest
from engine.text.normalise import prepared

TRAIN, VALID, REPORT = "train.jsonl", "valid.jsonl", "report.json"
_OURS = frozenset({TRAIN, VALID, REPORT})


def check_out(out: Path, *, replace: bool) -> None:
    """Raise an error for a folder that can't be written, or whose content would be lost.

    Raises:
        DataError: when it holds other files, or manifests and `replace` is not set.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise DataError([Problem("", f"{out} is not a folder; choose another one with -o")])
    held = {path.name for path in out.iterdir()} if out.exists() else set()
    if held - _OURS:
        message = f"{out} holds other files ({min(held - _OURS)}); choose another folder with -o"
        raise DataError([Problem("", message)])
    if held and not replace:
        message = f"{out} has been written before; choose another folder with -o, or add --replace"
        raise DataError([Problem("", message)])


def require_clips(corpus: Corpus) -> None:
    """Check that a corpus can be trained on.

    Raises:
        DataError: when nothing is left to train on, or to validate with.
    """
    for clips, what in ((corpus.train, "train on"), (corpus.valid, "hold out for validation")):
        if not clips:
            message = (
                f"{corpus.folder}: no clips to {what}, nothing was written; see the findings above"
            )
            raise DataError([Problem("", message)])


def write_corpus(corpus: Corpus, out: Path, *, data: TextData, about: Mapping[str, Any]) -> None:
    """Write `train.jsonl`, `valid.jsonl` and `report.json`, all or none; texts are as the table has them.

    With `data.tokens = "phonemes"` each row keeps its phonemes, so that training makes none.

    Args:
        corpus: what to write.
        out: the folder, passed by `check_out`; what was written there before is replaced.
        data: the settings of texts.
        about: further values of the report.

    Raises:
        DataError: when nothing is left to train on, or to validate with.
    """
    require_clips(corpus)
    aside = out.with_name(f".{out.name}.new")
    before = out.with_name(f".{out.name}.before")
    for leftover in (aside, before):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        _write(aside / TRAIN, corpus.train, data=data)
        _write(aside / VALID, corpus.valid, data=data)
        report = figures(corpus, data=data, about=about)
        (aside / REPORT).write_text(
            encodable(json.dumps(report, indent=2, ensure_ascii=False)) + "\n", "utf-8"
        )
        if out.exists():
            out.rename(before)
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        if before.exists() and not out.exists():
            before.rename(out)
        raise
    shutil.rmtree(before, ignore_errors=True)


def _write(path: Path, clips: Sequence[Clip], *, data: TextData) -> None:
    rows = [
        Utterance(
            clip.info.path.absolute(), clip.start_s, duration_s=clip.duration_s, text=clip.text
        )
        for clip in clips
    ]
    extra: list[dict[str, Any]] = []
    for clip in clips:
        phonemes = dict(clip.phonemes)
        if data.tokens == "phonemes":
            # Punctuation is kept here, and dropped when it is read, if at all.
            kept = data.model_copy(update={"punctuation": "plain"})
            phonemes[data.language] = prepared(clip.text, kept, kept=clip.phonemes)
        extra.append({"speaker": clip.speaker, **({"phonemes": phonemes} if phonemes else {})})
    write_manifest(path, rows, extra=extra)


def figures(corpus: Corpus, *, data: TextData, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that is known of a corpus as JSON values: the content of `report.json`."""
    return {
        "drawn": dict(about),
        "settings": data.model_dump(
            mode="json", include=set(TextData.model_fields) - {"train", "valid"}
        ),
        "folder": str(corpus.folder),
        "layout": corpus.layout,
        "rows": corpus.num_rows,
        "train": _of(corpus.train),
        "valid": _of(corpus.valid),
        "speakers": {
            name: {"train": train, "valid": valid, "duration_s": round(seconds, 3)}
            for name, (train, valid, seconds) in corpus.speakers.items()
        },
        "text": asdict(corpus.changes),
        "findings": [asdict(finding) for finding in corpus.findings],
        "notes": list(corpus.notes),
    }


def _of(clips: Sequence[Clip]) -> dict[str, float]:
    return {"clips": len(clips), "duration_s": round(sum(clip.duration_s for clip in clips), 3)}
