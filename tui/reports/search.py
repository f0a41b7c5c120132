"""A search as text: its space before it is started, its trials, and what its best settings are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.config.errors import counted
from engine.metrics.registry import metric_of
from tui.reports import formats

if TYPE_CHECKING:
    from jobs.searches.overview import Confirmed, Overview, Summary, TrialRow
    from jobs.sweeps.plan import Plan
    from jobs.sweeps.search_settings import SearchSettings

LIST_HEADERS = ("SEARCH", "STATE", "TRIALS", "NOTE")
CONFIRMED_RIGHT = "SEARCH CONFIRMED SEEDS CHANGE"


def plan_lines(plan: Plan) -> list[str]:
    """Return what the search of a plan will do."""
    from jobs.sweeps.search_space import read_space

    search, base = plan.experiment.search, plan.runs[0]
    assert search is not None
    space = read_space(search)
    width = max(len(parameter.key) for parameter in space)
    matched = f", matched in {plan.experiment.match}" if plan.experiment.match != "none" else ""
    pruning = f"{search.pruner} pruning" if search.pruner != "none" else "no pruning"
    lines = [
        f"{plan.name}: search in {search.trials} trials of {plan.experiment.base}{matched}, with seed "
        f"{search.seed} ({search.sampler}, {pruning})",
        f"  first trial: {base.name}, the base itself, {base.updates:,} updates",
        *(f"  {parameter.key:<{width}}  {parameter.text}" for parameter in space),
    ]
    confirming = num_confirming(search)
    if confirming:
        seeds = ", ".join(map(str, search.fresh_seeds))
        lines.append(
            f"then {counted(confirming, 'run')} with fresh seeds ({seeds}): the base and the best "
            f"{num_confirmed(search)}; the verdict is about these"
        )
        if search.confirm_seeds == 1:
            lines.append(
                "one fresh seed compares trained models, not settings; use confirm_seeds = 3 for a verdict"
            )
    if base.seconds is None:
        lines.append("duration unknown (no comparable earlier run)")
    else:
        total = formats.duration(base.seconds * (search.trials + confirming))
        lines.append(
            f"about {total} if all runs took as long as the base (estimated from earlier runs); pruning "
            "saves time, larger settings cost some"
        )
    return lines


def plan_record(plan: Plan) -> dict[str, Any]:
    """Return the plan of a search as plain values."""
    search, base = plan.experiment.search, plan.runs[0]
    assert search is not None
    return {
        "experiment": plan.name,
        "base": plan.experiment.base,
        "match": plan.experiment.match,
        "search": search.model_dump(mode="json"),
        "confirming_runs": num_confirming(search),
        "fresh_seeds": list(search.fresh_seeds),
        "first_trial": {
            "name": base.name, "updates": base.updates, "items": base.items,
            "seconds": base.seconds, "config": base.config.to_dict(),
        },
    }  # fmt: skip


def num_confirming(search: SearchSettings) -> int:
    """Return the number of runs that confirm the best settings."""
    return (num_confirmed(search) + 1) * search.confirm_seeds if search.confirm else 0


def num_confirmed(search: SearchSettings) -> int:
    """Return how many of the best are run again at most: the first trial is the base itself."""
    return min(search.confirm, search.trials - 1)


def list_row(item: Summary) -> list[str]:
    """Return the cells of one search in a list, in the order of `LIST_HEADERS`."""
    done = formats.MISSING if item.problem else f"{item.ended}/{item.trials}"
    return [formats.clean(item.name), item.state, done, formats.clean(item.problem or item.message)]


def headline(view: Overview) -> str:
    """Return the state of a search, the number of its trials and the best one."""
    definition = view.definition
    states = [row.state for row in view.trials]
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    what = metric_of(definition.metric)
    best = next((row for row in view.trials if row.variant == view.best), None)
    text = f"search {formats.clean(definition.name)}: {definition.state}"
    if definition.message:
        text += f" ({formats.clean(definition.message)})"
    text += f"; {len(view.trials)} of {definition.search.trials} trials"
    text += f" ({', '.join(parts)})" if parts else ""
    if best is not None:
        text += f"; best {best.variant}: {what.title} {what.with_unit(best.value)}"
    return text


def trial_headers(view: Overview) -> list[str]:
    """Return the headers of the trials: the settings that are varied have a column each."""
    title = metric_of(view.definition.metric).title
    keys = [parameter.key for parameter in view.definition.space]
    return ["TRIAL", "RUN", "STATE", "DONE", title, *keys, "NOTE"]


def trial_row(view: Overview, row: TrialRow) -> list[str]:
    """Return the cells of one trial, in the order of `trial_headers`."""
    what = metric_of(view.definition.metric)
    cells = [
        _setting(row.settings[parameter.key]) if parameter.key in row.settings else formats.MISSING
        for parameter in view.definition.space
    ]
    mark = "*" if row.variant == view.best else ""
    return [
        f"{row.variant}{mark}",
        formats.MISSING if row.run is None else str(row.run),
        row.state,
        formats.percent(row.progress),
        what.text(row.value),
        *cells,
        formats.clean(row.note),
    ]


def importance_line(view: Overview) -> str:
    """Return how much each setting mattered, the first one most; empty while that is unknown."""
    if not view.importances:
        return ""
    ranked = sorted(view.importances.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{key} {formats.percent(share)}" for key, share in ranked)
    return f"importance (PED-ANOVA, of finished trials): {shares}"


def confirmed_table(view: Overview) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of the settings that were run again."""
    what = metric_of(view.definition.metric)
    headers = ["CONFIG", "SEARCH", "CONFIRMED", "SEEDS", "CHANGE"]
    return headers, [_confirmed_row(item, what.scale) for item in view.confirmed]


def bias_line(view: Overview) -> str:
    """Return why the number of the search and that of the fresh seeds differ."""
    title = metric_of(view.definition.metric).title
    return (
        f"{title} in the search and confirmed. SEARCH is the value of one run, and the best of "
        f"{counted(view.num_finished, 'finished trial')} was picked by it: it is biased, too good on average. "
        "CONFIRMED is the mean of runs with fresh seeds that had no part in the choice."
    )


def _confirmed_row(item: Confirmed, scale: float) -> list[str]:
    spread = f" ± {item.deviation * scale:.3f}" if item.deviation is not None else ""
    confirmed = formats.MISSING if item.mean is None else f"{item.mean * scale:.3f}{spread}"
    change = formats.MISSING
    if item.mean is not None and item.searched is not None:
        change = f"{(item.mean - item.searched) * scale:+.3f}"
    return [
        formats.clean(item.variant),
        formats.MISSING if item.searched is None else f"{item.searched * scale:.3f}",
        confirmed,
        f"{len(item.values)}/{item.planned}",
        change,
    ]


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_setting, value))}]"
    return formats.clean(str(value).lower() if isinstance(value, bool) else str(value))
