"""Whether an encoder beats the baselines: paired differences by the inference of comparisons.

The items of an interval are the independent units of test data: takes, or speakers where there are at
least ten. One pair of trained models gives a statement about models; several seeds one about recipes. MFCC
has no seed: it is the same with each seed of what it is compared with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from engine.probing.measures import MEASURES
from jobs.comparison.inference import (
    FEWEST_ITEMS,
    FEWEST_SEEDS,
    Of,
    Sample,
    compared,
    num_common_items,
)
from jobs.comparison.verdicts import decide
from jobs.probing.result import Compared, Encoder

MODELS_ONLY = "one seed: this says nothing about other seeds"


def comparisons(
    encoders: Sequence[Encoder], units: Mapping[str, str], *, measures: Sequence[str]
) -> list[Compared]:
    """Compare every trained variant with the baselines and with the first trained variant.

    Args:
        encoders: what was probed.
        units: unit of the test recordings -> its speaker.
        measures: those to compare by; one without a direction is left out.

    Returns:
        By one measure after the other; all intervals of a measure and kind hold at once.
    """
    by_variant: dict[str, list[Encoder]] = defaultdict(list)
    for item in encoders:
        by_variant[item.variant].append(item)
    pairs = list(_pairs(encoders))
    found: list[Compared] = []
    for measure in measures:
        if MEASURES[measure].rises is not None:
            found += _by(measure, pairs, by_variant=by_variant, units=units)
    return found


def _pairs(encoders: Sequence[Encoder]) -> Iterator[tuple[str, str]]:
    """Yield (reference, variant): the baselines of each trained variant, then the first of those."""
    trained = list(dict.fromkeys(item.variant for item in encoders if item.is_trained))
    baselines = list(dict.fromkeys(item.variant for item in encoders if not item.is_trained))
    for variant in trained:
        for baseline in baselines:
            if baseline == random_of(variant) or not baseline.startswith(_RANDOM):
                yield baseline, variant
        if variant != trained[0]:
            yield trained[0], variant


_RANDOM = "random, "


def random_of(variant: str) -> str:
    """Return the name of a variant's untrained network."""
    return f"{_RANDOM}{variant}"


def _by(
    measure: str,
    pairs: Sequence[tuple[str, str]],
    *,
    by_variant: Mapping[str, Sequence[Encoder]],
    units: Mapping[str, str],
) -> list[Compared]:
    results: dict[tuple[str, str], Compared] = {}
    families: dict[Of, list[tuple[tuple[str, str], tuple[Sample, Sample]]]] = {
        "recipes": [], "models": [],
    }  # fmt: skip
    for reference, variant in pairs:
        sides = [_sample(by_variant[name], measure, units=units) for name in (reference, variant)]
        if any(side is None for side in sides):
            results[reference, variant] = Compared(
                measure, variant, reference, None, verdict="not comparable",
                caveat="not measured on both sides",
            )  # fmt: skip
            continue
        first, second = _same_seeds(sides[0], sides[1])  # type: ignore[arg-type]
        enough = min(len(first.seeds), len(second.seeds)) >= FEWEST_SEEDS
        families["recipes" if enough else "models"].append(((reference, variant), (first, second)))
    for of, members in families.items():
        results |= _family(measure, members, of=of)
    return [results[pair] for pair in pairs]


def _family(
    measure: str,
    members: Sequence[tuple[tuple[str, str], tuple[Sample, Sample]]],
    *,
    of: Of,
) -> dict[tuple[str, str], Compared]:
    samples = [sample for _, both in members for sample in both]
    if not samples:
        return {}
    if num_common_items(samples) < 2:
        return {
            (reference, variant): Compared(
                measure, variant, reference, None, verdict="not comparable",
                caveat="fewer than two takes have a value on both sides",
            )
            for (reference, variant), _ in members
        }  # fmt: skip
    places = [(2 * k, 2 * k + 1) for k in range(len(members))]
    about = MEASURES[measure]
    found = {}
    for ((reference, variant), _), (_, difference) in zip(
        members, compared(samples, places, of=of), strict=True
    ):
        verdict = decide(difference, margin=about.margin, rises=bool(about.rises))
        caveat = MODELS_ONLY if of == "models" else ""
        if difference.num_items < FEWEST_ITEMS:
            caveat = f"only {difference.num_items} takes; a verdict needs {FEWEST_ITEMS}"
        found[reference, variant] = Compared(
            measure, variant, reference, difference, verdict=verdict, caveat=caveat
        )
    return found


def _sample(
    encoders: Sequence[Encoder], measure: str, *, units: Mapping[str, str]
) -> Sample | None:
    """Return the values of a variant's seeds, by unit; repeats of a seed count as one, their mean."""
    rows: dict[int, list[np.ndarray]] = defaultdict(list)
    names = sorted(units)
    for item in encoders:
        score = item.chosen_score(measure)
        if score is None or not score.units:
            return None
        values = np.array([score.units.get(name, np.nan) for name in names])
        rows[-1 if item.seed is None else item.seed].append(_grouped(values, names, units=units))
    return Sample(np.stack([np.mean(row, axis=0) for row in rows.values()]), tuple(rows))


def _grouped(values_U: np.ndarray, names: Sequence[str], *, units: Mapping[str, str]) -> np.ndarray:
    """Return values by speaker where there are enough speakers, else as they are, with the same mean."""
    speakers = sorted({units[name] for name in names})
    if len(speakers) < FEWEST_ITEMS:
        return values_U
    place = {speaker: k for k, speaker in enumerate(speakers)}
    known = np.isfinite(values_U)
    sums = np.zeros(len(speakers))
    for value, name, is_known in zip(values_U, names, known, strict=True):
        if is_known:
            sums[place[units[name]]] += value
    return sums * len(speakers) / max(1, int(known.sum()))


def _same_seeds(first: Sample, second: Sample) -> tuple[Sample, Sample]:
    """Give what has no seed the seeds of the other side."""
    if first.seeds == (-1,):
        first = Sample(np.repeat(first.values_SN, len(second.seeds), axis=0), second.seeds)
    if second.seeds == (-1,):
        second = Sample(np.repeat(second.values_SN, len(first.seeds), axis=0), first.seeds)
    return first, second
