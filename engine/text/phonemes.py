"""Phonemes of texts (IPA), by the optional package phonemizer and the program eSpeak NG. Free of torch.

Owns what a text is turned into, and the messages when something is missing. Each text is turned once in a
process; `sepdash data voice --set data.tokens=phonemes` keeps the phonemes of a data set in its manifests.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any

from engine.config.errors import DataError, Problem, nearest

_LOG = logging.getLogger(__name__)
_LOG.setLevel(logging.ERROR)  # it warns of each foreign word
_ESPEAK = Lock()  # the library keeps the text in hand in globals
_MOST_SHOWN = 12


def phonemes_of(text: str, language: str) -> str:
    """Return the phonemes of a text, its punctuation kept and stress marked, words divided by spaces.

    Args:
        text: normalised, in its own case: "US" is spelled, "us" is a word.
        language: a code of eSpeak NG, as `espeak-ng --voices` lists them.

    Raises:
        DataError: when phonemizer or eSpeak NG is missing, or does not know the language.
    """
    return _phonemes_of(text, language)


def missing() -> str:
    """Say what phonemes need that is not installed, and how to get it; empty if nothing."""
    if find_spec("phonemizer") is None:
        return "the package phonemizer, which is not installed: pip install 'sepdash[phonemes]'"
    if not _backend().is_available():
        return "eSpeak NG, which is not installed: install the package espeak-ng of your system"
    return ""


def check_language(language: str) -> None:
    """Raise an error for a language without phonemes.

    Raises:
        DataError: as `phonemes_of` does.
    """
    if lacking := missing():
        message = f"'phonemes' requires {lacking}, or set data.tokens = char"
        raise DataError([Problem("data.tokens", message)])
    known = sorted(_backend().supported_languages())
    if language not in known:
        alike = [code for code in known if code.partition("-")[0] == language.partition("-")[0]]
        near = (
            f"; expected {' or '.join(alike[:_MOST_SHOWN])}" if alike else nearest(language, known)
        )
        message = (
            f"{language!r} is not a language of eSpeak NG{near}; `espeak-ng --voices` lists all "
            f"{len(known)}"
        )
        raise DataError([Problem("data.language", message)])


def without_punctuation(phonemes: str) -> str:
    """Return phonemes without punctuation; marks of length, stress and tone belong to them."""
    return " ".join("".join(char if _is_phone(char) else " " for char in phonemes).split())


def source_of(languages: Iterable[str]) -> str:
    """Describe what made the phonemes, for reports: "eSpeak NG 1.51, en-us"."""
    version = ".".join(str(part) for part in _backend().version())
    return f"eSpeak NG {version}, {', '.join(languages)}"


def _is_phone(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LMN" or category == "Sk"


@lru_cache(maxsize=2**17)
def _phonemes_of(text: str, language: str) -> str:
    with _ESPEAK:
        (found,) = _opened(language).phonemize([text], strip=True)
    return " ".join(unicodedata.normalize("NFC", str(found)).split())


@lru_cache(maxsize=8)
def _opened(language: str) -> Any:
    check_language(language)
    return _backend()(
        language,
        preserve_punctuation=True,
        with_stress=True,
        language_switch="remove-flags",
        logger=_LOG,
    )


def _backend() -> Any:
    # Imported late: it takes a second.
    return import_module("phonemizer.backend").EspeakBackend
