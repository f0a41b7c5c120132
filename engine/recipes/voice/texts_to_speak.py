"""Texts that a voice is to speak: read as it was trained to read, all checked before anything is spoken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.recipes.voice.speaking import TrainedVoice
from engine.text.normalise import prepared

_MOST_SHOWN = 12
_LONGEST_ALPHABET = 80


@dataclass(frozen=True, slots=True)
class TextToSpeak:
    """A text, as a person wrote it, as the model reads it, and its tokens."""

    text: str
    read_as: str
    tokens: tuple[int, ...]


def read_texts(voice: TrainedVoice, texts: Mapping[str, str]) -> list[TextToSpeak]:
    """Return texts as the model reads them.

    Args:
        voice: the model.
        texts: where each was found, for messages -> the text.

    Raises:
        DataError: when something that texts need is not installed.
        ValueError: naming every text that can't be spoken, and why.
    """
    read = {place: prepared(text, voice.data) for place, text in texts.items()}
    unknown = {
        place: chars for place, text in read.items() if (chars := voice.tokenizer.unknown(text))
    }
    tokens = {
        place: tuple(voice.tokenizer.encode(text)) for place, text in read.items() if place not in unknown
    }  # fmt: skip
    problems = (_no_tokens(voice, unknown), _no_text(read, texts), _no_room(voice, tokens))
    if any(problems):
        raise ValueError("\n".join(filter(None, problems)))
    return [TextToSpeak(text, read[place], tokens[place]) for place, text in texts.items()]


def _no_room(voice: TrainedVoice, tokens: Mapping[str, Sequence[int]]) -> str:
    """Name the texts that have more tokens than the model has places for."""
    room = voice.network.max_text - 2
    long = [f"{place}: {len(found):,}" for place, found in tokens.items() if len(found) > room]
    if not long:
        return ""
    return (
        f"too many tokens for this model, which has room for {room:,} (model.max_text less START and STOP): "
        f"{_listed(long)}; split the text into lines of a --file"
    )


def _no_tokens(voice: TrainedVoice, unknown: Mapping[str, Sequence[str]]) -> str:
    """Name the characters that the model has no tokens for."""
    if not unknown:
        return ""
    named = _listed([f"{place}: {' '.join(map(repr, chars))}" for place, chars in unknown.items()])
    alphabet = "".join(name for name in voice.tokenizer.names if len(name) == 1).strip()
    known = f" (it has: {alphabet})" if alphabet and len(alphabet) <= _LONGEST_ALPHABET else ""
    kind = "phonemes" if voice.data.tokens == "phonemes" else "characters"
    return f"this model has no tokens for some {kind}: {named}{known}; write the text without them"


def _no_text(read: Mapping[str, str], texts: Mapping[str, str]) -> str:
    empty = [place for place, text in read.items() if not text]
    if not empty:
        return ""
    written = [place for place in empty if texts[place].strip()]
    why = (
        f": data.punctuation = {'drop'!r} leaves nothing of {texts[written[0]]!r:.60}"
        if written
        else ""
    )
    return f"nothing to speak in {_listed(empty)}{why}; write words"


def _listed(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - _MOST_SHOWN} more" if len(parts) > _MOST_SHOWN else ""
    return "; ".join(parts[:_MOST_SHOWN]) + more
