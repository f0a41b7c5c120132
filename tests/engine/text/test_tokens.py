"""Claims about tokens: back and forth, the same each time, refused by name."""

import pickle
from pathlib import Path

import pytest

from engine.config.errors import DataError
from engine.config.speech import SpeechData
from engine.text.tokens import build_tokenizer, from_bytes

TEXTS = ["the quick brown fox", "jumps over the lazy dog", "it's the fox", "the dog's over there"]
DATA = SpeechData(train=Path("t.jsonl"), valid=Path("v.jsonl"))


def with_pieces(size=40):
    return DATA.model_copy(update={"tokens": "sentencepiece", "vocab_size": size})


def test_characters_are_the_space_and_those_of_the_texts():
    tokenizer = build_tokenizer(DATA, ["ba", "b c"])
    assert tokenizer.num_tokens == 5
    assert tokenizer.encode("a b") == [2, 1, 3]
    assert tokenizer.decode([1, 2, 1, 1, 3]) == "a b"


def test_a_vocabulary_that_is_given_is_taken():
    tokenizer = build_tokenizer(DATA.model_copy(update={"vocabulary": "xyz"}), ["xy"])
    assert tokenizer.encode("z y") == [4, 1, 3]


def test_an_unknown_character_is_named():
    tokenizer = build_tokenizer(DATA, ["ab"])
    with pytest.raises(ValueError, match=r"'abé!' contains '!', 'é', not in the vocabulary"):
        tokenizer.encode("abé!")


@pytest.mark.parametrize("data", [DATA, with_pieces()])
def test_texts_survive_and_blank_is_no_token(data):
    tokenizer = build_tokenizer(data, TEXTS)
    for text in TEXTS:
        tokens = tokenizer.encode(text)
        assert all(0 < token < tokenizer.num_tokens for token in tokens)
        assert tokenizer.decode(tokens) == text


@pytest.mark.parametrize("data", [DATA, with_pieces()])
def test_bytes_are_all_that_is_needed_and_the_same_each_time(data):
    tokenizer = build_tokenizer(data, TEXTS)
    state = tokenizer.to_bytes()
    assert build_tokenizer(data, TEXTS).to_bytes() == state
    again = from_bytes(state)
    assert again.encode("the fox") == tokenizer.encode("the fox")
    assert again.num_tokens == tokenizer.num_tokens
    assert pickle.loads(pickle.dumps(tokenizer)).encode("dog") == tokenizer.encode("dog")


def test_pieces_are_shorter_than_characters_and_know_strangers():
    pieces = build_tokenizer(with_pieces(), TEXTS)
    assert len(pieces.encode("the dog")) < len("the dog")
    assert 1 in pieces.encode("é")
    assert pieces.decode(pieces.encode("é")) == "⁇"


def test_too_few_pieces_are_refused_by_name():
    with pytest.raises(DataError, match=r"data.vocab_size.*can't train 8 SentencePiece units on 4"):
        build_tokenizer(with_pieces(8), TEXTS)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown tokenizer kind 'wordpiece'"):
        from_bytes(b'{"kind": "wordpiece"}')


def test_pieces_name_the_characters_that_no_piece_covers():
    tokenizer = build_tokenizer(with_pieces(), TEXTS)
    assert tokenizer.unknown("the dog") == []
    assert tokenizer.unknown("the żdogé") == ["é", "ż"]
