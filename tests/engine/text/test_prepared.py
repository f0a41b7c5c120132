"""Claims about normalisation, spelled-out numbers and phonemes."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.config.errors import DataError
from engine.config.speech import SpeechData
from engine.text import numbers, phonemes
from engine.text.normalise import normalise, prepared
from engine.text.tokens import PhonemeTokenizer, build_tokenizer, from_bytes

DATA = SpeechData(train=Path("t.jsonl"), valid=Path("v.jsonl"))

needs_num2words = pytest.mark.skipif(
    find_spec("num2words") is None, reason="num2words is not installed (sepdash[numbers])"
)


@pytest.fixture
def espeak() -> None:
    """Skip a test where phonemes can't be made; looked up late, for importing phonemizer takes a second."""
    if lacking := phonemes.missing():
        pytest.skip(f"requires {lacking}")


def with_settings(**changes: object) -> SpeechData:
    return SpeechData.model_validate({**DATA.model_dump(), **changes})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“Well,” she said — ‘no’…", "\"well,\" she said - 'no'..."),
        ("«Ja», 1990–95 und − 3", '"ja", 1990 - 95 und - 3'),
        ("non‑breaking\u00a0space,\ttab\nand  two", "non-breaking space, tab and two"),
        ("soft\u00adhyphen \ufeffmark\u200b \x1b[31mred\x00", "softhyphen mark [31mred"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("cafe\u0301 don’t", "café don't"),
        ('plain ascii: it\'s - "fine"', 'plain ascii: it\'s - "fine"'),
    ],
)
def test_plain_punctuation_keeps_signs_in_their_plain_form(text: str, expected: str) -> None:
    assert normalise(text, with_settings(punctuation="plain")) == expected


def test_kept_and_dropped_punctuation_are_what_they_were() -> None:
    text = "“Well,” she said — don’t…"
    assert normalise(text, with_settings(punctuation="keep")) == "“well,” she said — don't…"
    assert normalise(text, DATA) == "well she said don't"


def test_numbers_stay_unless_words_are_asked_for() -> None:
    assert normalise("Room 42, 3.5 km", DATA) == "room 42 3 5 km"


@needs_num2words
@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Room 42, 3.5 km", "en-us", "Room forty-two, three point five km"),
        ("1,234 of 1.5", "en-us", "one thousand two hundred and thirty-four of one point five"),
        ("the 3rd and 21st", "en-gb", "the third and twenty-first"),
        ("code 007 by mp3", "en-us", "code zero zero seven by mp three"),
        ("at 10:30", "en-us", "at ten:thirty"),
        ("1.234,5 Euro", "de", "eintausendzweihundertvierunddreißig Komma fünf Euro"),
        ("no digits", "xx", "no digits"),
    ],
)
def test_numbers_are_spelled_in_the_language(text: str, language: str, expected: str) -> None:
    data = with_settings(numbers="words", language=language, case="keep", punctuation="plain")
    assert normalise(text, data) == expected


@needs_num2words
def test_a_language_without_numbers_is_named() -> None:
    with pytest.raises(DataError, match=r"data.language.*'cmn'.*expected one of .*\bde\b.*keep"):
        normalise("42", with_settings(numbers="words", language="cmn"))


def test_missing_packages_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (numbers, phonemes):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DataError) as found:
        numbers._code_of.__wrapped__("en-us")
    assert str(found.value) == (
        "data.numbers: 'words' requires the package num2words, which is not installed: pip install "
        "'sepdash[numbers]', or set data.numbers = keep"
    )
    with pytest.raises(DataError) as found:
        phonemes.check_language("en-us")
    assert str(found.value) == (
        "data.tokens: 'phonemes' requires the package phonemizer, which is not installed: pip install "
        "'sepdash[phonemes]', or set data.tokens = char"
    )


def test_a_missing_program_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phonemes, "find_spec", lambda name: object())
    monkeypatch.setattr(phonemes, "_backend", lambda: SimpleNamespace(is_available=lambda: False))
    with pytest.raises(DataError) as found:
        phonemes.check_language("en-us")
    assert str(found.value) == (
        "data.tokens: 'phonemes' requires eSpeak NG, which is not installed: install the package espeak-ng of "
        "your system, or set data.tokens = char"
    )


def test_kept_phonemes_need_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str, language: str) -> str:
        raise AssertionError

    monkeypatch.setattr("engine.text.normalise.phonemes_of", fail)
    kept = {"en-us": "həlˈoʊ, wˈɜːld!", "de": "hˈaloː"}
    for punctuation, expected in [("drop", "həlˈoʊ wˈɜːld"), ("plain", "həlˈoʊ, wˈɜːld!")]:
        data = with_settings(tokens="phonemes", punctuation=punctuation)
        assert prepared("Hello, world!", data, kept=kept) == expected
    assert prepared("x", with_settings(tokens="phonemes", language="de"), kept=kept) == "hˈaloː"
    assert prepared("Hello, world!", DATA, kept=kept) == "hello world"


@pytest.mark.usefixtures("espeak")
def test_phonemes_are_of_the_text_in_its_own_case_and_language() -> None:
    data = with_settings(tokens="phonemes", punctuation="plain")
    assert prepared("Hello,  “world”!", data) == 'həlˈoʊ, "wˈɜːld"!'
    assert prepared("US", data) != prepared("us", data)
    assert prepared("vin blanc", with_settings(tokens="phonemes", language="fr-fr")) == "vˈɛ̃ blˈɑ̃"
    assert prepared("3 — 4", with_settings(tokens="phonemes")) == "θɹˈiː fˈoːɹ"


@pytest.mark.usefixtures("espeak")
def test_a_language_without_phonemes_is_named_with_its_neighbours() -> None:
    with pytest.raises(DataError, match=r"data.language: 'en' is not .*expected .*en-us"):
        prepared("one", with_settings(tokens="phonemes", language="en"))
    with pytest.raises(DataError, match=r"'qq' is not a language of eSpeak NG.*espeak-ng --voices"):
        prepared("one", with_settings(tokens="phonemes", language="qq"))


def test_a_table_of_phonemes_is_all_that_a_checkpoint_needs() -> None:
    data = with_settings(tokens="phonemes", language="de")
    texts = ["hˈaloː vˈɛlt", "ˈaʊx"]
    tokenizer = build_tokenizer(data, texts)
    again = from_bytes(tokenizer.to_bytes())
    assert isinstance(again, PhonemeTokenizer)
    assert again.language == "de"
    assert (
        again.characters
        == tokenizer.characters
        == " " + "".join(sorted(set("".join(texts)) - {" "}))
    )
    assert again.decode(again.encode("hˈaloː")) == "hˈaloː"
    assert pickle.loads(pickle.dumps(again)).encode("ˈaʊx") == tokenizer.encode("ˈaʊx")
    with pytest.raises(ValueError, match="not in the vocabulary"):
        again.encode("ŋ")


def test_a_table_that_is_given_is_taken_for_phonemes_too() -> None:
    data = with_settings(tokens="phonemes", vocabulary="ab")
    assert build_tokenizer(data, ["a"]).encode("ba") == [3, 2]
