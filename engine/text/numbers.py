"""Numbers in digits spelled out as words, by the optional package num2words. Free of torch.

Whole numbers, decimals and English ordinals ("3rd"); anything else, such as dates and times, is read as the
numbers it is made of.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from engine.config.errors import DataError, Problem

_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)([^\W\d_]*)")
_ORDINAL_ENDINGS = frozenset({"st", "nd", "rd", "th"})
# Elsewhere the comma comes before the decimals, and points (or spaces) group the thousands.
_DECIMAL_POINT = frozenset({"en", "he", "ja", "ko", "th", "bn", "te", "kn"})
_MOST_DIGITS = 15  # longer ones are codes, not quantities


def spelled_out(text: str, language: str) -> str:
    """Return a text with its numbers as words: "at 3.5 km" -> "at three point five km".

    Args:
        text: any text.
        language: a code of eSpeak NG, such as "en-us" or "de".

    Raises:
        DataError: when num2words is missing or does not know the language.
    """
    if not any(char.isdecimal() for char in text):
        return text
    code = _code_of(language)

    def words(match: re.Match[str]) -> str:
        spelled = _words(match[1], code, ending=match[2])
        before = text[match.start() - 1 : match.start()] if match.start() else ""
        return f" {spelled}" if before.isalnum() else spelled

    return _NUMBER.sub(words, text)


def missing() -> str:
    """Say what spelled-out numbers need that is not installed, and how to get it; empty if nothing."""
    if find_spec("num2words") is None:
        return "the package num2words, which is not installed: pip install 'sepdash[numbers]'"
    return ""


def _words(number: str, code: str, *, ending: str) -> str:
    base = code.partition("_")[0]
    if base == "en" and ending in _ORDINAL_ENDINGS and number.isdecimal():
        return _spell(int(number), code, ordinal=True)
    point, group = (".", ",") if base in _DECIMAL_POINT else (",", ".")
    if re.fullmatch(rf"\d{{1,3}}(?:{re.escape(group)}\d{{3}})+(?:{re.escape(point)}\d+)?", number):
        number = number.replace(group, "")
    whole, _, decimals = number.partition(point)
    if whole.isdecimal() and decimals.isdecimal():
        spelled = _spell(f"{int(whole)}.{decimals}", code)
    else:
        spelled = " ".join(_whole(part, code) for part in re.split("[.,]", number))
    return f"{spelled} {ending}" if ending else spelled


def _whole(digits: str, code: str) -> str:
    """Return the words of a whole number; those of each digit where it is a code."""
    is_code = len(digits) > _MOST_DIGITS or (len(digits) > 1 and int(digits[0]) == 0)
    return " ".join(_spell(int(part), code) for part in (digits if is_code else [digits]))


@lru_cache(maxsize=4_096)
def _spell(number: int | str, code: str, *, ordinal: bool = False) -> str:
    to_words: Any = import_module("num2words").num2words
    try:
        words = str(to_words(number, lang=code, ordinal=ordinal))
    except NotImplementedError:  # some languages have no decimals there
        return " ".join(
            str(to_words(int(digit), lang=code)) for digit in str(number) if digit.isdecimal()
        )
    return words.replace(",", "")


@lru_cache(maxsize=64)
def _code_of(language: str) -> str:
    """Return what num2words calls a language of eSpeak NG."""
    if lacking := missing():
        message = f"'words' requires {lacking}, or set data.numbers = keep"
        raise DataError([Problem("data.numbers", message)])
    known = import_module("num2words").CONVERTER_CLASSES
    base, _, region = language.replace("_", "-").partition("-")
    for code in (f"{base}_{region.upper()}", base):
        if code in known:
            return code
    message = (
        f"data.language = {language!r}: num2words does not spell numbers in this language; expected one of "
        f"{', '.join(sorted(known))}, or set data.numbers = keep"
    )
    raise DataError([Problem("data.language", message)])
