"""The memory law: the peak memory of a forward and backward pass, predicted from a few probes.

At a fixed item size the peak is affine in the number of items B; over the length T of the items both
parts are quadratic: peak(B, T) = a(T) + B b(T). U tokens of an item add B d U, as in one sequence with its
frames, and the joint network of a transducer ceil(B / S) c T U for S slices. The optimizer phase is separate: it doesn't depend on B.
Pure functions; bytes, seconds and tokens throughout. Lengths outside the probed range are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

_MIB = 2**20
_RESERVE_BYTES, _RESERVE_SHARE = 512 * _MIB, 0.03
# Relative tolerance for rounding at the ends of the probed range.
_SLACK = 1e-6
_SMALL_PART = 0.05


@dataclass(frozen=True, slots=True)
class Probe:
    """One measured peak: `count` items of `length_s` seconds and `tokens` tokens, in `slices`."""

    count: int
    length_s: float
    peak_bytes: int
    tokens: float = 0.0
    slices: int = 1


@dataclass(frozen=True, slots=True)
class Quadratic:
    """c0 + c1 x + c2 x^2."""

    c0: float
    c1: float = 0.0
    c2: float = 0.0

    def __call__(self, x: float) -> float:
        """Return the value at x."""
        return self.c0 + x * (self.c1 + x * self.c2)


@dataclass(frozen=True, slots=True)
class MemoryLaw:
    """The fitted law.

    Attributes:
        fixed: a(T), bytes that don't depend on the number of items.
        per_item: b(T), bytes per item, without its part of the joint network.
        joint: c, bytes of the joint network for each item of a slice, second and token.
        per_token: d, bytes for each item and token, whatever its length.
        shortest_s: shortest probed length.
        longest_s: longest probed length.
    """

    fixed: Quadratic
    per_item: Quadratic
    joint: float
    shortest_s: float
    longest_s: float
    per_token: float = 0.0

    def peak(self, count: int, length_s: float, *, tokens: float = 0.0, slices: int = 1) -> float:
        """Return the peak memory of `count` items in bytes.

        Raises:
            ValueError: for a length outside the probed range, where the law does not apply.
        """
        self._check(length_s)
        in_slice = -(-count // slices)
        joint = in_slice * self.joint * length_s * tokens
        each = self.per_item(length_s) + self.per_token * tokens
        return self.fixed(length_s) + count * each + joint

    def most_items(
        self, budget_bytes: float, length_s: float, *, tokens: float = 0.0, slices: int = 1
    ) -> int:
        """Return how many items fit in a budget; 0 when not even one does."""
        room = budget_bytes - self.peak(0, length_s)
        each = self.per_item(length_s) + self.per_token * tokens
        joint = self.joint * length_s * tokens
        if each + joint / slices <= 0:
            return 65_536
        count = max(0, floor(room / (each + joint / slices)))
        # ceil(B / S) slices of equal size: a fuller last slice may take a little more than B / S.
        while count and self.peak(count, length_s, tokens=tokens, slices=slices) > budget_bytes:
            count -= 1
        return count

    def _check(self, length_s: float) -> None:
        low, high = self.shortest_s * (1 - _SLACK), self.longest_s * (1 + _SLACK)
        if not low <= length_s <= high:
            raise ValueError(
                f"the memory law was fitted between {self.shortest_s:g} and {self.longest_s:g} s; "
                f"{length_s:g} s is outside this range"
            )


def fit_law(probes: Sequence[Probe]) -> MemoryLaw:
    """Fit the law to pairs of probes (for example B and 2 B) at one length or at three.

    A probe that differs from one of them only in tokens determines what tokens take: the joint network's part,
    or with another such probe at another length how much is of either kind.

    Raises:
        ValueError: when the probes don't determine the law.
    """
    tokens = _token_parts(probes)
    lengths = sorted({probe.length_s for probe in probes})
    if len(lengths) not in (1, 3):
        raise ValueError(f"the memory law needs probes at 1 or 3 lengths, got {len(lengths)}")
    lines = [
        _line([probe for probe in probes if probe.length_s == length], tokens) for length in lengths
    ]
    fixed = _through(lengths, [line[0] for line in lines])
    per_item = _through(lengths, [line[1] for line in lines])
    return MemoryLaw(
        fixed, per_item, joint=tokens.joint, shortest_s=lengths[0], longest_s=lengths[-1],
        per_token=tokens.each,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _TokenParts:
    """Bytes of the joint network for each item of a slice, second and token; bytes for each item and token."""

    joint: float = 0.0
    each: float = 0.0


@dataclass(frozen=True, slots=True)
class _Growth:
    """Bytes that a token adds to `count` items of a length, of which a slice has `in_slice`."""

    length_s: float
    count: int
    in_slice: int
    per_token: float


def _token_parts(probes: Sequence[Probe]) -> _TokenParts:
    found: dict[float, _Growth] = {}
    for one in probes:
        for other in probes:
            same = (one.count, one.length_s, one.slices)
            if same == (other.count, other.length_s, other.slices) and one.tokens > other.tokens:
                grown = (one.peak_bytes - other.peak_bytes) / (one.tokens - other.tokens)
                items = -(-one.count // one.slices)
                found.setdefault(
                    one.length_s, _Growth(one.length_s, one.count, items, max(0.0, grown))
                )
    if not found:
        return _TokenParts()
    long, short = found[max(found)], found[min(found)]
    whole = _TokenParts(joint=long.per_token / (long.in_slice * long.length_s))
    if long is short:
        return whole
    # per_token = in_slice * length * joint + count * each, at two lengths.
    rise = (
        long.in_slice * long.length_s * short.count - short.in_slice * short.length_s * long.count
    )
    if rise <= 0:
        return whole
    joint = (long.per_token * short.count - short.per_token * long.count) / rise
    each = (long.per_token - joint * long.in_slice * long.length_s) / long.count
    if each <= 0:
        return whole
    # What measuring leaves of a joint network that is not there.
    if joint * long.length_s < _SMALL_PART * each:
        return _TokenParts(each=long.per_token / long.count)
    return _TokenParts(joint, each)


def _line(probes: Sequence[Probe], tokens: _TokenParts) -> tuple[float, float]:
    """Return a and b at one length, from the probes with the fewest and the most items."""
    few = min(probes, key=lambda probe: probe.count)
    many = max(probes, key=lambda probe: probe.count)
    if few.count == many.count:
        raise ValueError(
            f"the memory law needs two item counts at {few.length_s:g} s, got only {few.count}"
        )
    low, high = (_without_tokens(probe, tokens) for probe in (few, many))
    each = (high - low) / (many.count - few.count)
    return low - few.count * each, each


def _without_tokens(probe: Probe, tokens: _TokenParts) -> float:
    in_slice = -(-probe.count // probe.slices)
    each = in_slice * tokens.joint * probe.length_s + probe.count * tokens.each
    return probe.peak_bytes - each * probe.tokens


def _through(xs: Sequence[float], ys: Sequence[float]) -> Quadratic:
    """Return the quadratic through three points (Newton's form), or the constant through one."""
    if len(xs) == 1:
        return Quadratic(ys[0])
    x0, x1, x2 = xs
    first = (ys[1] - ys[0]) / (x1 - x0)
    second = ((ys[2] - ys[1]) / (x2 - x1) - first) / (x2 - x0)
    return Quadratic(ys[0] - first * x0 + second * x0 * x1, first - second * (x0 + x1), c2=second)


def memory_cap(total: int, free: int, *, own: int) -> int:
    """Return the bytes available to training.

    Args:
        total: memory of the device.
        free: memory not in use by any process.
        own: memory that this process already uses.
    """
    reserve = max(_RESERVE_BYTES, _RESERVE_SHARE * total)
    return max(0, int(min(total, free + own) - reserve))


def quadratic_length(per_item: Quadratic, longest_s: float) -> float | None:
    """Return q of the cost d + d^2 / q that is proportional to the memory of an item; None: linear.

    A quadratic part below a twentieth of the linear part at the longest item is ignored.
    """
    if per_item.c1 <= 0 or per_item.c2 * longest_s < 0.05 * per_item.c1:
        return None
    return per_item.c1 / per_item.c2
