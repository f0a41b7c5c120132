"""Byte-pair tokens of a trained model, read from a file of the package tokenizers; nothing of it is trained here.

The layout is that of TorToiSe's `tokenizer.json`: token 0 ends a text, `[UNK]` stands for what is unknown,
`[SPACE]` for a space. Characters that are new in another run follow behind as tokens of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from engine.text.english import check_packages

STOP, UNKNOWN, SPACE = "[STOP]", "[UNK]", "[SPACE]"
KIND = "bpe"
# As other tokenizers name what is the same (`engine.text.tokens`).
_NAMES = {STOP: "<blank>", UNKNOWN: "<unknown>", SPACE: " "}


class BpeTokenizer:
    """Pieces of words, merged from characters in a given order.

    Args:
        definition: the file, JSON.
        num_trained: tokens that the trained model has a row for, without START; those that the file lacks have
            no name of their own, and occur in no text.
        characters: what was added.

    Raises:
        ValueError: when the definition is not of that layout.
    """

    def __init__(self, definition: str, num_trained: int, *, characters: str = "") -> None:
        self._definition, self.characters = definition, characters
        self._num_trained = num_trained
        self._vocabulary = _vocabulary_of(definition)
        beyond = [name for name, token in self._vocabulary.items() if token >= num_trained]
        # Some files name START as well, which has the row behind the last token.
        if [name for name in beyond if name != "[START]"]:
            raise ValueError(
                f"has {max(self._vocabulary.values()) + 1} tokens, and the model has rows for {num_trained}"
            )

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the program of tokenizers, which is made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_program"}

    @property
    def num_tokens(self) -> int:
        """Tokens of the model, those added included."""
        return self._num_trained + len(self.characters)

    @property
    def names(self) -> list[str]:
        """Name of each token."""
        named = {token: _NAMES.get(name, name) for name, token in self._vocabulary.items()}
        trained = [named.get(token, f"<unused {token}>") for token in range(self._num_trained)]
        return [*trained, *self.characters]

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that no token stands for, sorted, and a STOP that is written out."""
        known = {*self._vocabulary, *self.characters, " "}
        return sorted({*text} - known) + [name for name in (STOP, UNKNOWN) if name in text]

    def with_characters(self, characters: str) -> BpeTokenizer:
        """Return one in which characters that are unknown here have tokens of their own."""
        new = "".join(char for char in characters if self.unknown(char))
        return BpeTokenizer(self._definition, self._num_trained, characters=self.characters + new)

    def encode(self, text: str) -> list[int]:
        """Return the pieces; unknown characters become the token that stands for them.

        Raises:
            ValueError: when the text has the name of the token that ends it.
        """
        if STOP in text:
            raise ValueError(f"text {text!r:.60} contains {STOP}, which would end it; remove it")
        tokens: list[int] = []
        for part in self._parts(text):
            if len(part) == 1 and part in self.characters:
                tokens.append(self._num_trained + self.characters.index(part))
            elif part:
                tokens += self._program.encode(part.replace(" ", SPACE)).ids
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        names = self.names
        pieces = (names[token] for token in tokens if token and names[token] != _NAMES[UNKNOWN])
        return " ".join("".join(pieces).split())

    def to_bytes(self) -> bytes:
        """Return all that `of_values` needs, as JSON."""
        values = {
            "kind": KIND, "definition": self._definition, "num_trained": self._num_trained,
            "characters": self.characters,
        }  # fmt: skip
        return json.dumps(values, sort_keys=True, ensure_ascii=True).encode()

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> BpeTokenizer:
        """Return the tokenizer that `to_bytes` wrote."""
        return cls(
            values["definition"], int(values["num_trained"]), characters=values["characters"]
        )

    def _parts(self, text: str) -> list[str]:
        """Divide a text at the added characters, which are parts of their own."""
        if not self.characters:
            return [text]
        return re.split(f"([{re.escape(self.characters)}])", text)

    @cached_property
    def _program(self) -> Any:
        check_packages()
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self._definition)


def _vocabulary_of(definition: str) -> dict[str, int]:
    """Return token by name.

    Raises:
        ValueError: when the file is of another layout.
    """
    try:
        values = json.loads(definition)
        model = values["model"]
        kind, vocabulary = model["type"], dict(model["vocab"])
        vocabulary |= {one["content"]: one["id"] for one in values.get("added_tokens") or ()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"is no tokenizer of the package tokenizers: {error!r:.80}") from None
    numbers = list(vocabulary.values())
    if kind != "BPE" or not all(isinstance(one, int) and one >= 0 for one in numbers):
        raise ValueError(f"is a tokenizer of type {kind!r:.40}, expected BPE")
    if len(set(numbers)) < len(numbers):
        raise ValueError("gives one number to several tokens")
    if vocabulary.get(STOP) != 0 or not {UNKNOWN, SPACE} <= vocabulary.keys():
        raise ValueError(
            f"is not laid out like TorToiSe's, where token 0 is {STOP}, and {UNKNOWN} and {SPACE} are others"
        )
    return vocabulary
