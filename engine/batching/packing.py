"""How the items of one update are packed for the devices: what is trained never changes by it.

Letters: G items of the update, W ranks. Items are sorted by their padded length and cut into few
micro-batches: of least cost for one rank; for several, of about equal cost, as many as W divides,
dealt to the ranks the most expensive first, so that they end at about the same time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_SLACK = 1 + 1e-9
_HALVINGS = 14
_SWAPS = 24
_SWEEPS = 4
_MOST_SEARCHED = 20_000
# Ranks that wait less than this share of an update are even enough.
_EVEN = 2e-4


@dataclass(frozen=True, slots=True)
class Packed:
    """A micro-batch: the places `first` to `first + count` of the sorted items, and its cost."""

    first: int
    count: int
    cost: float


def pack(costs: Sequence[float], *, cap: float, most: int, world: int) -> list[list[Packed]]:
    """Return the micro-batches of each rank: equally many, disjoint, the most expensive first.

    No micro-batch costs more than `cap` or holds more than `most` items, but for an item
    that alone costs more than `cap`. A micro-batch is empty only where there are fewer items than
    micro-batches.

    Args:
        costs: cost of each item, falling; a micro-batch costs as many times its first item as it
            holds items.
        cap: most that a micro-batch may cost.
        most: most items of a micro-batch.
        world: W, number of ranks.
    """
    cap = min(cap, costs[0] * len(costs))
    fewest = _cuts(costs, cap, most)
    wanted = -(-len(fewest) // world) * world
    starts = fewest
    if wanted > 1 and world == 1 and len(costs) <= _MOST_SEARCHED:
        # One rank waits for nobody, so its micro-batches may differ in cost; one more in 32 saves
        # padding of a tenth.
        wanted += wanted // 32
        starts = _cheapest(costs, cap, most, wanted)
    elif wanted > 1:
        starts = _halved(_evened(costs, cap, most, wanted), len(costs), wanted)
        starts = _tidied(costs, starts, cap, most)
    ends = [*starts[1:], len(costs)]
    batches = [
        Packed(first, end - first, costs[first] * (end - first))
        for first, end in zip(starts, ends, strict=True)
    ]
    batches.sort(key=lambda batch: -batch.cost)
    if world == 1:
        return [batches]
    batches.extend(Packed(len(costs), 0, 0.0) for _ in range(wanted - len(batches)))
    return _dealt(batches, world)


def _cuts(costs: Sequence[float], target: float, most: int) -> list[int]:
    """Return where micro-batches start that cost `target` at most."""
    starts, at, end = [], 0, len(costs)
    limit = target * _SLACK
    while at < end:
        starts.append(at)
        # The limit may be infinite.
        at += int(min(most, max(1.0, limit / costs[at])))
    return starts


def _evened(costs: Sequence[float], cap: float, most: int, wanted: int) -> list[int]:
    """Return at most `wanted` starts with the lowest limit that allows so few."""
    low, high = 0.0, cap
    best = _cuts(costs, high, most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        starts = _cuts(costs, middle, most)
        if len(starts) <= wanted:
            best, high = starts, middle
        else:
            low = middle
    return best


def _halved(starts: list[int], num_items: int, wanted: int) -> list[int]:
    """Halve the micro-batches with the most items until there are `wanted`, or one item in each."""
    starts = list(starts)
    while len(starts) < min(wanted, num_items):
        counts = [end - first for first, end in zip(starts, [*starts[1:], num_items], strict=True)]
        largest = counts.index(max(counts))
        starts.insert(largest + 1, starts[largest] + (counts[largest] + 1) // 2)
    return starts


def _cheapest(costs: Sequence[float], cap: float, most: int, wanted: int) -> list[int]:
    """Return the at most `wanted` starts that cost least in all.

    A search over where micro-batches can start (dynamic programming): at an item that is shorter
    than the one before it, where the micro-batch before is full, or as early as the number of
    micro-batches that are left allows. Nothing else can be cheaper.
    """
    end, limit = len(costs), cap * _SLACK
    full = [min(end, at + min(most, max(1, int(limit / cost)))) for at, cost in enumerate(costs)]
    needed = [0] * (end + 1)
    for at in range(end - 1, -1, -1):
        needed[at] = needed[full[at]] + 1
    # The first place from which so many micro-batches are enough.
    first = [end] * (wanted + 1)
    for at in range(end - 1, -1, -1):
        first[min(needed[at], wanted)] = at
    steps = [at for at in range(1, end) if costs[at] < costs[at - 1]]
    # For each place: by the number of micro-batches before it, their cost and the last start.
    found: list[dict[int, tuple[float, int]]] = [{} for _ in range(end + 1)]
    found[0][0] = (0.0, 0)
    for at in range(end):
        if not found[at]:
            continue
        nexts = [*steps[bisect_right(steps, at) : bisect_left(steps, full[at])], full[at]]
        for number, (spent, _) in found[at].items():
            early = first[max(0, wanted - number - 1)]
            for place in (*nexts, early) if at < early < full[at] else nexts:
                if number + 1 + needed[place] <= wanted:
                    cost = spent + costs[at] * (place - at)
                    known = found[place].get(number + 1)
                    if known is None or cost < known[0]:
                        found[place][number + 1] = (cost, at)
    number = min(found[end], key=lambda count: found[end][count])
    starts, place = [], end
    while number:
        place = found[place][number][1]
        starts.append(place)
        number -= 1
    return starts[::-1]


def _tidied(costs: Sequence[float], starts: list[int], cap: float, most: int) -> list[int]:
    """Move each start to where the two micro-batches that it parts cost least together.

    That is where an item is shorter than the one before it, so only those are tried.
    """
    steps = [0, *(i for i in range(1, len(costs)) if costs[i] < costs[i - 1]), len(costs)]
    starts = [*starts, len(costs)]
    for _ in range(_SWEEPS):
        moved = False
        for place in range(1, len(starts) - 1):
            before, at, after = starts[place - 1 : place + 2]
            head = costs[before]
            high = min(after - 1, before + min(most, max(1, int(cap * _SLACK / head))))
            low = max(before + 1, after - most)
            best, best_at = head * (at - before) + costs[at] * (after - at), at
            for step in steps[bisect_left(steps, low) : bisect_right(steps, high)]:
                rest = costs[step] * (after - step)
                cost = head * (step - before) + rest
                if cost < best and rest <= cap * _SLACK:
                    best, best_at = cost, step
            moved = moved or best_at != at
            starts[place] = best_at
        if not moved:
            break
    return starts[:-1]


def _dealt(batches: list[Packed], world: int) -> list[list[Packed]]:
    """Deal to the rank with the least work that has room; then swap where that evens the ends."""
    room = len(batches) // world
    ranks: list[list[Packed]] = [[] for _ in range(world)]
    work = [0.0] * world
    for batch in batches:
        rank = min(
            (rank for rank in range(world) if len(ranks[rank]) < room), key=lambda rank: work[rank]
        )
        ranks[rank].append(batch)
        work[rank] += batch.cost
    for _ in range(_SWAPS):
        if max(work) * world <= sum(work) * (1 + _EVEN) or not _swap(ranks, work):
            break
    return [sorted(rank, key=lambda batch: -batch.cost) for rank in ranks]


def _swap(ranks: list[list[Packed]], work: list[float]) -> bool:
    """Swap two micro-batches of the busiest and another rank; False where none helps."""
    busy = work.index(max(work))
    best, choice = 0.0, None
    for other in range(len(ranks)):
        gap = work[busy] - work[other]
        for i, mine in enumerate(ranks[busy]):
            for j, theirs in enumerate(ranks[other]):
                moved = mine.cost - theirs.cost
                gain = min(moved, gap - moved)
                if gain > best:
                    best, choice = gain, (other, i, j, moved)
    if choice is None:
        return False
    other, i, j, moved = choice
    ranks[busy][i], ranks[other][j] = ranks[other][j], ranks[busy][i]
    work[busy] -= moved
    work[other] += moved
    return True
