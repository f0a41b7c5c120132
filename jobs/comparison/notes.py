"""What limits a comparison, in words: the caveats that every output of it carries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from engine.metrics.registry import metric_of
from jobs.comparison.evaluations import Point, RunScores, When, settings_key
from jobs.comparison.inference import FEWEST_ITEMS, Difference
from jobs.comparison.result import Row
from jobs.comparison.seed_spread import SeedSpread
from jobs.comparison.verdicts import Verdict
from jobs.meaning import differing_settings

_RECOMMENDED_SEEDS = 3
_MOST_NAMES = 3
# Evaluations whose progress differs by less than this are taken as equal without a word.
_ABOUT_EQUAL = 1.02


def different_meaning(scores: Sequence[RunScores], metric: str) -> str:
    """Return why values of a metric don't mean the same in all runs; empty when they do."""
    configs = [item.config for item in scores if item.points.get(metric)]
    different = differing_settings(metric, configs)
    if not different:
        return ""
    return f"the runs differ in {', '.join(different)}, so its values don't mean the same"


def of_runs(scores: Sequence[RunScores], budget: float, *, asked: Sequence[str] = ()) -> list[str]:
    """Say which runs don't count, by the metrics that were asked for, and where the comparison ends."""
    of = f" of {', '.join(asked)}" if asked else ""
    lines = []
    for state in dict.fromkeys(item.run.state for item in scores):
        names = [item.run.name for item in scores if item.run.state == state and not item.points]
        if names:
            shown = ", ".join(names[:_MOST_NAMES])
            rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            verb = "has" if len(names) == 1 else "have"
            ignored = "is" if len(names) == 1 else "are"
            lines.append(f"{shown}{rest} ({state}) {verb} no evaluation{of} and {ignored} ignored")
    measured = [item for item in scores if item.points]
    slowest = min(measured, key=lambda item: item.reach)
    if max(item.reach for item in measured) > budget * 1.001:
        lines.append(
            f"compared up to the progress of {slowest.run.name} ({slowest.run.state}); later evaluations of "
            "other runs are ignored. To compare them, name the runs without that one"
        )
    return lines


def of_seeds(scores: Sequence[RunScores]) -> list[str]:
    """Say where runs repeat a seed."""
    lines = []
    for variant in dict.fromkeys(item.variant for item in scores):
        seeds = [item.run.seed for item in scores if item.variant == variant]
        if len(set(seeds)) < len(seeds):
            lines.append(
                f"{variant}: runs share a seed; repeats of a seed count as one run, since they say nothing about other seeds"
            )
    return lines


def of_settings(scores: Sequence[RunScores]) -> list[str]:
    """Say which variants have equal settings, so that nothing but chance is between them."""
    equal: dict[str, dict[str, None]] = {}
    for item in scores:
        if key := settings_key(item.config):
            equal.setdefault(key, {})[item.variant] = None
    return [
        f"{', '.join(names)} have the same settings apart from the seed: a difference between them is due to chance"
        for names in equal.values()
        if len(names) > 1
    ]


def of_grid(
    matched: Mapping[str, Sequence[Point]], *, counts: Collection[int], when: When
) -> list[str]:
    """Say where not every evaluation counts, or they are not at the same progress.

    Args:
        matched: name of a run -> its evaluations that have a partner in every other run.
        counts: numbers of evaluations that the runs have.
        when: which of them are compared.
    """
    common = min((len(points) for points in matched.values()), default=0)
    lines = []
    # One that has no partner, such as the first after a single update, is not worth a word.
    if when == "best" and counts and (len(counts) > 1 or common < max(counts) - 1):
        lines.append(
            f"the best evaluation of each run is chosen among the {common} that all runs have at the same progress: "
            "a run that is evaluated more often would win by chance otherwise"
        )
    if not common:
        return lines
    last = {name: points[-1].at for name, points in matched.items()}
    ahead, behind = max(last, key=last.__getitem__), min(last, key=last.__getitem__)
    if last[ahead] > last[behind] * _ABOUT_EQUAL:
        lines.append(
            f"evaluations are not at exactly the same progress: at the last one compared, {ahead} is "
            f"{100 * (last[ahead] / last[behind] - 1):.0f} % further than {behind}, which is in its favour. "
            "For a fair comparison, evaluate all runs at the same progress (validation.every)"
        )
    return lines


def of_bad_items(scores: RunScores, bad: int, *, count: int) -> str:
    """Say that items of a run are bad."""
    return (
        f"{scores.run.name}: {bad} of {count} items have a non-finite estimate (NaN or infinity); they count with "
        "the worst value of each metric"
    )


def of_tables(tables: Mapping[str, Sequence[Row]], *, min_seeds: int) -> list[str]:
    """Say what all tables have in common."""
    compared = [row for rows in tables.values() for row in rows if row.difference]
    differences = [row.difference for row in compared if row.difference]
    models = dict.fromkeys(
        row.variant for row in compared if row.difference and row.difference.of == "models"
    )
    lines = []
    if models:
        enough = max(min_seeds, _RECOMMENDED_SEEDS)
        some = any(item.of == "recipes" for item in differences)
        lines.append(
            f"{', '.join(models) + ': ' if some else ''}fewer than {min_seeds} seeds a side: the trained models are compared, not the variants; another seed "
            f"may reverse the order. For a verdict, train {enough} seeds of each "
            f"variant (seeds = {list(range(enough))} in an experiment, --set seed=1 for a run)"
        )
    recipes = [item for item in differences if item.of == "recipes"]
    if any(min(item.num_runs) < _RECOMMENDED_SEEDS for item in recipes):
        lines.append(
            f"two seeds a side detect large differences only; {_RECOMMENDED_SEEDS} or more are recommended"
        )
    if any(len(rows) > 2 for rows in tables.values()):
        lines.append(
            "several variants: intervals are wider than for two, so that all of a table hold at once (95 %)"
        )
    if len(tables) > 1:
        lines.append(
            f"{next(iter(tables))} decides; the other metrics are exploratory: one in twenty shows a difference by chance"
        )
    rates = dict.fromkeys(metric_of(name).title for name in tables if metric_of(name).is_rate)
    if rates:
        lines.append(
            f"{', '.join(rates)}: totals over all items, so differences weight items by their length"
        )
    medians = dict.fromkeys(
        metric_of(name).title for name in tables if metric_of(name).summary == "median"
    )
    if medians:
        lines.append(
            f"{', '.join(medians)} of a run is a median over files; differences and intervals are of the mean over files"
        )
    return lines


def of_verdict(difference: Difference, spread: SeedSpread | None, *, verdict: Verdict) -> str:
    """Say what limits one verdict; empty where nothing does but what the interval says."""
    if difference.num_items < FEWEST_ITEMS:
        return f"only {difference.num_items} validation items; a verdict needs {FEWEST_ITEMS}"
    if difference.of == "recipes" or verdict == "undecided":
        return ""
    if spread is None:
        return "too few seeds: this says nothing about other seeds"
    chance = 100 * spread.chance_of_reversal(difference.mean, num_runs=difference.num_runs)
    share = f"about {chance:.0f} %" if chance >= 1 else "less than 1 %"
    return (
        f"with other seeds, the order would be reversed in {share} of cases (from {spread.num_runs} runs that "
        "differ only in their seed)"
    )
