"""What normalisation makes of texts, shown before training: examples, what is dropped, what is replaced."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.config.errors import counted
from engine.config.text_data import TextData
from engine.text.normalise import plain_signs, prepared

_MOST_EXAMPLES = 4
_MOST_SIGNS = 20
_MOST_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class TextChanges:
    """What becomes of some texts.

    Attributes:
        num_texts: their number.
        num_changed: those that are not as they were.
        examples: (before, after) of a few, those first that show something new.
        dropped: how often a character was dropped (punctuation, invisible signs), the most frequent first.
        replaced: how often a sign was replaced by a plain one.
        num_with_digits: texts that have digits when tokens are made of them.
        characters: of the tokens' texts, each with the number of texts that have it.
    """

    num_texts: int
    num_changed: int
    examples: tuple[tuple[str, str], ...]
    dropped: Mapping[str, int]
    replaced: Mapping[str, int]
    num_with_digits: int
    characters: Mapping[str, int]


def changes_of(
    texts: Sequence[str], data: TextData, *, kept: Sequence[Mapping[str, str]] = ()
) -> tuple[TextChanges, list[str]]:
    """Return what becomes of texts, and the texts as tokenizers read them.

    Args:
        texts: as people wrote them.
        data: the settings.
        kept: phonemes of each text by language, made before.

    Raises:
        DataError: when something that the settings require is not installed.
    """
    after = [
        prepared(text, data, kept=kept[number] if kept else None)
        for number, text in enumerate(texts)
    ]
    dropped: Counter[str] = Counter()
    replaced: Counter[str] = Counter()
    shown: list[tuple[int, int]] = []
    seen: set[str] = set()
    for number, (text, result) in enumerate(zip(texts, after, strict=True)):
        gone, changed = _lost(text, result, data=data)
        dropped += gone
        replaced += changed
        news = (set(gone) | set(changed)) - seen
        if text != result:
            shown.append((-len(news), number))
        seen |= news
    examples = [number for _, number in sorted(shown)[:_MOST_EXAMPLES]]
    changes = TextChanges(
        len(texts),
        num_changed=len(shown),
        examples=tuple((texts[number], after[number]) for number in sorted(examples)),
        dropped=dict(dropped.most_common()),
        replaced=dict(replaced.most_common()),
        num_with_digits=sum(any(char.isdecimal() for char in text) for text in after),
        characters=dict(
            Counter(char for text in after for char in set(text) - {" "}).most_common()
        ),
    )
    return changes, after


def described(changes: TextChanges, data: TextData) -> list[str]:
    """Return lines about what becomes of texts: settings, examples, what is dropped and replaced, what is left."""
    how = f"case {data.case}, punctuation {data.punctuation}, numbers {data.numbers}, tokens {data.tokens}"
    if data.tokens == "phonemes":
        how = f"punctuation {data.punctuation}, numbers {data.numbers}, phonemes of {data.language}"
    elif data.cleans_english:
        how = "cleaned as TorToiSe's texts, tokens bpe"
    lines = [f"texts: {changes.num_changed} of {changes.num_texts} change ({how})"]
    for before, after in changes.examples:
        lines += [f"  {before}", f"    -> {after}"]
    if changes.dropped:
        lines.append(f"dropped: {_signs(changes.dropped)}")
    if changes.replaced:
        lines.append(f"replaced by plain signs: {_signs(changes.replaced)}")
    if changes.num_with_digits:
        digits = "digits, which are kept; data.numbers = words spells them out"
        lines.append(f"{counted(changes.num_with_digits, 'text')} with {digits}")
    signs = "".join(sorted(changes.characters))
    shown = signs[:_MOST_CHARACTERS] + ("..." if len(signs) > _MOST_CHARACTERS else "")
    what = "signs of phonemes" if data.tokens == "phonemes" else "distinct characters"
    return [*lines, f"{len(signs)} {what}: {shown}"]


def summarised(changes: TextChanges, data: TextData) -> str:
    """Return the same in one line, its characters escaped; empty if nothing changes."""
    if not changes.num_changed:
        return ""
    first, *_ = described(changes, data)
    before, after = changes.examples[0]
    parts = [f"{first}, such as {before!r:.60} to {after!r:.60}"]
    parts += [f"dropped {_signs(changes.dropped)}"] if changes.dropped else []
    parts += [f"replaced {_signs(changes.replaced)}"] if changes.replaced else []
    return "; ".join(parts)


def _signs(counts: Mapping[str, int]) -> str:
    """Return characters with their counts; invisible ones by their code."""
    shown = [
        f"{char if char.isprintable() else f'U+{ord(char):04X}'} {number}"
        for char, number in list(counts.items())[:_MOST_SIGNS]
    ]
    return "  ".join(shown) + ("  ..." if len(counts) > len(shown) else "")


def _lost(text: str, after: str, *, data: TextData) -> tuple[Counter[str], Counter[str]]:
    """Return which characters of a text are gone, and which were replaced by plain ones."""
    if text == after:
        return Counter(), Counter()
    text = unicodedata.normalize("NFC", text)
    replaced = Counter(
        char for char in text if data.punctuation == "plain" and plain_signs(char) != char
    )
    if data.tokens == "phonemes":  # letters become others; only signs can be compared
        text = "".join(char for char in text if not char.isalnum())
    before = Counter(char for char in plain_signs(text).casefold() if not char.isspace())
    lost = before - Counter(after.casefold())
    if data.numbers == "words" or data.tokens == "phonemes" or data.cleans_english:
        lost = Counter({char: number for char, number in lost.items() if not char.isdecimal()})
    return lost, replaced
