"""Normalisation of transcripts before tokenisation. Free of torch.

Owns normalisation (letter case, punctuation, spaces) and the vocabulary of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from engine.config.speech import SpeechData

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'"})
_NOT_SPOKEN = re.compile(r"[^A-Za-z0-9']")
_LONE_APOSTROPHE = re.compile(r"(?<!\w)'(?!\w)")
_MOST_SHOWN = 8


def normalise(text: str, data: SpeechData) -> str:
    """Return a text normalised by `data.case` and `data.punctuation`, with single spaces.

    Unicode is composed (NFC). An apostrophe that touches a letter belongs to its word.
    """
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    if data.case != "keep":
        text = text.lower() if data.case == "lower" else text.upper()
    if data.punctuation == "drop":
        if text.isascii():  # ten times faster, and most texts are
            text = _NOT_SPOKEN.sub(" ", text)
        else:
            text = "".join(char if _is_spoken(char) else " " for char in text)
        text = _LONE_APOSTROPHE.sub(" ", text)
    return " ".join(text.split())


def _is_spoken(char: str) -> bool:
    return char.isalnum() or char == "'" or unicodedata.category(char).startswith("M")


def vocabulary_of(data: SpeechData, texts: Iterable[str]) -> str:
    """Return the characters of char tokens besides the space, sorted.

    Those of `data.vocabulary`, or where it is empty, those that occur in the (normalised) texts.
    """
    return "".join(sorted(set(data.vocabulary or set().union(*texts)) - {" "}))


def strangers(text: str, vocabulary: str) -> str:
    """Describe the characters of a text that are not in a vocabulary; empty if all are."""
    unknown = sorted(set(text) - set(vocabulary) - {" "})
    shown = ", ".join(f"{char!r}" for char in unknown[:_MOST_SHOWN])
    return f"{shown} and {len(unknown) - _MOST_SHOWN} more" if len(unknown) > _MOST_SHOWN else shown
