"""Settings of texts: how transcripts are normalised, and into which tokens they are divided."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from engine.config.data_settings import DataSettings
from models.base.settings import setting


class TextData(DataSettings):
    """What every kind of data whose items have a text has in common."""

    # Whether a run may have the tokens of the model that it starts from.
    takes_tokens_of_base: ClassVar[bool] = False

    case: Literal["lower", "upper", "keep"] = setting(
        "lower", "Letter case of the transcripts: lower, upper, or unchanged."
    )
    punctuation: Literal["drop", "plain", "keep"] = setting(
        "drop",
        "Characters other than letters, digits and apostrophes: replaced by a space (drop), kept with "
        "typographic quotes, dashes and ellipses replaced by plain ones (plain), or kept as they are (keep).",
    )
    numbers: Literal["keep", "words"] = setting(
        "keep",
        "Numbers in digits: kept, or spelled out in the language of the texts (requires the extra 'numbers').",
    )
    tokens: Literal["char", "sentencepiece", "phonemes", "bpe"] = setting(
        "char",
        "Tokens: characters, SentencePiece units trained on the training texts, phonemes (IPA) by eSpeak NG "
        "(requires the extra 'phonemes'), or bpe: the byte-pair tokens of the imported voice that init_from "
        "names (requires the extra 'tortoise'), for which English texts are cleaned as it was trained.",
    )
    language: str = setting(
        "en-us", "Language of the texts, for phonemes and spelled-out numbers: a code of eSpeak NG.",
        min_length=2, max_length=40,
    )  # fmt: skip
    vocab_size: int = setting(
        512, "Vocabulary size of the SentencePiece model.", unit="tokens", ge=8, le=65_536
    )
    vocabulary: str = setting(
        "",
        "Characters (or phonemes) of the vocabulary, without the space; empty: those of the training texts.",
        max_length=10_000,
    )

    @property
    def cleans_english(self) -> bool:
        """Whether texts are cleaned by `engine.text.english`, whatever case, punctuation and numbers say."""
        return self.tokens == "bpe" and self.language.partition("-")[0] == "en"

    @model_validator(mode="after")
    def _vocabulary_is_for_characters(self) -> TextData:
        if self.tokens == "bpe" and not self.takes_tokens_of_base:
            raise ValueError(
                "tokens = 'bpe' are those of an imported voice, and only voices start from one; set tokens = char"
            )
        if self.vocabulary and self.tokens in ("sentencepiece", "bpe"):
            raise ValueError(
                f"vocabulary requires char tokens or phonemes, but tokens = {self.tokens!r} brings its own; "
                "set vocabulary = ''"
            )
        if len(set(self.vocabulary)) != len(self.vocabulary) or set(self.vocabulary) & set(" \t\n"):
            raise ValueError(
                f"vocabulary = {self.vocabulary!r} must list each character once, without spaces"
            )
        return self
