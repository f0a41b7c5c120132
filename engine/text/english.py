"""English texts as TorToiSe was trained to read them: its text cleaner, so that its tokens come out. Free of torch.

ASCII letters, lower case, numbers and usual abbreviations in words, no double quotes (the cleaners of
keithito/tacotron, as in neonbjb/tortoise-tts, `tokenizer.py`). Words of numbers are those of the optional package
inflect. Letters of other scripts stay, and so are unknown to its tokens.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from engine.config.errors import DataError, Problem

_ABBREVIATIONS = {
    "mrs": "misess", "mr": "mister", "dr": "doctor", "st": "saint", "co": "company", "jr": "junior",
    "maj": "major", "gen": "general", "drs": "doctors", "rev": "reverend", "lt": "lieutenant",
    "hon": "honorable", "sgt": "sergeant", "capt": "captain", "esq": "esquire", "ltd": "limited",
    "col": "colonel", "ft": "fort",
}  # fmt: skip
_SHORT = [(re.compile(rf"\b{short}\."), whole) for short, whole in _ABBREVIATIONS.items()]
# What has no ASCII letter in it once its accents are taken off.
_ASCII = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4\u02bc", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
        **dict.fromkeys("\u2014\u2015", "--"),
        "\u2026": "...", "\u00ab": "<<", "\u00bb": ">>", "\u00bf": "?", "\u00a1": "!", "\u00d7": "x",
        "\u00df": "ss", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE", "\u00f8": "o",
        "\u00d8": "O", "\u0142": "l", "\u0141": "L", "\u0111": "d", "\u0110": "D", "\u00fe": "th",
        "\u00de": "Th", "\u0131": "i", "\u00a0": " ", "\u20ac": "EUR", "\u00a3": "PS", "\u00b0": "deg",
        "\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4",
    }
)  # fmt: skip
_GROUPED = re.compile(r"([0-9][0-9,]+[0-9])")
_DOLLARS = re.compile(r"\$([0-9.,]*[0-9]+)")
_DECIMAL = re.compile(r"([0-9]+)\.([0-9]+)")
_ORDINAL = re.compile(r"[0-9]+(?:st|nd|rd|th)")
_NUMBER = re.compile(r"[0-9]+")
# Above it, inflect has no words.
_MOST_DIGITS = 36


def missing() -> str:
    """Say what the tokens of TorToiSe need that is not installed, and how to get it; empty if nothing."""
    lacking = [name for name in ("tokenizers", "inflect") if find_spec(name) is None]
    if not lacking:
        return ""
    packages = " and ".join(lacking)
    are = "packages %s, which are" if len(lacking) > 1 else "package %s, which is"
    return f"the {are % packages} not installed: pip install 'sepdash[tortoise]'"


def check_packages() -> None:
    """Raise an error where a package is missing.

    Raises:
        DataError: naming it, and how to install it.
    """
    if lacking := missing():
        raise DataError([Problem("data.tokens", f"'bpe' requires {lacking}")])


def cleaned(text: str) -> str:
    """Return a text as TorToiSe reads it: "Dr. Ng: 21!" -> "doctor ng: twenty-one!".

    Raises:
        DataError: when inflect is missing.
    """
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.translate(_ASCII))
        text = unicodedata.normalize("NFC", _without_accents(parts))
    text = text.lower()
    if any(char.isdecimal() for char in text):
        text = _with_words_for_numbers(text)
    for short, whole in _SHORT:
        text = short.sub(whole, text)
    return " ".join(text.split()).replace('"', "")


def _without_accents(text: str) -> str:
    """Drop the accents behind ASCII letters; marks of other scripts are part of their letters."""
    kept: list[str] = []
    base = ""
    for char in text:
        if not unicodedata.combining(char):
            base = char
        elif base.isascii():
            continue
        kept.append(char)
    return "".join(kept)


def _with_words_for_numbers(text: str) -> str:
    check_packages()
    text = _GROUPED.sub(lambda match: match[1].replace(",", ""), text)
    text = _DOLLARS.sub(lambda match: _dollars(match[1]), text)
    text = _DECIMAL.sub(r"\1 point \2", text)
    text = _ORDINAL.sub(lambda match: _words(match[0]), text)
    return _NUMBER.sub(lambda match: _number(match[0]), text)


def _dollars(amount: str) -> str:
    """Return "4.50" as "4 dollars, 50 cents", still in digits."""
    amount = amount.replace(",", "")
    whole, *decimals = amount.split(".")
    if len(decimals) > 1:
        return f"{amount} dollars"
    dollars, cents = int(whole or 0), int(decimals[0] or 0) if decimals else 0
    parts = [
        f"{count} {unit}{'' if count == 1 else 's'}"
        for count, unit in ((dollars, "dollar"), (cents, "cent"))
        if count
    ]
    return ", ".join(parts) or "zero dollars"


def _number(digits: str) -> str:
    """Return the words of a whole number; those between 1000 and 3000 are read as years."""
    if len(digits) > _MOST_DIGITS:
        return " ".join(_words(digit, andword="") for digit in digits)
    number = int(digits)
    if not 1_000 < number < 3_000:
        return _words(str(number), andword="")
    if number == 2_000:
        return "two thousand"
    if 2_000 < number < 2_010:
        return f"two thousand {_words(str(number % 100))}"
    if number % 100 == 0:
        return f"{_words(str(number // 100))} hundred"
    return _words(str(number), andword="", zero="oh", group=2).replace(", ", " ")


@cache
def _engine() -> Any:
    return import_module("inflect").engine()


def _words(number: str, **how: Any) -> str:
    return str(_engine().number_to_words(number, **how))
