"""Claims about error rates: counted by hand, summed over utterances, explained."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.metrics.word_errors import EditCounts, ErrorBreakdown, align


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("one two three", "one two three", EditCounts(3, 0, deletions=0, insertions=0)),
        ("one two three", "one too three", EditCounts(2, 1, deletions=0, insertions=0)),
        ("one two three", "one three", EditCounts(2, 0, deletions=1, insertions=0)),
        ("one two three", "one two two three", EditCounts(3, 0, deletions=0, insertions=1)),
        ("one two three", "", EditCounts(0, 0, deletions=3, insertions=0)),
        ("", "one two", EditCounts(0, 0, deletions=0, insertions=2)),
        ("", "", EditCounts()),
        ("a b c d", "x a b c", EditCounts(3, 0, deletions=1, insertions=1)),
        ("a b", "c d e", EditCounts(0, 2, deletions=0, insertions=1)),
    ],
)
def test_words_counted_by_hand(reference, hypothesis, counts):
    assert ErrorBreakdown("words").add(reference, hypothesis) == counts


def test_characters_count_spaces_once():
    counts = ErrorBreakdown("characters").add("ab  c", "ab d")
    assert counts == EditCounts(hits=3, substitutions=1)


def test_a_rate_is_over_all_words_not_a_mean_of_rates():
    found = ErrorBreakdown("words")
    found.add("one", "two")
    found.add(
        "one two three four five six seven eight nine",
        "one two three four five six seven eight nine",
    )
    assert found.total.rate == pytest.approx(0.1)
    assert found.per_item().mean() == pytest.approx(0.1)
    assert found.per_item().tolist() == [0.2, 0.0]


def test_without_any_reference_there_is_no_rate():
    found = ErrorBreakdown("words")
    found.add("", "one")
    assert math.isnan(found.total.rate)
    assert np.isnan(found.per_item()).all()


def test_what_was_taken_for_what():
    found = ErrorBreakdown("words")
    found.add("nine five nine", "five five nine")
    found.add("nine nine", "five nine")
    found.add("two", "two oh")
    found.add("six", "")
    assert found.most_frequent(2) == [("nine", "five", 2), (None, "oh", 1)]
    assert found.most_frequent(9)[2] == ("six", None, 1)


def test_an_alignment_reads_back_as_both_texts():
    pairs = align("kitten", "sitting")
    assert pairs == [
        ("k", "s"), ("i", "i"), ("t", "t"), ("t", "t"), ("e", "i"), ("n", "n"), (None, "g"),
    ]  # fmt: skip


def slow_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@given(st.text("abc", max_size=12), st.text("abcd", max_size=12))
def test_no_alignment_is_shorter(reference, hypothesis):
    pairs = align(reference, hypothesis)
    assert "".join(r for r, _ in pairs if r is not None) == reference
    assert "".join(h for _, h in pairs if h is not None) == hypothesis
    assert sum(r != h for r, h in pairs) == slow_distance(reference, hypothesis)
