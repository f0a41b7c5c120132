"""The memory law, on numbers worked out by hand."""

from __future__ import annotations

import pytest

from engine.tuning.law import (
    Probe,
    Quadratic,
    fit_law,
    memory_cap,
    quadratic_length,
)

MIB = 2**20
GIB = 2**30


def peaks(lengths, *, counts=(2, 4), tokens=0.0, slices=1) -> list[Probe]:
    """Probes of a(T) = 100 + 10 T + T^2, b(T) = 7 + 5 T + 2 T^2, c = 3."""

    def peak(count: int, length: float) -> int:
        a, b = 100 + 10 * length + length**2, 7 + 5 * length + 2 * length**2
        return round(a + count * b + -(-count // slices) * 3 * length * tokens)

    return [
        Probe(n, t, peak_bytes=peak(n, t), tokens=tokens, slices=slices)
        for t in lengths
        for n in counts
    ]


def test_two_probes_give_a_line() -> None:
    law = fit_law([Probe(2, 1.0, peak_bytes=150), Probe(4, 1.0, peak_bytes=250)])
    assert (law.fixed(1.0), law.per_item(1.0)) == (50, 50)
    assert law.peak(10, 1.0) == 550
    assert law.most_items(550, 1.0) == 10
    assert law.most_items(549, 1.0) == 9
    assert law.most_items(99, 1.0) == 0


def test_six_probes_give_both_quadratics() -> None:
    law = fit_law(peaks([1.0, 4.0, 10.0]))
    found = (
        law.fixed.c0,
        law.fixed.c1,
        law.fixed.c2,
        law.per_item.c0,
        law.per_item.c1,
        law.per_item.c2,
    )
    assert found == pytest.approx((100, 10, 1, 7, 5, 2))
    # a(6) = 100 + 60 + 36, b(6) = 7 + 30 + 72.
    assert law.peak(5, 6.0) == pytest.approx(196 + 5 * 109)
    assert law.most_items(196 + 5 * 109 + 108, 6.0) == 5


def test_tokens_give_the_share_of_the_joint_network() -> None:
    probes = [*peaks([1.0, 4.0, 10.0], tokens=20), *peaks([10.0], counts=(4,), tokens=5)]
    law = fit_law(probes)
    assert law.joint == pytest.approx(3)
    assert law.per_item.c2 == pytest.approx(2)
    # 7 items in 3 slices: the largest slice has 3 items.
    assert law.peak(7, 4.0, tokens=10, slices=3) == pytest.approx(156 + 7 * 59 + 3 * 3 * 4 * 10)


def test_slices_are_counted_whole() -> None:
    law = fit_law([*peaks([1.0], tokens=4), *peaks([1.0], counts=(4,), tokens=1)])
    # a = 111, b = 14, joint of one item of 8 tokens = 24.
    exactly = 111 + 6 * 14 + 2 * 24
    assert law.most_items(exactly, 1.0, tokens=8, slices=3) == 6
    assert law.most_items(exactly - 1, 1.0, tokens=8, slices=3) == 5


@pytest.mark.parametrize("length", [0.9, 10.1])
def test_lengths_outside_the_probes_are_refused(length: float) -> None:
    law = fit_law(peaks([1.0, 4.0, 10.0]))
    with pytest.raises(ValueError, match=r"between 1 and 10 s; .* is outside this range"):
        law.peak(1, length)


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ([], "got 0"),
        (peaks([1.0, 2.0]), "at 1 or 3 lengths, got 2"),
        ([Probe(2, 1.0, peak_bytes=10), Probe(2, 1.0, peak_bytes=11)], "two item counts at 1 s"),
    ],
)
def test_too_few_probes_are_refused(probes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_law(probes)


def test_the_cap_leaves_a_reserve() -> None:
    assert memory_cap(8 * GIB, 7 * GIB, own=0) == 7 * GIB - 512 * MIB
    assert memory_cap(100 * GIB, 90 * GIB, own=20 * GIB) == 97 * GIB
    assert memory_cap(GIB, 256 * MIB, own=0) == 0


def test_the_quadratic_length_is_where_both_parts_are_equal() -> None:
    assert quadratic_length(Quadratic(7, 60, c2=3), 10) == 20
    assert quadratic_length(Quadratic(7, 60, c2=0.1), 10) is None
    assert quadratic_length(Quadratic(7, 0, c2=3), 10) is None


def test_tokens_in_one_sequence_are_told_from_a_joint_network() -> None:
    """Exact where memory is exactly so; a trace of a joint network is noise, and none is then tried in slices."""

    def probes(joint: float, each: float) -> list[Probe]:
        return [
            Probe(
                count, length, tokens=tokens, slices=1,
                peak_bytes=round(1_000 + count * (100 * length + each * tokens) + count * joint * length * tokens),
            )
            for length in (1.0, 4.0, 10.0)
            for count, tokens in ((1, 8 * length), (2, 8 * length), (2, 4 * length))
            if tokens == 8 * length or length != 4.0
        ]  # fmt: skip

    both = fit_law(probes(30.0, 50.0))
    assert (both.joint, both.per_token) == (pytest.approx(30.0), pytest.approx(50.0))
    assert both.peak(5, 6.0, tokens=11) == pytest.approx(1_000 + 5 * (600 + 550) + 5 * 30 * 66)
    assert both.most_items(1_000 + 7 * (600 + 550 + 30 * 66), 6.0, tokens=11) == 7
    sequence = fit_law(probes(0.1, 50.0))
    assert (sequence.joint, sequence.per_token) == (0.0, pytest.approx(51.0))
    alone = fit_law(probes(30.0, 0.0))
    assert (alone.joint, alone.per_token) == (pytest.approx(30.0), pytest.approx(0.0, abs=1e-9))
