"""Tokenisation of text: characters, SentencePiece units trained on the texts, phonemes, or tokens of a trained model.

Token 0 is the transducer's blank. A tokenizer is a pure function of (settings, training texts), and
is kept in a checkpoint as bytes of JSON, so that transcribing needs nothing else. Normalisation of
the text is not done here: what is encoded is what `engine.text.normalise.prepared` returned.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

from engine.config.errors import DataError, Problem
from engine.config.text_data import TextData
from engine.text import bpe
from engine.text.bpe import BpeTokenizer
from engine.text.normalise import vocabulary_of

# Above its own limit SentencePiece samples at random; this many texts, evenly selected, are enough.
_MOST_TEXTS = 500_000
# No character, and no piece either.
_BLANK = "<blank>"
_UNKNOWN_PIECE = 0


class Tokenizer(Protocol):
    """Turns text into token numbers from 1 to num_tokens - 1, and back."""

    @property
    def num_tokens(self) -> int:
        """Number of tokens, blank included."""

    @property
    def names(self) -> list[str]:
        """Name of each token, the blank first; equal names mean the same in any tokenizer."""

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that no token stands for, sorted."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; unknown characters raise ValueError."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""

    def to_bytes(self) -> bytes:
        """Return all that `from_bytes` needs."""


class CharTokenizer:
    """One token for each character, the space included.

    Attributes:
        characters: in the order of their tokens, from 1.
    """

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self._tokens = {char: number for number, char in enumerate(characters, start=1)}

    @property
    def num_tokens(self) -> int:
        """Characters and the blank."""
        return len(self.characters) + 1

    @property
    def names(self) -> list[str]:
        """The blank and the characters."""
        return [_BLANK, *self.characters]

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that are not in the vocabulary, sorted."""
        return sorted(set(text) - set(self._tokens))

    def encode(self, text: str) -> list[int]:
        """Return a token for each character.

        Raises:
            ValueError: naming the characters that are not in the vocabulary.
        """
        if unknown := self.unknown(text):
            raise ValueError(
                f"text {text!r:.60} contains {', '.join(map(repr, unknown))}, not in the vocabulary; "
                "add the characters to data.vocabulary, or remove them from the text"
            )
        return [self._tokens[char] for char in text]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the characters, without leading, trailing and repeated spaces."""
        return " ".join("".join(self.characters[token - 1] for token in tokens).split())

    def to_bytes(self) -> bytes:
        """Return the characters as JSON."""
        return _to_json({"kind": "char", "characters": self.characters})


class PhonemeTokenizer(CharTokenizer):
    """One token for each sign of the phonemes of a language (IPA), the space included.

    Attributes:
        language: the code of eSpeak NG.
    """

    def __init__(self, characters: str, language: str) -> None:
        super().__init__(characters)
        self.language = language

    @property
    def names(self) -> list[str]:
        """The blank and the signs."""
        return [_BLANK, *(f"/{sign}/" for sign in self.characters)]

    def to_bytes(self) -> bytes:
        """Return signs and language as JSON."""
        return _to_json(
            {"kind": "phonemes", "characters": self.characters, "language": self.language}
        )


class SentencePieceTokenizer:
    """SentencePiece units; their tokens follow the blank."""

    def __init__(self, model: bytes) -> None:
        self._model = model

    def __getstate__(self) -> dict[str, object]:
        """Pickle the model only; the processor is created again."""
        return {"_model": self._model}

    @property
    def num_tokens(self) -> int:
        """Pieces and the blank."""
        return int(self._processor.get_piece_size()) + 1

    @property
    def names(self) -> list[str]:
        """The blank and the pieces."""
        pieces = range(self._processor.get_piece_size())
        return [_BLANK, *(f"piece {self._processor.id_to_piece(piece)}" for piece in pieces)]

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that no piece covers, sorted."""
        if _UNKNOWN_PIECE not in self._processor.encode(text):
            return []
        return sorted(char for char in set(text) if _UNKNOWN_PIECE in self._processor.encode(char))

    def encode(self, text: str) -> list[int]:
        """Return the best pieces; unknown characters become the piece that stands for them."""
        return [piece + 1 for piece in self._processor.encode(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of the pieces."""
        return str(self._processor.decode([int(token) - 1 for token in tokens])).strip()

    def to_bytes(self) -> bytes:
        """Return the model of SentencePiece in JSON."""
        return _to_json(
            {"kind": "sentencepiece", "model": base64.b64encode(self._model).decode("ascii")}
        )

    @cached_property
    def _processor(self) -> Any:
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_proto=self._model)


def build_tokenizer(data: TextData, texts: Sequence[str]) -> Tokenizer:
    """Return the tokenizer that the settings and the training texts, as `prepared` returns them, define.

    Raises:
        DataError: when there are too few texts for the requested vocabulary size.
    """
    if data.tokens == "char":
        return CharTokenizer(" " + vocabulary_of(data, texts))
    if data.tokens == "bpe":
        message = (
            "'bpe' are the tokens of an imported voice, and init_from names none; set init_from to one (`sepdash "
            "import`), or data.tokens = char"
        )
        raise DataError([Problem("data.tokens", message)])
    if data.tokens == "phonemes":
        return PhonemeTokenizer(" " + vocabulary_of(data, texts), data.language)
    return SentencePieceTokenizer(_train_pieces(texts, data.vocab_size))


def from_bytes(state: bytes) -> Tokenizer:
    """Return the tokenizer that `to_bytes` wrote.

    Raises:
        ValueError: when its kind is unknown.
    """
    values = json.loads(state)
    match values.get("kind"):
        case "char":
            return CharTokenizer(values["characters"])
        case "phonemes":
            return PhonemeTokenizer(values["characters"], values["language"])
        case "sentencepiece":
            return SentencePieceTokenizer(base64.b64decode(values["model"]))
        case bpe.KIND:
            return BpeTokenizer.of_values(values)
    raise ValueError(
        f"unknown tokenizer kind {values.get('kind')!r}; expected char, sentencepiece, phonemes or bpe"
    )


def _train_pieces(texts: Sequence[str], size: int) -> bytes:
    """Train a unigram model on one thread; the same texts in the same order give the same bytes."""
    from sentencepiece import SentencePieceTrainer

    step = -(-len(texts) // _MOST_TEXTS)
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts[::step]),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            character_coverage=1.0,
            hard_vocab_limit=False,
            num_threads=1,
            unk_id=_UNKNOWN_PIECE,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        text = (
            f"can't train {size} SentencePiece units on {len(texts)} training texts ({error}); "
            "change data.vocab_size, or set data.tokens = char"
        )
        raise DataError([Problem("data.vocab_size", text)]) from None
    return model.getvalue()


def _to_json(values: dict[str, str]) -> bytes:
    return json.dumps(values, sort_keys=True, ensure_ascii=True).encode()
