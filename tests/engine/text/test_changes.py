"""Claims about what is shown of normalisation before training: everything that is lost is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.text_data import TextData
from engine.text.changes import changes_of, described, summarised


def data(**settings) -> TextData:
    return TextData(kind="any", train=Path("t"), valid=Path("v"), **settings)


def test_dropped_and_replaced_characters_are_counted() -> None:
    texts = ["“Well” — it's 5 o’clock!", "plain", "soft\u00adhyphen…"]
    changes, after = changes_of(texts, data(punctuation="plain"))
    assert after == ["\"well\" - it's 5 o'clock!", "plain", "softhyphen..."]
    assert changes.num_changed == 2
    assert changes.dropped == {"\u00ad": 1}
    assert changes.replaced == {"“": 1, "”": 1, "—": 1, "’": 1, "…": 1}
    assert changes.num_with_digits == 1
    assert changes.examples == tuple((texts[k], after[k]) for k in (0, 2))
    changes, _ = changes_of(texts, data())
    assert changes.dropped == {'"': 2, ".": 3, "-": 1, "!": 1, "\u00ad": 1}
    assert changes.replaced == {}


@pytest.mark.parametrize("punctuation", ["drop", "plain", "keep"])
def test_what_is_kept_is_not_called_dropped(punctuation: str) -> None:
    texts = ["ÄÖÜ Straße İstanbul", "it's  two\twords", "x"]
    changes, _ = changes_of(texts, data(punctuation=punctuation))
    assert changes.dropped == {}


def test_examples_show_each_new_thing_first() -> None:
    texts = ["One.", *[f"Two {k}" for k in range(50)], "What?", "“Three”"]
    changes, _ = changes_of(texts, data(punctuation="plain"))
    assert ("“Three”", '"three"') in changes.examples
    assert len(changes.examples) == 4


def test_lines_name_the_settings_and_invisible_signs_by_code() -> None:
    settings = data(punctuation="plain", case="keep")
    lines = described(changes_of(["a\u200bb", "“c”"], settings)[0], settings)
    assert lines == [
        "texts: 2 of 2 change (case keep, punctuation plain, numbers keep, tokens char)",
        "  a\u200bb", "    -> ab", "  “c”", '    -> "c"',
        "dropped: U+200B 1", "replaced by plain signs: “ 1  ” 1", '4 distinct characters: "abc',
    ]  # fmt: skip


def test_phonemes_are_not_compared_with_letters() -> None:
    settings = data(tokens="phonemes", punctuation="plain")
    kept = [{"en-us": "həlˈoʊ, wˈɜːld"}]
    changes, after = changes_of(["Hello, world!"], settings, kept=kept)
    assert after == ["həlˈoʊ, wˈɜːld"]
    assert changes.dropped == {"!": 1}
    assert described(changes, settings)[0].endswith("numbers keep, phonemes of en-us)")


def test_one_line_says_the_same_with_control_characters_escaped() -> None:
    settings = data(punctuation="plain")
    changes, _ = changes_of(["“Hi”\x1b[2J", "plain"], settings)
    assert summarised(changes, settings) == (
        "texts: 1 of 2 change (case lower, punctuation plain, numbers keep, tokens char), such as "
        "'“Hi”\\x1b[2J' to '\"hi\"[2j'; dropped U+001B 1; replaced “ 1  ” 1"
    )
    assert summarised(changes_of(["plain"], settings)[0], settings) == ""
