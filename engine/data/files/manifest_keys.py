"""What the keys of a manifest's row mean, whoever wrote it: NeMo, Lhotse, Hugging Face, sepdash. Free of torch.

sepdash's own are `path`, `text`, and `start` and `duration` in seconds. A key that says where an
utterance lies or how long it is is understood or refused, never ignored: the whole file would be read
in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# Key -> what others call it. A row that has the key itself is not looked at for others.
NAMES: Mapping[str, tuple[str, ...]] = {
    "path": (
        "audio_filepath", "audio_path", "audio_file", "audio", "wav", "wav_path", "wav_filename", "file", "filename",
        "file_name",
    ),
    "text": ("transcript", "transcription", "sentence", "wrd", "label"),
    "speaker": ("speaker_id", "spk_id", "spk", "client_id"),
}  # fmt: skip
# Understood as they are: a file's own length, and where the words of a text are.
_FINE = {"path", "text", "start", "duration", "frames", "rate_hz", "words", "end", "offset"}
_PLACE = re.compile(
    r"(seg(ment)?s?|utt(erance)?|audio|clip)?_?"
    r"(starts?|begins?|beginning|onset|offset|ends?|stop|dur(ation)?s?|length|len|from|to)"
    r"(_?(time|at|pos|position|s|sec|secs|seconds?|ms|msec|milliseconds?|samples?|frames?|frame))?"
    r"|(start|end|begin|stop|num|n|max)_?(frame|sample)s?|[tx](min|max|0|1)|times?|position|time_?stamps?|segments?|channel(_selector|_id)?"
)
_CLOSE_S = 0.011


def means_place(key: str) -> bool:
    """Return whether a key that sepdash doesn't read may say where an utterance lies, or how long it is."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(" ", "_")
    return name not in _FINE and _PLACE.fullmatch(name) is not None


def own_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the keys of sepdash; others are kept as they are.

    Raises:
        ValueError: for what is there but can't be read, with what to do.
    """
    if isinstance(values.get("supervisions"), list) or "recording" in values or "sources" in values:
        return _of_lhotse(values)
    if "recording_id" in values and "path" not in values:
        raise ValueError(
            "is a supervision of Lhotse, without its recording; make cuts of both: "
            "`lhotse cut simple -r RECORDINGS -s SUPERVISIONS cuts.jsonl`"
        )
    found = dict(values)
    for key, others in NAMES.items():
        given = next((name for name in others if values.get(name) is not None), None)
        if key not in found and given is not None:
            found[key] = found[given] if given == "label" else found.pop(given)
    if isinstance(found.get("path"), dict):  # as the library datasets writes it
        found["path"] = found["path"].get("path")
    _understand_places(found)
    if unknown := [key for key in found if means_place(key) and not _is_nothing(key, found[key])]:
        names = ", ".join(map(repr, unknown))
        raise ValueError(
            f"{names} may say where the utterance is in its file, and would be ignored; give 'start' and "
            "'duration' in seconds instead, or remove it"
        )
    return found


def _understand_places(found: dict[str, Any]) -> None:
    """Take `offset` for `start`, and `end` for `start` and `duration`."""
    for key in ("start", "duration", "offset", "end"):
        if key in found and found[key] is None:
            del found[key]
    if "offset" in found:
        offset = found.pop("offset")
        if "start" in found and not _is_close(offset, found["start"]):
            raise ValueError(
                f"offset = {offset!r:.40} and start = {found['start']!r:.40}; give one of them"
            )
        found["start"] = offset
    if "end" in found:
        end, start = found.pop("end"), found.get("start", 0.0)
        if not _are_numbers(start, end):
            raise ValueError(f"end must be a number of seconds, found {end!r:.60}")
        if end <= start:
            raise ValueError(f"end = {end:g} s must be after start = {start:g} s")
        if "duration" in found and not _is_close(end - start, found["duration"]):
            raise ValueError(
                f"start = {start:g} and end = {end:g} are {end - start:g} s, but duration = "
                f"{found['duration']!r:.40}; give one of 'end' and 'duration'"
            )
        found["duration"] = found.get("duration", end - start)


def _is_nothing(key: str, value: Any) -> bool:
    """Return whether a value says nothing: none, or the only channel there usually is."""
    return value is None or (key.lower().startswith("channel") and value in (0, [0], "0"))


def _of_lhotse(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recording of Lhotse, or a cut with one supervision at most, as a row."""
    kind = values.get("type")
    if "tracks" in values or kind in ("MixedCut", "PaddingCut", "MultiCut"):
        raise ValueError(
            f"is a {kind or 'MixedCut'} of Lhotse, of several files or channels; save its audio with "
            "`cuts.save_audios(DIR)`, and the cuts that this returns"
        )
    recording = values if "sources" in values else values.get("recording")
    if not isinstance(recording, Mapping):
        raise ValueError("is a cut of Lhotse without a recording; make the cuts from recordings")
    found: dict[str, Any] = {"path": _source(recording)}
    if "sources" in values:
        return found
    if not _are_numbers(values.get("start", 0.0), values.get("duration")):
        raise ValueError("is a cut of Lhotse without start and duration in seconds")
    found |= {"start": values.get("start", 0.0), "duration": values["duration"]}
    spoken = values.get("supervisions") or []
    if len(spoken) > 1:
        raise ValueError(
            f"is a cut of Lhotse with {len(spoken)} supervisions; make one of each: "
            "`lhotse cut trim-to-supervisions CUTS NEW.jsonl`"
        )
    for one in spoken:
        found |= _supervised(one, found["duration"])
    return found


def _supervised(one: Any, duration_s: float) -> dict[str, Any]:
    if not isinstance(one, Mapping) or not _are_numbers(one.get("start", 0.0), one.get("duration")):
        raise ValueError("has a supervision of Lhotse without start and duration in seconds")
    start, own = one.get("start", 0.0), one["duration"]
    if not (_is_close(start, 0.0) and _is_close(own, duration_s)):
        raise ValueError(
            f"is a cut of Lhotse of {duration_s:g} s whose supervision is from {start:g} s for {own:g} s; make "
            "cuts of supervisions: `lhotse cut trim-to-supervisions CUTS NEW.jsonl`"
        )
    return {key: one[key] for key in ("text", "speaker") if one.get(key) is not None}


def _source(recording: Mapping[str, Any]) -> Any:
    sources = recording.get("sources")
    first = sources[0] if isinstance(sources, list) and len(sources) == 1 else None
    if not isinstance(first, Mapping):
        raise ValueError("is of Lhotse with several files for a recording; merge them first")
    if first.get("type") != "file":
        raise ValueError(
            f"is of Lhotse with audio of type {first.get('type')!r:.40}, which is not run or fetched; save it as "
            "files with `cuts.save_audios(DIR)`"
        )
    if recording.get("transforms"):
        raise ValueError(
            "is of Lhotse with transforms of the audio; save it as files with `cuts.save_audios(DIR)`"
        )
    return first.get("source")


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_close(one: Any, other: Any) -> bool:
    return _are_numbers(one, other) and abs(one - other) < _CLOSE_S


def unencodable(values: Mapping[str, Any]) -> Iterator[str]:
    """Describe texts of a row that no file or terminal can take: a half of a sign (a lone surrogate)."""
    for key, value in values.items():
        if not isinstance(value, str):
            continue
        # Names of files, and of speakers after them, have bytes that are no UTF-8 as surrogates; texts have none.
        errors = "strict" if key in ("text", "label") else "surrogateescape"
        try:
            value.encode("utf-8", errors)
        except UnicodeEncodeError as error:
            yield (
                f"{key} has half of a character (\\u{ord(value[error.start]):04x} at character {error.start + 1}), "
                "probably of an emoji that was cut in two; write the text again"
            )
        if key == "path" and "\0" in value:
            yield "path has a NUL character; no file can be named so"
