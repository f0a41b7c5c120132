"""Byte-pair tokens of a trained model, and texts as it was trained to read them."""

from __future__ import annotations

import pickle

import pytest

from engine.config.errors import ConfigError, DataError
from engine.config.loading import load_config
from engine.text import english
from engine.text.bpe import BpeTokenizer
from engine.text.changes import changes_of, described
from engine.text.english import cleaned
from engine.text.normalise import prepared
from engine.text.tokens import build_tokenizer, from_bytes
from tests.engine.exchange.tortoise_layout import MERGES, tokenizer_json

ROWS = 3 + 30 + len(MERGES)
NAMES = [
    "[STOP]",
    "[UNK]",
    "[SPACE]",
    *"abcdefghijklmnopqrstuvwxyz.,!'",
    "th",
    "the",
    "an",
    "and",
    "at",
    "then",
]


def data(**changes):
    values = {"kind": "voice", "train": "x", "valid": "x", "tokens": "bpe", **changes}
    return load_config(
        {"data": values, "model": {"kind": "voice_gpt"}, "loss": {"kind": "voice"}, "codec": "c"}
    ).data


@pytest.fixture
def tokenizer() -> BpeTokenizer:
    return BpeTokenizer(tokenizer_json(), ROWS)


def test_tokens_are_merged_in_the_order_of_the_file(tokenizer: BpeTokenizer) -> None:
    """By hand: merges apply in their order, words are divided at white space and punctuation."""
    tokens = tokenizer.encode("then the cat, and")
    assert [NAMES[token] for token in tokens] == [
        "then", "[SPACE]", "the", "[SPACE]", "c", "at", ",", "[SPACE]", "and",
    ]  # fmt: skip
    assert tokenizer.decode(tokens) == "then the cat, and"
    assert [NAMES[token] for token in tokenizer.encode("a7b")] == ["a", "[UNK]", "b"]
    assert tokenizer.unknown("a7b? the") == ["7", "?"]
    assert tokenizer.num_tokens == ROWS


def test_rows_that_the_file_does_not_name_stay_unused(tokenizer: BpeTokenizer) -> None:
    wide = BpeTokenizer(tokenizer_json(), ROWS + 2)
    assert wide.names == [*tokenizer.names, f"<unused {ROWS}>", f"<unused {ROWS + 1}>"]
    assert len(set(wide.names)) == wide.num_tokens
    assert wide.names[:4] == ["<blank>", "<unknown>", " ", "a"]
    assert wide.encode("the") == tokenizer.encode("the")


def test_new_characters_come_behind_and_change_no_other_token(tokenizer: BpeTokenizer) -> None:
    more = tokenizer.with_characters("aé 7")
    assert (more.characters, more.num_tokens) == ("é7", ROWS + 2)
    assert more.names[:ROWS] == tokenizer.names
    assert more.encode("thé the7at") == [
        *tokenizer.encode("th"), ROWS, *tokenizer.encode(" the"), ROWS + 1, *tokenizer.encode("at"),
    ]  # fmt: skip
    assert more.decode(more.encode("thé 7")) == "thé 7"
    for again in (from_bytes(more.to_bytes()), pickle.loads(pickle.dumps(more))):
        assert again.names == more.names
        assert again.encode("thé 7 then") == more.encode("thé 7 then")


def test_a_text_can_not_end_itself(tokenizer: BpeTokenizer) -> None:
    assert tokenizer.unknown("a [STOP] b") == ["O", "P", "S", "T", "[", "]", "[STOP]"]
    with pytest.raises(ValueError, match=r"contains \[STOP\], which would end it"):
        tokenizer.encode("a [STOP] b")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        # What TorToiSe's cleaner makes of them; 20,000 mixtures of such words were compared with it once.
        ("Dr. Ng:  21!", "doctor ng: twenty-one!"),
        (
            'Mrs. "Ann" paid $5.01 on the 3rd.',
            "misess ann paid five dollars, one cent on the third.",
        ),
        ("In 1905, 2004 and 1990", "in nineteen oh five, two thousand four and nineteen ninety"),
        ("1,234 of 3.14", "twelve thirty-four of three point fourteen"),
        (
            "2000, 2100, 3000; 101st",
            "two thousand, twenty-one hundred, three thousand; one hundred and first",
        ),
        ("1234567", "one million, two hundred thirty-four thousand, five hundred sixty-seven"),
        (
            "$1, $0.50, $0, $1.2.3",
            "one dollar, fifty cents, zero dollars, one point two.three dollars",
        ),
        ("Café \u2014 na\u00efve\u2026 \u201cx\u201d", "cafe -- naive... x"),
        ("Stra\u00dfe 1\u00bd", "strasse one one/two"),
        ("\u65e5\u672c", "\u65e5\u672c"),
    ],
)
def test_english_is_cleaned_as_published(text: str, read: str) -> None:
    assert cleaned(text) == read
    assert prepared(text, data()) == read


def test_texts_of_another_language_follow_the_settings() -> None:
    german = data(language="de", punctuation="plain")
    assert prepared("Dr. Gr\u00fcn: 21!", german) == "dr. gr\u00fcn: 21!"


def test_what_becomes_of_texts_is_said() -> None:
    changes, _ = changes_of(["Dr. Ng has 21."], data())
    lines = described(changes, data())
    assert lines[0] == "texts: 1 of 1 change (cleaned as TorToiSe's texts, tokens bpe)"
    assert lines[2].strip() == "-> doctor ng has twenty-one."
    # The point of the abbreviation, and no digit.
    assert [line for line in lines if line.startswith("dropped")] == ["dropped: . 1"]


def test_only_a_voice_has_tokens_of_a_base_and_only_with_a_base() -> None:
    with pytest.raises(ConfigError, match="only voices start from one"):
        load_config({"data": {"kind": "speech", "train": "x", "valid": "x", "tokens": "bpe"}})
    with pytest.raises(ConfigError, match="brings its own; set vocabulary = ''"):
        data(vocabulary="ab")
    with pytest.raises(DataError, match="init_from names none"):
        build_tokenizer(data(), ["a"])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(english, "find_spec", lambda name: None if name == "inflect" else object())
    assert prepared("no numbers", data()) == "no numbers"
    with pytest.raises(
        DataError,
        match=r"the package inflect, which is not installed: pip install 'sepdash\[tortoise\]'",
    ):
        prepared("2 numbers", data())
    monkeypatch.setattr(english, "find_spec", lambda name: None)
    assert english.missing().startswith(
        "the packages tokenizers and inflect, which are not installed"
    )
    with pytest.raises(DataError, match="packages tokenizers and inflect"):
        BpeTokenizer(tokenizer_json(), ROWS).encode("a")
