"""A folder of recordings with texts, judged before training: which clips are used, which are held out, what is odd.

Nothing is written here (`engine.data.corpus.manifests`). Free of torch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

from engine.config.errors import counted
from engine.config.text_data import TextData
from engine.data.corpus.clips import KINDS, Clip, Finding, Speakers, clips_of
from engine.data.corpus.hearing import Heard, listen_to
from engine.data.corpus.held_out import FEWEST, Candidate, draw_held_out
from engine.data.corpus.names import AudioNames
from engine.data.corpus.pace import odd_ones
from engine.data.corpus.tables import Table, read_table
from engine.data.files.audio_files import unread_clause
from engine.text.changes import TextChanges, changes_of
from engine.text.normalise import prepared
from models.folders import walk

_CLIPPED = 0.001  # share of samples at full scale
_RARE = 3  # training texts
_FEW = 5  # validation clips


@dataclass(frozen=True, slots=True)
class Limits:
    """Which clips are used, in seconds and characters; `silence_s`: silence at an end that is reported."""

    min_s: float
    max_s: float
    max_chars: int
    silence_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Drawing:
    """How clips are held out: a share of each speaker, drawn with a seed, or with `keep` those the table names."""

    share: float = 0.05
    seed: int = 0
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is in a folder.

    Attributes:
        folder: of the tables; what their folders have in common.
        layout: what the tables are.
        num_rows: rows of the tables, those that can't be understood included.
        train: clips for training.
        valid: clips that are held out.
        changes: what normalisation makes of their texts.
        findings: what is wrong or odd, in the order of `KINDS`.
        notes: further lines.
    """

    folder: Path
    layout: str
    num_rows: int
    train: tuple[Clip, ...]
    valid: tuple[Clip, ...]
    changes: TextChanges
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def speakers(self) -> dict[str, tuple[int, int, float]]:
        """Return the clips for training and for validation, and the seconds of both, by speaker."""
        found: dict[str, tuple[int, int, float]] = {}
        for clips, is_train in ((self.train, True), (self.valid, False)):
            for clip in clips:
                train, valid, seconds = found.get(clip.speaker, (0, 0, 0.0))
                found[clip.speaker] = (
                    train + is_train,
                    valid + (not is_train),
                    seconds + clip.duration_s,
                )
        return dict(sorted(found.items()))


def survey_corpus(
    targets: Sequence[Path],
    data: TextData,
    *,
    limits: Limits,
    drawing: Drawing,
    speaker: str = "",
    by_folder: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Read tables of recordings and texts, listen to the recordings, and say what to train on.

    Args:
        targets: folders, or the tables themselves; at least one.
        data: how texts are normalised and divided into tokens.
        limits: which clips are used.
        drawing: which are held out.
        speaker: of rows that name none; the name of the table's folder if empty.
        by_folder: whether folders of files are speakers, where rows name none.
        progress: called with (clips heard, clips in all).

    Raises:
        DataError: when there is no table to read, or phonemes or numbers can't be made.
    """
    tables = [read_table(target) for target in targets]
    root = Path(commonpath([table.folder.absolute() for table in tables]))
    clips: list[Clip] = []
    findings: list[Finding] = []
    beside: list[str] = []
    for table in tables:
        names = AudioNames(table.folder)
        speakers = Speakers(speaker or table.folder.absolute().name, by_folder)
        found, more = clips_of(table, names, speakers=speakers, root=root)
        clips += found
        findings += more
        beside += _left_beside(table, names)
    clips, texts, more = _within(clips, data, limits=limits)
    findings += more
    clips, texts, heard, more = _listened(clips, texts, progress=progress)
    findings += [*more, *_sounds_odd(clips, heard, limits=limits), *_rates(clips)]
    findings += _texts_odd(clips, texts, heard=heard)
    chosen, notes = _held_out(clips, texts, drawing=drawing)
    train = [place for place in range(len(clips)) if place not in chosen]
    findings += _rare([texts[place] for place in train])
    changes, _ = changes_of(
        [clip.text for clip in clips], data, kept=[clip.phonemes for clip in clips]
    )
    kinds = list(KINDS)
    return Corpus(
        root, "; ".join(dict.fromkeys(table.layout for table in tables)),
        num_rows=sum(len(table.rows) + len(table.bad_rows) for table in tables),
        train=tuple(clips[place] for place in train),
        valid=tuple(clips[place] for place in sorted(chosen)),
        changes=changes,
        findings=tuple(sorted(dict.fromkeys(findings), key=lambda found: kinds.index(found.kind))),
        notes=(*notes, *beside),
    )  # fmt: skip


def _within(
    clips: Sequence[Clip], data: TextData, *, limits: Limits
) -> tuple[list[Clip], list[str], list[Finding]]:
    """Return the clips within the limits, their texts as tokenizers read them, and what is wrong with others."""
    texts = [prepared(clip.text, data, kept=clip.phonemes) for clip in clips]
    kept: list[tuple[Clip, str]] = []
    findings = []
    for clip, text in zip(clips, texts, strict=True):
        if not text:
            findings.append(
                Finding(
                    "empty", f"{clip.name}: text {clip.text!r:.60} is empty after normalisation"
                )
            )
        elif clip.duration_s < limits.min_s:
            findings.append(
                Finding(
                    "short",
                    f"{clip.name}: {clip.duration_s:.2f} s, shorter than {limits.min_s:g} s",
                )
            )
        elif clip.duration_s > limits.max_s:
            findings.append(
                Finding(
                    "long", f"{clip.name}: {clip.duration_s:.1f} s, longer than {limits.max_s:g} s"
                )
            )
        elif len(text) > limits.max_chars:
            what = "phonemes" if data.tokens == "phonemes" else "characters"
            findings.append(
                Finding("text", f"{clip.name}: {len(text)} {what}, more than {limits.max_chars}")
            )
        else:
            kept.append((clip, text))
    return [clip for clip, _ in kept], [text for _, text in kept], findings


def _listened(
    clips: Sequence[Clip],
    texts: Sequence[str],
    *,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Clip], list[str], list[Heard], list[Finding]]:
    """Return the clips that can be heard and are there once, with texts and sound, and what is wrong with others."""
    findings: list[Finding] = []
    first: dict[str, int] = {}
    kept: list[tuple[Clip, str, Heard]] = []
    parts = [(clip.info, clip.start_s, clip.duration_s) for clip in clips]
    for place, heard in enumerate(listen_to(parts, progress)):
        clip = clips[place]
        if heard.problem:
            findings.append(Finding("unreadable", heard.problem))
        elif heard.is_silent:
            findings.append(Finding("silent", f"{clip.name}: silent, its peak is {heard.peak:.1e}"))
        elif (other := first.setdefault(heard.digest, place)) != place:
            same = "" if clips[other].text == clip.text else ", with another text"
            findings.append(
                Finding("duplicate", f"{clip.name}: same audio as {clips[other].name}{same}")
            )
        else:
            kept.append((clip, texts[place], heard))
    return [k[0] for k in kept], [k[1] for k in kept], [k[2] for k in kept], findings


def _sounds_odd(
    clips: Sequence[Clip], heard: Sequence[Heard], *, limits: Limits
) -> Iterator[Finding]:
    for clip, sound in zip(clips, heard, strict=True):
        if sound.clipped > _CLIPPED:
            yield Finding(
                "clipped", f"{clip.name}: {sound.clipped:.1%} of its samples are at full scale"
            )
        ends = [
            f"{seconds:.2f} s at the {where}"
            for seconds, where in ((sound.lead_s, "start"), (sound.tail_s, "end"))
            if seconds > limits.silence_s
        ]
        if ends:
            yield Finding(
                "ends", f"{clip.name}: silent for {' and '.join(ends)}, of {clip.duration_s:.2f} s"
            )


def _rates(clips: Sequence[Clip]) -> Iterator[Finding]:
    rates = Counter(clip.info.rate_hz for clip in clips).most_common()
    for rate_hz, number in rates[1:]:
        example = next(clip.name for clip in clips if clip.info.rate_hz == rate_hz)
        yield Finding(
            "rate",
            f"{counted(number, 'clip')} of {rate_hz} Hz, for example {example}; most have {rates[0][0]} Hz",
        )
    wide = [clip.name for clip in clips if clip.info.channels > 1]
    if wide:
        yield Finding("channels", f"{counted(len(wide), 'clip')}, for example {wide[0]}")


def _texts_odd(
    clips: Sequence[Clip], texts: Sequence[str], *, heard: Sequence[Heard]
) -> Iterator[Finding]:
    seconds = [
        max(0.05, clip.duration_s - sound.lead_s - sound.tail_s)
        for clip, sound in zip(clips, heard, strict=True)
    ]
    speakers = [clip.speaker for clip in clips]
    for odd in odd_ones(speakers, [len(text) for text in texts], seconds=seconds):
        yield Finding(
            "pace",
            f"{clips[odd.place].name}: {odd.seconds:.1f} s of speech for {len(texts[odd.place])} characters "
            f"({odd.seconds / len(texts[odd.place]):.3f} s each), about {odd.expected_s:.1f} s expected",
        )
    same: Mapping[tuple[str, str], list[str]] = defaultdict(list)
    for clip, text in zip(clips, texts, strict=True):
        same[clip.speaker, text].append(clip.name)
    for (speaker, text), names in same.items():
        if len(names) > 1:
            yield Finding("repeated", f"{names[0]}: {text!r:.60}, {len(names)} times by {speaker}")


def _held_out(
    clips: Sequence[Clip], texts: Sequence[str], *, drawing: Drawing
) -> tuple[frozenset[int], list[str]]:
    """Return the places of the clips for validation, and what to say about them."""
    if drawing.keep:
        chosen = frozenset(place for place, clip in enumerate(clips) if clip.held_out)
        return chosen, [f"validation: the {counted(len(chosen), 'clip')} that the tables name"]
    notes = []
    if any(clip.held_out for clip in clips):
        notes.append(
            "the tables' own validation part is drawn anew, by speaker; --keep-split keeps theirs"
        )
    candidates = [
        Candidate(clip.speaker, f"{clip.info.path.name} {clip.start_s:.3f}", text)
        for clip, text in zip(clips, texts, strict=True)
    ]
    draw = draw_held_out(candidates, share=drawing.share, seed=drawing.seed)
    if draw.few:
        names = ", ".join(draw.few[:5]) + (", ..." if len(draw.few) > 5 else "")
        notes.append(
            f"no validation clips of {counted(len(draw.few), 'speaker')} with fewer than {FEWEST} clips ({names})"
        )
    if draw.kept:
        notes.append(
            f"{counted(len(draw.kept), 'clip')} left for training after the draw: each has a character that no "
            "other training text has"
        )
    if 0 < len(draw.chosen) < _FEW:
        notes.append(
            f"{counted(len(draw.chosen), 'validation clip')} only, so scores will be coarse; --valid 0.2 holds out more"
        )
    trained = {text for place, text in enumerate(texts) if place not in draw.chosen}
    known = sum(texts[place] in trained for place in draw.chosen)
    if known:
        notes.append(
            f"{known} of {len(draw.chosen)} validation texts are said in training clips, too"
        )
    return draw.chosen, notes


def _rare(texts: Sequence[str]) -> Iterator[Finding]:
    """Name the characters of very few training texts."""
    counts = Counter(char for text in texts for char in set(text) - {" "})
    if len(texts) > 10 * _RARE:
        for char, number in sorted(counts.items(), key=lambda item: (item[1], item[0])):
            if number < _RARE:
                yield Finding(
                    "characters", f"{char!r} in {counted(number, 'training text')} of {len(texts)}"
                )


def _left_beside(table: Table, names: AudioNames) -> Iterator[str]:
    """Say what else the folder holds, and what to do about a table without texts."""
    if table.rows and not any(row.text for row in table.rows):
        yield (
            f"no row of {table.files[0].name} has a text yet; fill them in, or let a recogniser do it: `sepdash "
            f"transcribe RUN {table.folder} -o texts.jsonl`, then `sepdash data voice texts.jsonl`"
        )
    meant = {row.name.replace("\\", "/").rpartition("/")[2].lower() for row in table.rows}
    beside = [
        path
        for path in names.all
        if path.name.lower() not in meant and path.stem.lower() not in meant
    ]
    if beside:
        yield (
            f"{counted(len(beside), 'audio file')} that no row names, for example "
            f"{beside[0].relative_to(table.folder.parent)}"
        )
    if unread := unread_clause(walk(table.folder)):
        yield unread
