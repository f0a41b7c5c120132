"""How the items of one update are packed for the devices; packing never changes what is trained.

Letters: G items of the update, W ranks. Items are sorted by their padded length and cut into few
micro-batches: at minimum total cost for one rank; for several ranks, of about equal cost, a multiple
of W of them, assigned to the ranks in order of decreasing cost, so that all ranks finish together.
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
# So few items are searched at every place.
_ALL_PLACES = 64
# Ranks that wait less than this fraction of an update are balanced well enough.
_EVEN = 2e-4


@dataclass(frozen=True, slots=True)
class Packed:
    """A micro-batch: the places `first` to `first + count` of the sorted items, and its cost."""

    first: int
    count: int
    cost: float


def pack(costs: Sequence[float], *, cap: float, most: int, world: int) -> list[list[Packed]]:
    """Return the micro-batches of each rank: equally many, disjoint, the most expensive first.

    No micro-batch costs more than `cap` or holds more than `most` items, except a single item
    that exceeds `cap` on its own. A micro-batch is empty only if there are fewer items than
    micro-batches.

    Args:
        costs: cost of each item, in decreasing order; a micro-batch costs its number of items times
            the cost of its first item.
        cap: maximum cost of a micro-batch.
        most: maximum items of a micro-batch.
        world: W, number of ranks.
    """
    cap = min(cap, costs[0] * len(costs))
    fewest = _cuts(costs, cap, most=most)
    wanted = -(-len(fewest) // world) * world
    starts = fewest
    if wanted > 1 and world == 1 and len(costs) <= _MOST_SEARCHED:
        # A single rank waits for no other, so its micro-batches may differ in cost. Allowing one more
        # micro-batch per 32 reduces padding by about a tenth.
        wanted += wanted // 32
        starts = _cheapest(costs, cap, most=most, wanted=wanted)
        if len(costs) <= _ALL_PLACES:
            exact = _cheapest(costs, cap, most=most, wanted=wanted, everywhere=True)
            if _total(costs, exact) * _SLACK < _total(costs, starts):
                starts = exact
    elif wanted > 1:
        starts = _halved(_evened(costs, cap, most=most, wanted=wanted), len(costs), wanted=wanted)
        starts = _tidied(costs, starts, cap=cap, most=most)
    ends = [*starts[1:], len(costs)]
    batches = [
        Packed(first, end - first, cost=costs[first] * (end - first))
        for first, end in zip(starts, ends, strict=True)
    ]
    batches.sort(key=lambda batch: -batch.cost)
    if world == 1:
        return [batches]
    batches.extend(Packed(len(costs), 0, cost=0.0) for _ in range(wanted - len(batches)))
    return _dealt(batches, world)


def _cuts(costs: Sequence[float], target: float, *, most: int) -> list[int]:
    """Return where micro-batches start that cost `target` at most."""
    starts, at, end = [], 0, len(costs)
    limit = target * _SLACK
    while at < end:
        starts.append(at)
        # The limit may be infinite.
        at += int(min(most, max(1.0, limit / costs[at])))
    return starts


def _evened(costs: Sequence[float], cap: float, *, most: int, wanted: int) -> list[int]:
    """Return at most `wanted` starts, for the lowest cost limit that allows this number."""
    low, high = 0.0, cap
    best = _cuts(costs, high, most=most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        starts = _cuts(costs, middle, most=most)
        if len(starts) <= wanted:
            best, high = starts, middle
        else:
            low = middle
    return best


def _halved(starts: list[int], num_items: int, *, wanted: int) -> list[int]:
    """Halve the micro-batches with the most items until there are `wanted`, or one item in each."""
    starts = list(starts)
    while len(starts) < min(wanted, num_items):
        counts = [end - first for first, end in zip(starts, [*starts[1:], num_items], strict=True)]
        largest = counts.index(max(counts))
        starts.insert(largest + 1, starts[largest] + (counts[largest] + 1) // 2)
    return starts


def _total(costs: Sequence[float], starts: Sequence[int]) -> float:
    """Return the cost of all micro-batches."""
    ends = [*starts[1:], len(costs)]
    return sum(costs[first] * (end - first) for first, end in zip(starts, ends, strict=True))


def _cheapest(
    costs: Sequence[float], cap: float, *, most: int, wanted: int, everywhere: bool = False
) -> list[int]:
    """Return at most `wanted` starts with the minimum total cost, by dynamic programming.

    A micro-batch costs its number of items times its first, most expensive item. Within a run of
    equal items, moving a start to an earlier item never raises the total cost, until it meets the
    beginning of the run, leaves more items than the remaining micro-batches can hold, or makes a
    later one too full. Only the first two and the place where the micro-batch is full are tried, unless
    `everywhere`: the search stays small, and rarely misses the optimum by a little.
    """
    end, limit = len(costs), cap * _SLACK
    full = [min(end, at + min(most, max(1, int(limit / cost)))) for at, cost in enumerate(costs)]
    needed = [0] * (end + 1)
    for at in range(end - 1, -1, -1):
        needed[at] = needed[full[at]] + 1
    # first[n]: the earliest place from which n micro-batches can hold all remaining items.
    first = [end] * (wanted + 1)
    for at in range(end - 1, -1, -1):
        first[min(needed[at], wanted)] = at
    steps = [at for at in range(1, end) if costs[at] < costs[at - 1]]
    # For each place and number of micro-batches before it: their minimum cost, and the last start.
    paths: list[dict[int, tuple[float, int]]] = [{} for _ in range(end + 1)]
    paths[0][0] = (0.0, 0)
    for at in range(end):
        if not paths[at]:
            continue
        nexts = [*steps[bisect_right(steps, at) : bisect_left(steps, full[at])], full[at]]
        if everywhere:
            nexts = list(range(at + 1, full[at] + 1))
        for number, (spent, _) in paths[at].items():
            early = first[max(0, wanted - number - 1)]
            for place in (*nexts, early) if at < early < full[at] else nexts:
                if number + 1 + needed[place] <= wanted:
                    cost = spent + costs[at] * (place - at)
                    known = paths[place].get(number + 1)
                    if known is None or cost < known[0]:
                        paths[place][number + 1] = (cost, at)
    number = min(paths[end], key=lambda count: paths[end][count])
    starts, place = [], end
    while number:
        place = paths[place][number][1]
        starts.append(place)
        number -= 1
    return starts[::-1]


def _tidied(costs: Sequence[float], starts: list[int], *, cap: float, most: int) -> list[int]:
    """Move each start to where its two neighbouring micro-batches have the lowest total cost.

    The optimum is at an item that is shorter than the one before it, so only those are tried.
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
    """Assign each batch to the least loaded rank with room; then swap batches to balance the ranks."""
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
    """Swap a micro-batch of the busiest rank with one of another rank; False if no swap helps."""
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
