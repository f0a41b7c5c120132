"""What tokenizers read of a transcript: its normalised text, or its phonemes. Free of torch.

Owns normalisation (letter case, punctuation, numbers, spaces) and the vocabulary of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from engine.config.text_data import TextData
from engine.text.english import cleaned
from engine.text.numbers import spelled_out
from engine.text.phonemes import phonemes_of, without_punctuation

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u02bc": "'"})
# Typographic characters -> plain ones; the ellipsis is the only one that grows.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u201a\u201b\u2039\u203a\u0060\u00b4\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2212", "-"),
        **dict.fromkeys("\u2013\u2014\u2015", " - "),
        "\u2026": "...",
    }
)
_JOINERS = "\u200c\u200d"  # invisible, but they belong to the spelling of Persian and Indic scripts
_NOT_SPOKEN = re.compile(r"[^A-Za-z0-9']")
_LONE_APOSTROPHE = re.compile(r"(?<!\w)'(?!\w)")
_MOST_SHOWN = 8


def normalise(text: str, data: TextData) -> str:
    """Return a text normalised by `data.case` and `data.punctuation`, with single spaces.

    Unicode is composed (NFC). An apostrophe that touches a letter belongs to its word.
    """
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    if data.numbers == "words":
        text = spelled_out(text, data.language)
    if data.case != "keep":
        text = text.lower() if data.case == "lower" else text.upper()
    if data.punctuation == "drop":
        if text.isascii():  # ten times faster, and most texts are
            text = _NOT_SPOKEN.sub(" ", text)
        else:
            text = "".join(char if _is_spoken(char) else " " for char in text)
        text = _LONE_APOSTROPHE.sub(" ", text)
    elif data.punctuation == "plain" and not (text.isascii() and text.isprintable()):
        text = "".join(char for char in text.translate(_PLAIN) if _is_visible(char))
    return " ".join(text.split())


def prepared(text: str, data: TextData, *, kept: Mapping[str, str] | None = None) -> str:
    """Return what the tokenizer of some settings reads of a text.

    That is the normalised text, or with `data.tokens = "phonemes"` its phonemes, which are made of the text in
    its own case, with its punctuation; `data.punctuation = "drop"` drops that of the phonemes. English texts for
    `data.tokens = "bpe"` are cleaned as TorToiSe's are.

    Args:
        text: as a person wrote it.
        data: the settings.
        kept: phonemes by language, made before (and corrected by hand, maybe); used as they are.

    Raises:
        DataError: when something that the settings require is not installed.
    """
    if data.cleans_english:
        return cleaned(text)
    if data.tokens != "phonemes":
        return normalise(text, data)
    phonemes = (kept or {}).get(data.language)
    if phonemes is None:
        phonemes = phonemes_of(phoneme_source(text, data), data.language)
    phonemes = unicodedata.normalize("NFC", phonemes)
    return (
        without_punctuation(phonemes) if data.punctuation == "drop" else " ".join(phonemes.split())
    )


def plain_signs(text: str) -> str:
    """Return a text with typographic quotes, dashes and ellipses replaced by plain ones."""
    return text.translate(_APOSTROPHES).translate(_PLAIN)


def phoneme_source(text: str, data: TextData) -> str:
    """Return the text that phonemes are made of."""
    return normalise(text, data.model_copy(update={"case": "keep", "punctuation": "plain"}))


def _is_visible(char: str) -> bool:
    """Return whether a character is neither a control character nor an invisible format mark; white space is."""
    return (
        char.isspace()
        or char in _JOINERS
        or unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cn")
    )


def _is_spoken(char: str) -> bool:
    return char.isalnum() or char == "'" or unicodedata.category(char).startswith("M")


def vocabulary_of(data: TextData, texts: Iterable[str]) -> str:
    """Return the characters of char tokens besides the space, sorted.

    Those of `data.vocabulary`, or where it is empty, those that occur in the (normalised) texts.
    """
    return "".join(sorted(set(data.vocabulary or set().union(*texts)) - {" "}))


def strangers(text: str, vocabulary: str) -> str:
    """Describe the characters of a text that are not in a vocabulary; empty if all are."""
    unknown = sorted(set(text) - set(vocabulary) - {" "})
    shown = ", ".join(f"{char!r}" for char in unknown[:_MOST_SHOWN])
    return f"{shown} and {len(unknown) - _MOST_SHOWN} more" if len(unknown) > _MOST_SHOWN else shown
