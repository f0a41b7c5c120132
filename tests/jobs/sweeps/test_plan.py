"""From an experiment file to runs, against answers by hand."""

from __future__ import annotations

import pytest

from engine.config.errors import ConfigError, DataError
from jobs.home import Home
from jobs.store.errors import StoreError
from jobs.store.reader import StoreReader
from jobs.sweeps.measured import Duration, Measured
from jobs.sweeps.plan import queue_sweep

BATCHES = {"baseline": {}, "batch4x": {"batch": {"items": 32}}}


def lengths(plan) -> dict[str, int]:
    return {run.variant: run.updates for run in plan.runs}


def clocks(config) -> dict[str, str]:
    keys = ["schedule.length", "schedule.warmup", "schedule.per", "ema.per", "ema.restart_at"]
    keys += ["validation.every", "checkpoint.every", "logging.every"]
    return {
        key: str(getattr(getattr(config, key.split(".")[0]), key.split(".")[1])) for key in keys
    }


def test_old_words_of_an_experiment_make_the_same_plan(plan) -> None:
    old = plan(match="samples", variants=BATCHES, set={"schedule": {"per": "8 samples"}})
    new = plan(match="items", variants=BATCHES, set={"schedule": {"per": "8 items"}})
    assert old.runs == new.runs
    assert old.experiment.match == "items"


def test_matched_items_stretch_every_clock(plan) -> None:
    baseline, larger = plan(match="items", variants=BATCHES).runs
    assert (baseline.updates, baseline.items, baseline.audio_seconds) == (1000, 8000, 16_000)
    assert (larger.updates, larger.items, larger.audio_seconds) == (250, 8000, 16_000)
    expected = {
        "schedule.length": "8000 items",
        "schedule.warmup": "800 items",
        "schedule.per": "8 items",
        "ema.per": "8 items",
        "ema.restart_at": "1600 items",
        "validation.every": "2000 items",
        "checkpoint.every": "8000 items",
        "logging.every": "8 items",
    }
    assert clocks(baseline.config) == clocks(larger.config) == expected


def test_the_learning_rate_falls_over_the_same_data(plan) -> None:
    from engine.training.schedules import lr_factor

    baseline, larger = plan(match="items", variants=BATCHES).runs
    at_end = [
        lr_factor(run.config.schedule, run.config.update_size.after(run.updates), size=run.config.update_size)
        for run in (baseline, larger)
    ]  # fmt: skip
    assert at_end == pytest.approx([0.999**900] * 2)


def test_unscaled_schedules_stay_as_written_but_intervals_do_not(plan) -> None:
    _, larger = plan(match="items", scale_schedules=False, variants=BATCHES).runs
    found = clocks(larger.config)
    assert found["schedule.length"] == "8000 items"
    assert found["validation.every"] == "2000 items"
    assert (found["schedule.warmup"], found["schedule.per"]) == ("100 updates", "1 updates")
    assert (found["ema.per"], found["ema.restart_at"]) == ("1 updates", "200 updates")


def test_matched_updates(plan) -> None:
    runs = plan(match="updates", variants=BATCHES).runs
    assert [(run.updates, run.items) for run in runs] == [(1000, 8000), (1000, 32_000)]


def test_matched_audio_halves_the_updates_of_double_segments(plan) -> None:
    variants = {"short": {}, "long": {"data": {"segment_s": 4.0}}}
    runs = plan(match="audio_seconds", variants=variants).runs
    assert [(run.updates, run.items) for run in runs] == [(1000, 8000), (500, 4000)]
    assert runs[1].config.schedule.warmup is not None
    assert str(runs[1].config.schedule.warmup) == "1600 audio_seconds"


def test_matched_epochs_are_counted_in_the_data_of_each_variant(plan, tmp_path, write_tone) -> None:
    """A tone of 0.1 s is two segments of 50 ms, and one of 100 ms."""
    for name in ("t", "v", "n"):
        write_tone(tmp_path / name / "tone.wav")
    data = {name: str(tmp_path / folder) for name, folder in
            (("train", "t"), ("valid", "v"), ("noise", "n"))}  # fmt: skip
    settings = {"data": {**data, "segment_s": 0.05, "resample": "any"}}
    variants = {"short": {}, "long": {"data": {"segment_s": 0.1}}}
    runs = plan(match="epochs", set=settings, variants=variants).runs

    # 8 items an update: 4 passes over two items, or 8 over one.
    assert [(run.updates, run.epochs) for run in runs] == [(1000, 4000), (500, 4000)]
    assert clocks(runs[1].config) == {
        "schedule.length": "4000 epochs", "schedule.warmup": "400 epochs",
        "schedule.per": "4 epochs", "ema.per": "4 epochs", "ema.restart_at": "800 epochs",
        "validation.every": "1000 epochs", "checkpoint.every": "4000 epochs",
        "logging.every": "4 epochs",
    }  # fmt: skip
    assert plan(match="items", set=settings, variants=variants).runs[0].epochs == 0


def test_epochs_can_not_be_matched_without_the_data(plan) -> None:
    with pytest.raises(DataError, match=r"data\.train"):
        plan(match="epochs", variants=BATCHES)


def test_hold_and_half_life_are_stretched_too(plan) -> None:
    variants = {
        name: {**batch, "schedule": {"kind": "hold_exponential"}} for name, batch in BATCHES.items()
    }
    held = ["schedule.hold_for=50 updates", "schedule.half_life=200 updates"]
    runs = plan(match="items", variants=variants, assignments=held).runs
    found = {(str(r.config.schedule.hold_for), str(r.config.schedule.half_life)) for r in runs}
    assert found == {("400 items", "1600 items")}


def test_milestones_are_stretched_too(plan) -> None:
    schedule = {"kind": "multi_step", "milestones": ["500 updates", "750 updates"]}
    _, larger = plan(match="items", set={"schedule": schedule}, variants=BATCHES).runs
    assert [str(span) for span in larger.config.schedule.milestones] == [
        "4000 items",
        "6000 items",
    ]


def test_a_clock_that_a_variant_sets_is_its_own(plan) -> None:
    variants = {"a": {}, "b": {"batch": {"items": 16}, "ema": {"per": "1 updates"}}}
    found = clocks(plan(match="items", variants=variants).runs[1].config)
    assert (found["ema.per"], found["schedule.per"]) == ("1 updates", "8 items")


def test_a_length_of_its_own_is_refused_where_it_is_computed(plan) -> None:
    variants = {"a": {}, "b": {"schedule": {"length": "5 updates"}}}
    with pytest.raises(ConfigError, match=r"variant b: match = 'items' computes schedule\.length"):
        plan(match="items", variants=variants)
    assert lengths(plan(variants=variants)) == {"a": 1000, "b": 5}


def test_wall_clock_needs_measured_speeds_and_divides_by_them(plan) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(match="wall_clock", variants=BATCHES)
    assert [problem.message.split(":")[0] for problem in caught.value.problems] == [
        "variant baseline",
        "variant batch4x",
    ]

    class Known(Measured):
        def seconds_per_update(self, config):
            return {8: 0.5, 32: 1.25}[config.batch.items]

        def duration(self, config, size, *, total, done=0, starts=True):
            seconds = total * self.seconds_per_update(config)
            return Duration(seconds, seconds)

    made = plan(Known({}, {}), match="wall_clock", variants=BATCHES)
    assert lengths(made) == {"baseline": 1000, "batch4x": 400}
    assert [run.seconds for run in made.runs] == [500.0, 500.0]
    assert str(made.runs[1].config.schedule.warmup) == "40 updates"


def test_grid_makes_all_combinations_with_their_values_as_names(plan) -> None:
    made = plan(
        grid={"optimizer.lr": [3e-4, 1.2e-3], "precision": {"dtype": ["fp32", "bf16"]}},
        seeds=[0, 7],
        name="{variant}.{seed}",
    )
    assert [run.name for run in made.runs][:4] == [
        "lr3e-4-dtype-fp32.0",
        "lr3e-4-dtype-bf16.0",
        "lr1.2e-3-dtype-fp32.0",
        "lr1.2e-3-dtype-bf16.0",
    ]
    assert [run.config.seed for run in made.runs] == [0] * 4 + [7] * 4
    assert made.runs[3].config.optimizer.lr == 1.2e-3
    assert made.runs[3].config.precision.dtype == "bf16"


def test_grid_multiplies_the_variants(plan) -> None:
    made = plan(variants=BATCHES, grid={"optimizer.lr": [0.1, 0.2]})
    assert [run.variant for run in made.runs] == [
        "baseline-lr0.1",
        "baseline-lr0.2",
        "batch4x-lr0.1",
        "batch4x-lr0.2",
    ]


def test_assignments_change_all_runs_below_the_variants(plan) -> None:
    made = plan(
        match="items",
        variants=BATCHES,
        assignments=["schedule.length=20 updates", "batch.items=4"],
    )
    assert lengths(made) == {"baseline": 20, "batch4x": 3}  # 80 items in batches of 32


def test_all_problems_of_all_variants_are_listed(plan) -> None:
    variants = {"a": {"optimizer": {"lrr": 1}}, "b": {"batch": {"items": 0}}}
    with pytest.raises(ConfigError) as caught:
        plan(variants=variants)
    assert [str(problem) for problem in caught.value.problems] == [
        "variant a: optimizer.lrr: unknown setting, did you mean 'lr'?",
        "variant b: batch.items: expected a whole number >= 1, <= 65536, found 0",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"variant": {}}, "variant: unknown key in experiment file, did you mean 'variants'"),
        (
            {"match": "sample"},
            "match: expected 'none', 'updates', 'items', 'audio_seconds', 'epochs' or 'wall_clock', found 'sample'",
        ),
        ({"grid": {"optimizer.lr": 3e-4}}, "grid.optimizer.lr: expected a list of values"),
        ({"seeds": []}, "seeds: "),
        (
            {"name": "{varient}"},
            "name: may contain only the placeholders {experiment}, {variant}, {seed}, got '{varient}'",
        ),
        ({"seeds": [1, 1]}, "name: gives several runs the same name: exp-baseline-s1"),
        ({"set": {"batch": {"itmes": 3}}}, "batch.itmes: unknown setting, did you mean 'items'"),
    ],
)
def test_mistakes_are_named(plan, words, message) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(**words)
    assert str(caught.value).startswith(message)


def test_a_name_no_run_can_have_is_refused_before_anything_is_queued(plan) -> None:
    with pytest.raises(StoreError, match="'a b-baseline' is not a valid run name"):
        plan(name="a b-{variant}")


def test_assignments_are_told_with_the_problems_of_the_variants(plan) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(variants={"b": {"batch": {"items": 0}}}, assignments=["foo"])
    first, second = map(str, caught.value.problems)
    assert first.startswith("--set foo: expected section.key=value")
    assert second.startswith("variant b: batch.items")


def test_odd_schedules_are_warned_about(plan) -> None:
    made = plan(grid={"schedule.gamma": [0.99, 0.999]})
    assert [len(run.warnings) for run in made.runs] == [1, 0]


def test_variants_may_start_from_different_runs(plan, tmp_path, write_tone, monkeypatch) -> None:
    for folder in ("t", "v", "n"):
        write_tone(tmp_path / folder / "tone.wav")
    monkeypatch.chdir(tmp_path)
    home = Home(tmp_path / "home").create()
    trained = plan(variants={"first": {}, "second": {}}, name="{variant}")
    ids = queue_sweep(home, trained)

    tuned = plan(
        variants={"scratch": {}, "one": {"init_from": "first"}, "two": {"init_from": "second@last"}}
    )
    queue_sweep(home, tuned)

    with StoreReader(home.store) as reader:
        waiting = {run.variant: run.waiting for run in reader.runs() if run.experiment == "exp"}
        two = reader.needs(reader.run("exp-two-s0").id)
        count = len(reader.runs())
    assert waiting == {
        "first": "", "second": "", "scratch": "",
        "one": "waiting for first (queued)", "two": "waiting for second (queued)",
    }  # fmt: skip
    assert [(need.needed, need.which) for need in two] == [(ids[1], "last")]
    wrong = plan(variants={"a": {}, "b": {"init_from": "thrid"}}, name="x-{variant}")
    with pytest.raises(ConfigError, match="init_from: no run 'thrid'"):
        queue_sweep(home, wrong)
    with StoreReader(home.store) as reader:
        assert len(reader.runs()) == count
