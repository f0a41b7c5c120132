"""Verdicts of probes: equal networks get none, real differences do, and takes count, not items."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.probing.probe import with_comparisons
from jobs.probing.result import MFCC, Encoder, Layer, ProbeResult, Score
from jobs.probing.verdicts import MODELS_ONLY, comparisons, random_of

MEASURE = "left_out_segments"


def units(speakers=4, takes=5):
    return {f"s{s} {t}": f"s{s}" for s in range(speakers) for t in range(takes)}


def encoder(name, values, *, variant=None, seed=0, is_trained=True):
    """Return an encoder whose chosen layer adds `values` to the measure, one for each unit."""
    names = units() if len(values) == 20 else units(len(values) // 5)
    score = Score(float(np.mean(values)), dict(zip(names, map(float, values), strict=True)))
    layers = (Layer(1, 0.5, {MEASURE: Score(0.0, {})}), Layer(2, 0.6, {MEASURE: score}))
    return Encoder(name, variant or name, seed=seed, is_trained=is_trained, chosen=2, layers=layers)


def one(encoders, of=None):
    (found,) = comparisons(encoders, of or units(), measures=[MEASURE])
    return found


def draw(generator, level, *, seeds=3, between=0.02, within=0.05, ease=None):
    """Draw values of runs: seeds differ, takes are easy or hard for all, and there is noise."""
    ease = np.zeros(20) if ease is None else ease
    return [
        level + between * generator.normal() + ease + within * generator.normal(size=20)
        for _ in range(seeds)
    ]


def test_two_equal_networks_get_no_verdict():
    values = np.linspace(0.4, 0.6, 20)
    found = one([encoder("a", values), encoder("b", values)])
    assert found.difference.mean == 0
    assert found.verdict == "models equivalent"
    assert found.caveat == MODELS_ONLY


def test_equal_recipes_are_rarely_told_apart():
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        ease = 0.1 * generator.normal(size=20)
        both = []
        for name in "ab":
            rows = draw(generator, 0.5, ease=ease)
            both += [encoder(f"{name}{s}", row, variant=name, seed=s) for s, row in enumerate(rows)]
        wrong += one(both).verdict in ("better", "worse")
    # 5 % of 300 is 15; 27 is three standard deviations above.
    assert wrong <= 27


def test_a_real_difference_of_recipes_is_found_against_mfcc():
    generator = np.random.default_rng(1)
    ease = 0.1 * generator.normal(size=20)
    trained = [
        encoder(f"run{seed}", row, variant="hubert", seed=seed)
        for seed, row in enumerate(draw(generator, 0.8, ease=ease))
    ]
    baseline = encoder(MFCC, 0.5 + ease, variant=MFCC, seed=None, is_trained=False)
    found = one([*trained, baseline])
    assert (found.variant, found.reference) == ("hubert", MFCC)
    assert found.verdict == "better"
    assert found.difference.of == "recipes"
    assert found.difference.num_runs == (3, 3)
    assert found.difference.mean == pytest.approx(0.3, abs=0.05)
    assert found.caveat == ""


def test_one_seed_is_a_statement_about_models():
    values = np.linspace(0.4, 0.6, 20)
    baseline = encoder(MFCC, values, variant=MFCC, seed=None, is_trained=False)
    found = one([encoder("a", values + 0.2), baseline])
    assert found.difference.of == "models"
    assert found.verdict == "models differ"
    assert found.caveat == MODELS_ONLY


def test_each_variant_meets_its_own_untrained_network_and_the_first_variant():
    values = np.linspace(0.4, 0.6, 20)
    encoders = [
        encoder("a", values),
        encoder("ra", values, variant=random_of("a"), is_trained=False),
        encoder("b", values),
        encoder("rb", values, variant=random_of("b"), is_trained=False),
        encoder(MFCC, values, variant=MFCC, seed=None, is_trained=False),
    ]
    found = comparisons(encoders, units(), measures=[MEASURE])
    assert [(item.reference, item.variant) for item in found] == [
        ("random, a", "a"), (MFCC, "a"), ("random, b", "b"), (MFCC, "b"), ("a", "b"),
    ]  # fmt: skip


def test_takes_of_many_speakers_count_by_speaker():
    generator = np.random.default_rng(2)
    # Twelve speakers of five takes; a speaker's takes are alike, so they say the same thing five times.
    of = units(12)
    by_speaker = np.repeat(generator.normal(size=12) * 0.1, 5)
    first, second = encoder("a", np.full(60, 0.5)), encoder("b", 0.5 + by_speaker)
    found = one([first, second], of)
    assert found.difference.num_items == 12
    assert found.difference.mean == pytest.approx(by_speaker.mean())
    few = one([encoder("a", np.full(20, 0.5)), encoder("b", np.full(20, 0.6))])
    assert few.difference.num_items == 20


def test_few_takes_decide_nothing():
    names = dict(list(units().items())[:6])
    both = [
        Encoder(name, name, seed=0, is_trained=True, chosen=1,
                layers=(Layer(1, 0.5, {MEASURE: Score(level, dict.fromkeys(names, level))}),))
        for name, level in (("a", 0.2), ("b", 0.9))
    ]  # fmt: skip
    found = one(both, names)
    assert found.verdict == "undecided"
    assert "only 6 takes" in found.caveat


def test_speakers_have_no_direction_and_what_is_missing_is_said():
    values = np.linspace(0.4, 0.6, 20)
    both = [encoder("a", values), encoder("b", values)]
    assert comparisons(both, units(), measures=["speaker_mean"]) == []
    missing = comparisons(both, units(), measures=["pnmi"])
    assert [item.verdict for item in missing] == ["not comparable"]


def test_the_first_measure_decides():
    values = np.linspace(0.4, 0.6, 20)
    result = ProbeResult(
        "d", "r", train=1, test=1, speakers=(), labels=(), units=units(),
        encoders=(encoder("a", values), encoder("b", values)),
    )  # fmt: skip
    found = with_comparisons(result)
    assert {item.measure for item in found.comparisons} == {MEASURE}
    assert "left out of the probe, four segments decides" in found.notes[-1]
