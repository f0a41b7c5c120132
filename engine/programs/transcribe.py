"""`python -m engine.programs.transcribe CHECKPOINT INPUT...`: the process that `sepdash transcribe` starts.

An input is an audio file or a folder of them, or a manifest (.jsonl) or LibriSpeech folder, whose reference
texts are compared with the transcriptions. `--out` keeps the transcriptions as a manifest. A user error prints one message on stderr and exits with code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.start_up import loading
from models.terminal import safe_streams

if TYPE_CHECKING:
    from engine.metrics.word_errors import ErrorBreakdown
    from engine.recipes.speech.transcriber import Stretch, Transcriber

_MANIFESTS = (".jsonl", ".json", ".csv", ".tsv")
# Models trained on short utterances recognise slightly longer ones better as a whole than in parts.
_LONGEST_S = 20.0


@dataclass(frozen=True, slots=True)
class _Item:
    """Audio to transcribe, with its reference text if known."""

    path: Path
    start_s: float
    duration_s: float
    reference: str | None
    stretch: Stretch


@safe_streams()
def main(arguments: Sequence[str] | None = None) -> int:
    """Transcribe, print each result at once, and report the error rates; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with loading():
            from engine.precision import resolve_device
            from engine.recipes.speech.transcribing import load_transcriber

        transcriber = load_transcriber(options.checkpoint, resolve_device(options.device))
        items = [item for path in options.inputs for item in _items(path, transcriber)]
        if options.stream:
            _stream(transcriber, items)
            return 0
        longest_s = options.longest or max(_LONGEST_S, transcriber.data.max_s)
        _transcribe(transcriber, items, options=options, longest_s=longest_s)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        sys.stderr.write(f"sepdash: {error}\n")
        return 2
    return 0


def _items(path: Path, transcriber: Transcriber) -> Iterator[_Item]:
    from engine.data.files.audio_files import probe, scan_folder
    from engine.data.speech.transcripts import checked_transcripts, has_transcripts
    from models.folders import walk

    if path.is_dir() and not has_transcripts(walk(path)):
        infos = scan_folder(path, setting="")
    elif path.is_dir() or path.suffix.lower() in _MANIFESTS:
        infos = []
    else:
        infos = [probe(path)]
    for info in infos:
        yield _Item(
            info.path,
            0.0,
            duration_s=info.duration_s,
            reference=None,
            stretch=transcriber.whole(info),
        )
    if infos:
        return
    transcripts = checked_transcripts(path, transcriber.data, setting="")
    for item in transcripts.utterances:
        stretch = transcriber.between(
            transcripts.infos[item.path], item.start_s, duration_s=item.duration_s
        )
        yield _Item(
            item.path,
            item.start_s,
            duration_s=item.duration_s,
            reference=item.text,
            stretch=stretch,
        )


def _stream(transcriber: Transcriber, items: Sequence[_Item]) -> None:
    """Print the growing text of each item, with the seconds of audio read so far."""
    for item in items:
        sys.stdout.write(f"{item.path}\n")
        for heard_s, text in transcriber.stream(item.stretch):
            sys.stdout.write(f"{heard_s:8.2f} s  {text}\n")
            sys.stdout.flush()


def _transcribe(
    transcriber: Transcriber,
    items: Sequence[_Item],
    *,
    options: argparse.Namespace,
    longest_s: float,
) -> None:
    from engine.metrics.word_errors import ErrorBreakdown

    words, characters = ErrorBreakdown("words"), ErrorBreakdown("characters")
    rows: list[dict[str, Any]] = []
    stretches = [item.stretch for item in items]
    texts = transcriber.texts(stretches, beam=options.beam, longest_s=longest_s)
    try:
        for item, (text, parts) in zip(items, texts, strict=True):
            if parts > 1:
                sys.stderr.write(
                    f"{item.path}: {item.duration_s:.1f} s exceeds {longest_s:g} s; split into {parts} "
                    "parts at quiet points\n"
                )
            row = {
                "path": str(item.path), "start": round(item.start_s, 6),
                "duration": round(item.duration_s, 6), "text": text, "parts": parts,
            }  # fmt: skip
            if item.reference is not None:
                row["reference"] = item.reference
                row["errors"] = asdict(words.add(item.reference, text))
                characters.add(item.reference, text)
            rows.append(row)
            if not options.json:
                _show(item, text)
    finally:  # Ctrl-C keeps what is transcribed
        if options.out is not None and rows:
            _write_manifest(options.out, rows, total=len(items))
    if options.json:
        _write_json(rows, words, characters=characters, most=options.confusions)
    elif words.items:
        sys.stdout.write(_summary(words, characters, most=options.confusions))


def _write_manifest(path: Path, rows: Sequence[dict[str, Any]], *, total: int) -> None:
    from engine.data.speech.transcripts import Utterance, write_manifest

    utterances = [
        Utterance(
            Path(row["path"]).absolute(), row["start"], duration_s=row["duration"], text=row["text"]
        )
        for row in rows
    ]
    write_manifest(path.absolute(), utterances)
    empty = sum(not row["text"] for row in rows)
    note = f", {empty} of them without a text" if empty else ""
    note += f"; {total - len(rows)} recordings were not reached" if len(rows) < total else ""
    sys.stderr.write(f"wrote {path}: {len(rows)} transcriptions{note}\n")


def _show(item: _Item, text: str) -> None:
    place = "" if item.reference is None else f" at {item.start_s:.2f} s"
    sys.stdout.write(f"{item.path}{place}: {text}\n")
    sys.stdout.flush()


def _summary(words: ErrorBreakdown, characters: ErrorBreakdown, *, most: int) -> str:
    """Return the error rates and the most frequent errors, as lines."""
    total = words.total
    lines = [
        "",
        f"WER {total.rate:.2%}: {total.edits} errors in {total.length} words ({total.substitutions} "
        f"substituted, {total.deletions} deleted, {total.insertions} inserted)",
        f"CER {characters.total.rate:.2%}",
    ]
    for reference, hypothesis, times in words.most_frequent(most):
        if reference is None:
            what = f"{hypothesis} inserted"
        else:
            what = f"{reference} deleted" if hypothesis is None else f"{reference} -> {hypothesis}"
        lines.append(f"{times:6}  {what}")
    return "\n".join(lines) + "\n"


def _write_json(
    rows: Sequence[dict[str, Any]], words: ErrorBreakdown, *, characters: ErrorBreakdown, most: int
) -> None:
    values: dict[str, Any] = {"items": rows}
    if words.items:
        values |= {
            "wer": _or_none(words.total.rate),
            "cer": _or_none(characters.total.rate),
            "words": asdict(words.total),
            "characters": asdict(characters.total),
            "confusions": [
                {"reference": reference, "hypothesis": hypothesis, "times": times}
                for reference, hypothesis, times in words.most_frequent(most)
            ],
        }
    sys.stdout.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def _or_none(rate: float) -> float | None:
    return rate if rate == rate else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine.programs.transcribe", description=__doc__
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder")
    parser.add_argument("inputs", type=Path, nargs="+", help="audio files, manifests, folders")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--beam", type=int, default=1, help="beam width; 1: greedy decoding")
    parser.add_argument(
        "--longest",
        type=float,
        default=0.0,
        help="maximum length in seconds; 0: data.max_s, at least 20",
    )
    parser.add_argument(
        "--confusions", type=int, default=10, help="number of frequent errors to show"
    )
    parser.add_argument("--out", type=Path, help="manifest to write")
    parser.add_argument("--stream", action="store_true", help="print text while it is recognised")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
