"""The section `[search]` of an experiment: what it may hold, and every mistake in it at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from engine.config.errors import ConfigError
from jobs.sweeps.experiment import load_experiment
from jobs.sweeps.experiment_schema import experiment_schema
from jobs.sweeps.plan import plan_sweep
from jobs.sweeps.search_settings import SearchSettings
from jobs.sweeps.search_space import read_space
from presets.catalogue import Catalogue

HEAD = 'base = "demo/baseline"\n'
CHECK = Draft202012Validator(experiment_schema())


def plan(text: str):
    return plan_sweep("mine", tomllib.loads(HEAD + text), Catalogue())


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan(text)
    return [str(problem) for problem in caught.value.problems]


def space(text: str):
    search = load_experiment(tomllib.loads(f"{HEAD}[search]\n{text}")).search
    assert search is not None
    return {parameter.key: parameter for parameter in read_space(search)}


def test_the_plan_of_a_search_is_its_first_trial_the_base_itself():
    made = plan("[search]\nseed = 4\nspace.optimizer.lr = {low = 1e-5, high = 1e-2}")
    (run,) = made.runs
    assert (run.name, run.variant, run.seed) == ("mine-t000-s4", "t000", 4)
    assert run.config.optimizer.lr == Catalogue().read("demo/baseline")["optimizer"]["lr"]


@pytest.mark.parametrize("seed", [0, 1, 2, 9])
def test_fresh_seeds_are_never_that_of_the_search(seed):
    seeds = SearchSettings(seed=seed, confirm_seeds=3).fresh_seeds
    assert len(set(seeds)) == 3
    assert seed not in seeds


def test_ranges_choices_and_conditions_are_read():
    found = space(
        """
        space.model.width = {low = 4, high = 16, step = 4, when = {"model.kind" = "hybrid"}}
        space.model.kind = {choices = ["audio_unet", "hybrid"]}
        space."optimizer.lr" = {low = 1e-5, high = 1e-2, log = true}
        """
    )
    # Behind what its condition names.
    assert list(found) == ["model.kind", "optimizer.lr", "model.width"]
    width = found["model.width"]
    assert (width.low, width.high, width.step, width.is_whole) == (4, 16, 4, True)
    assert width.text == "4 to 16 in steps of 4, when model.kind = hybrid"
    assert width.is_active({"model": {"kind": "hybrid"}})
    assert not width.is_active({"model": {"kind": "audio_unet"}})
    assert [width.contains(value) for value in (4, 8, 7, 20, 4.5, "8")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert found["optimizer.lr"].log
    assert found["optimizer.lr"].contains(1e-5)


def test_every_mistake_is_reported_at_once_with_what_is_expected():
    found = problems(
        """
        seeds = [1]
        match = "wall_clock"
        name = "{experiment}-{variant}"
        [variants.a]
        [search]
        metric = "si_sdrr"
        [search.space]
        modle.width = {low = 1, high = 3}
        optimizer.lr = {low = -1e-5, high = 1e-2, log = true}
        model.width = {low = 4.5, high = 16}
        batch.items = {low = 8, high = 4}
        schedule.kind = {low = 1, high = 2}
        ema.enabled = {choices = [true, true]}
        data.segment_s = {lo = 1, high = 3}
        optimizer.weight_decay = 3
        seed = {low = 1, high = 4}
        batch.micro_batch = {choices = [1, 2], when = {"model.knd" = "hybrid"}}
        """
    )
    text = "\n".join(found)
    for expected in (
        "variants: can't be combined with [search]; use search.space",
        "seeds: can't be combined with [search]; use search.seed",
        "match: wall_clock needs the speed",
        "name: must contain {seed}",
        "search.metric: unknown metric 'si_sdrr', did you mean 'si_sdr'?",
        "search.space.modle.width: unknown setting, did you mean 'model.width'?",
        "search.space.optimizer.lr: log = true needs low > 0, found -1e-05",
        "search.space.model.width.low: expected a whole number, found 4.5",
        "search.space.batch.items: low = 8 must be below high = 4",
        "search.space.schedule.kind: is no number, so it has no range; expected { choices",
        "search.space.ema.enabled: has the choice True twice",
        "search.space.data.segment_s.lo: unknown key, did you mean 'low'?",
        "search.space.optimizer.weight_decay: expected { low",
        "search.space.seed: can't be varied",
        "search.space.batch.micro_batch.when: unknown setting 'model.knd', did you mean",
    ):
        assert expected in text, text
    assert not any(line.startswith(": ") for line in found)


def test_values_are_checked_by_the_bounds_of_the_settings():
    found = problems(
        """
        [search.space]
        optimizer.lr = {low = 1e-5, high = 100.0}
        batch.items = {low = -2, high = 8}
        schedule.kind = {choices = ["cosine", "cosin"]}
        """
    )
    assert any(line.startswith("search.space.optimizer.lr: expected a number") for line in found)
    assert any("batch.items: expected a whole number" in line and "-2" in line for line in found)
    assert any("schedule.kind" in line and "'cosin'" in line for line in found)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # A night of trials without one value.
        ('metric = "wer"', "search.metric: 'wer': this run will not measure it; expected one of si_sdr,"),
        ('metric = "si_sdr_full"', "search.metric: 'si_sdr_full': whole files are evaluated with"),
        ('metric = "input_si_sdr"', "search.metric: 'input_si_sdr': this run will not measure it"),
        # The easiest items would win.
        ('space.data.valid = {choices = ["a", "b"]}', "search.space.data.valid: can't be varied"),
        ("space.validation.segment_s = {low = 1.0, high = 4.0}", "search.space.validation.segment_s: can't be"),
        # The smallest loss is not that of the best model.
        ('metric = "val_loss"\nspace.loss.kind = {choices = ["si_sdr", "l1"]}',
         "search.space.loss.kind: can't be varied in a search for val_loss"),
    ],
)  # fmt: skip
def test_scores_that_are_not_measured_or_do_not_compare_are_refused(text, expected):
    (found,) = problems(f"[search]\n{text}\nspace.optimizer.lr = {{low = 1e-5, high = 1e-2}}")
    assert found.startswith(expected)


def test_losses_may_be_varied_where_a_score_decides():
    assert plan('[search]\nspace.loss.kind = {choices = ["si_sdr", "l1"]}').runs


def test_a_length_that_the_matching_computes_is_not_searched():
    text = '[search]\nspace.schedule.length = {choices = ["320 items", "640 items"]}'
    assert problems(f'match = "items"\n{text}') == [
        "search.space.schedule.length: match = 'items' computes it for every trial; remove it, or use "
        "match = 'none'"
    ]
    assert plan(text).runs


def test_problems_of_the_base_are_reported_once_as_such():
    found = problems(
        "[set]\nbatch.items = 0\n[search]\nspace.optimizer.lr = {low = 1e-5, high = 1e-2}"
    )
    assert len(found) == 1
    assert found[0].startswith("batch.items: expected")


@pytest.mark.parametrize(
    "text",
    [
        "space.optimizer.lr = {low = 1e-5, high = 1e-2, log = true}",
        'pruner = "hyperband"\nspace.batch.items = {choices = [2, 4]}',
        'space.model.width = {low = 4, high = 8, when = {"model.kind" = ["audio_unet", "hybrid"]}}',
        'trials = 3\nmetric = "val_loss"\nspace.schedule.kind = {choices = ["cosine", "linear"]}',
    ],
)
def test_what_a_search_may_hold_is_valid_for_editors_too(text):
    assert plan(f"[search]\n{text}").runs
    assert not list(CHECK.iter_errors(tomllib.loads(f"{HEAD}[search]\n{text}")))


@pytest.mark.parametrize(
    "text",
    [
        "trials = 1",
        "trails = 3\nspace.batch.items = {choices = [2, 4]}",
        'pruner = "medin"\nspace.batch.items = {choices = [2, 4]}',
        "space.batch.items = {low = 4.5, high = 8}",
        "space.batch.itms = {low = 4, high = 8}",
        "space.batch.items = {choices = [4]}",
        "space.batch.items = {low = 4}",
        "space.optimizer.lr = {low = 1e-5, high = 1e-2, choices = [1e-3, 1e-4]}",
        'space.schedule.kind = {choices = ["cosine", "cosin"]}',
    ],
)
def test_what_is_refused_is_marked_by_editors_too(text):
    assert problems(f"[search]\n{text}")
    assert list(CHECK.iter_errors(tomllib.loads(f"{HEAD}[search]\n{text}")))


def test_the_search_of_the_docs_is_one(repository: Path):
    text = (repository / "examples/experiments/search-rate.toml").read_text()
    values = tomllib.loads(text)
    assert [run.variant for run in plan_sweep("search-rate", values, Catalogue()).runs] == ["t000"]
    assert not list(CHECK.iter_errors(values))
