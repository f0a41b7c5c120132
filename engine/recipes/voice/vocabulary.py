"""The vocabulary of a voice: that of its texts, or of the weights that it starts from, with what is new.

So a fine-tune on fewer or other characters reads texts as its base does. Kept as the result of a stage: a run
that resumes has no base any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from engine.checkpoints.files import MODEL, read_manifest
from engine.checkpoints.find import find_checkpoint
from engine.checkpoints.recipe_files import RecipeState
from engine.config.voice import VoiceData
from engine.recipes.base import Stage
from engine.recipes.weights import TokenTables
from engine.text.bpe import BpeTokenizer
from engine.text.tokens import (
    CharTokenizer,
    PhonemeTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    build_tokenizer,
    from_bytes,
)

# Its embedding and head have a row for each token; START has the last one.
TABLES = ("text_embedding.weight", "text_head.weight", "text_head.bias")
_VOCABULARY, _START = "vocabulary", "<start>"
_KEY = "tokenizer"


def vocabulary_for(
    data: VoiceData, texts: Callable[[], Sequence[str]], *, base: Path | None
) -> Tokenizer:
    """Return the tokenizer of training texts, in which every token of a base model means the same.

    Args:
        data: how texts are divided.
        texts: the training texts.
        base: checkpoint of the weights that the run starts from; one that is no voice has no say.

    Raises:
        CheckpointError: when the base is missing or damaged.
        DataError: when there are too few texts for SentencePiece.
    """
    theirs = None if base is None else _tokenizer_of(base)
    if data.tokens == "sentencepiece" and isinstance(theirs, SentencePieceTokenizer):
        return theirs
    if data.tokens == "bpe" and isinstance(theirs, BpeTokenizer):
        return theirs.with_characters("".join(sorted(set().union(*texts()))))
    own = build_tokenizer(data, texts())
    if not (isinstance(own, CharTokenizer) and isinstance(theirs, CharTokenizer)):
        return own
    if type(own) is not type(theirs):
        return own
    new = "".join(char for char in own.characters if char not in theirs.characters)
    characters = theirs.characters + new
    if isinstance(own, PhonemeTokenizer):
        return PhonemeTokenizer(characters, own.language)
    return CharTokenizer(characters)


def tables() -> TokenTables:
    """Return the tensors of a voice that have a row for each token."""
    return TokenTables(_VOCABULARY, TABLES, names=_names)


class VocabularyStage(Stage):
    """Makes the vocabulary.

    Args:
        make: returns the tokenizer.
    """

    name = "vocabulary"

    def __init__(self, make: Callable[[], Tokenizer]) -> None:
        self._make = make

    def num_steps(self) -> int:
        """All is done at the end."""
        return 0

    def finish(self, state: RecipeState) -> RecipeState:
        """Return the tokenizer."""
        return RecipeState({}, {_KEY: self._make().to_bytes().decode("ascii")})

    def notices(self, result: RecipeState) -> Sequence[tuple[Literal["info", "warning"], str]]:
        """Return how many tokens there are."""
        return [("info", f"vocabulary: {tokenizer_in(result).num_tokens - 1} tokens of text")]


def tokenizer_in(result: RecipeState) -> Tokenizer:
    """Return the tokenizer that the stage has made."""
    return from_bytes(str(result.values[_KEY]).encode("ascii"))


def _tokenizer_of(checkpoint: Path) -> Tokenizer | None:
    held = read_manifest(find_checkpoint(checkpoint)).tensors(MODEL)
    if _VOCABULARY not in held or TABLES[0] not in held:
        return None
    return from_bytes(bytes(held[_VOCABULARY].tolist()))


def _names(vocabulary: Tensor) -> list[str]:
    return [*from_bytes(bytes(vocabulary.tolist())).names, _START]
