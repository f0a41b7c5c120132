"""Comparisons of runs whose every value is known: who wins, by how much, and when nobody does."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jobs.comparison.compare import compare
from jobs.comparison.inference import Estimate
from jobs.comparison.result import Comparison
from jobs.comparison.verdicts import decider
from jobs.store.records import EvaluationRecord
from jobs.store.writer import StoreWriter

ITEMS = 40
# How hard each item is: differences between items are far larger than those between variants.
HARD = np.random.default_rng(0).normal(10, 5, ITEMS)


def add_run(
    store: StoreWriter, name: str, levels: dict[int, float], *, seed: int = 0, batch: int = 4,
    key: str = "items", items: bool = True, noise: float = 0.1, **fields,
) -> int:  # fmt: skip
    """Add a finished run: update -> mean SI-SDR over the level of the items; val_loss is its negative."""
    config = {"batch": {"items": batch}, "loss": fields.pop("loss", {"kind": "l1"}), "seed": seed}
    config |= fields.pop("config", {"about": name.rstrip("0123456789")})
    run_id = store.insert_run(
        {"name": name, "config": json.dumps(config), "fingerprint": "", "seed": seed, **fields}
    )
    generator = np.random.default_rng(run_id)
    for updates, level in levels.items():
        deviation = generator.normal(0, noise, ITEMS)
        values = HARD + level + deviation - deviation.mean()
        means = {"si_sdr": values.mean(), "val_loss": -values.mean()}
        store.add_points(
            run_id, steps=[updates], series={n: [v] for n, v in means.items()}, units={}
        )
        if items:
            record = EvaluationRecord(run_id, updates, train_seconds=2.0 * updates, items_key=key)
            store.add_results(record, {"si_sdr": values.tolist(), "val_loss": (-values).tolist()})
    last = max(levels, default=0)
    store.update_run(
        run_id, updates=last, items=last * batch, audio_seconds=last, train_seconds=2.0 * last
    )
    store.move(run_id, "finished", ("queued",))
    return run_id


def judge(reader, *ids: int, **options) -> Comparison:
    return compare(reader, [reader.run(run_id) for run_id in ids], **options)


def test_best_final_and_difference_by_hand(store, reader):
    first = add_run(store, "first", {10: 0.0, 20: 3.0, 30: 2.0})
    second = add_run(store, "second", {10: 0.0, 20: 3.2, 30: 3.5})

    found = judge(reader, first, second)

    base = HARD.mean()
    reference, other = found.tables["si_sdr"]
    assert (reference.variant, other.variant, found.reference) == ("first", "second", "first")
    assert reference.best.mean == pytest.approx(base + 3)
    assert reference.final.mean == pytest.approx(base + 2)
    assert (reference.best_at, other.best_at, found.budget) == (80, 120, 120)
    assert reference.best.deviation is None
    assert other.difference.mean == pytest.approx(0.5, abs=1e-5)
    assert 0.4 < other.difference.low < 0.5 < other.difference.high < 0.6
    assert other.verdict == "models differ"
    assert other.caveat == "too few seeds: this says nothing about other seeds"
    assert found.orderings[0].variants == ["second", "first"]
    assert (found.orderings[0].of, found.orderings[0].apart) == ("models", [True])
    assert any("another seed may reverse the order" in note for note in found.notes)
    assert (found.headline, next(iter(found.tables))) == ("si_sdr", "si_sdr")
    assert any("si_sdr decides; the other metrics are exploratory" in note for note in found.notes)


def seeds(store, name: str, level: float, *, count: int = 3, **options) -> list[int]:
    """Add runs of one variant that differ in their seed."""
    return [
        add_run(store, f"{name}{seed}", {10: level}, seed=seed, **options) for seed in range(count)
    ]


def test_a_loss_that_falls_is_better(store, reader):
    first, second = seeds(store, "a", 0.0), seeds(store, "b", 1.0)

    row = judge(reader, *first, *second).tables["val_loss"][1]

    assert row.difference.mean == pytest.approx(-1, abs=1e-5)
    assert row.verdict == "better"
    assert judge(reader, *second, *first).tables["val_loss"][1].verdict == "worse"


def test_a_verdict_needs_as_many_seeds_as_a_person_asks_for(store, reader):
    ids = [*seeds(store, "a", 0.0, count=2), *seeds(store, "b", 1.0, count=2)]

    assert judge(reader, *ids).tables["si_sdr"][1].verdict == "better"
    row = judge(reader, *ids, min_seeds=3).tables["si_sdr"][1]
    assert (row.verdict, row.difference.of) == ("models differ", "models")
    with pytest.raises(ValueError, match="at least 2 seeds a side, got 1"):
        judge(reader, *ids, min_seeds=1)


def test_one_seed_on_one_side_is_no_verdict(store, reader):
    ids = [*seeds(store, "a", 0.0), *seeds(store, "b", 1.0, count=1), *seeds(store, "c", 1.0)]

    rows = judge(reader, *ids).tables["si_sdr"]

    assert [row.verdict for row in rows] == ["", "models differ", "better"]
    assert [row.seeds for row in rows] == [3, 1, 3]
    # Three seeds of each were 0 dB apart but for rounding: the order would stay.
    assert "the order would be reversed in less than 1 % of cases (from 6 runs" in rows[1].caveat


def test_recipes_are_ordered_without_those_of_too_few_seeds(store, reader):
    """A model of one seed that is best by far says nothing about its recipe."""
    ids = [
        *seeds(store, "a", 0.0), *seeds(store, "b", 2.0), *seeds(store, "c", 9.0, count=1),
        *seeds(store, "d", 1.0, count=2),
    ]  # fmt: skip

    order = judge(reader, *ids).orderings[0]

    assert (order.of, order.variants, order.left_out) == ("recipes", ["b0", "d0", "a0"], ["c0"])
    assert order.apart == [True, True]
    models = judge(reader, *ids, min_seeds=4).orderings[0]
    assert (models.of, models.left_out) == ("models", [])


def test_what_differs_by_less_than_the_margin_is_equivalent(store, reader):
    """Equal but for rounding: significant, and of no interest."""
    ids = [*seeds(store, "a", 0.0, noise=0.001), *seeds(store, "b", 3e-5, noise=0.001)]

    found = judge(reader, *ids)

    assert found.margins["si_sdr"] == 0.1
    assert found.tables["si_sdr"][1].verdict == "equivalent"
    assert found.orderings[0].apart == [False]
    assert found.margins["val_loss"] == pytest.approx(0.01 * HARD.mean(), rel=1e-4)
    assert judge(reader, *ids, margins={"si_sdr": 0.0}).tables["si_sdr"][1].verdict != "equivalent"


def test_an_undecided_comparison_says_what_would_decide_it(store, reader):
    """Seeds are 0.4 dB apart and not shared: three of each are too few for 0.5 dB, more would do."""
    shifts = {"a": (-0.4, 0.1, 0.3), "b": (0.7, 0.9, 0.1)}
    ids = [
        add_run(store, f"{name}{k}", {10: shift}, seed=k + 10 * (name == "b"), noise=0.02)
        for name, some in shifts.items()
        for k, shift in enumerate(some)
    ]

    row = judge(reader, *ids).tables["si_sdr"][1]

    assert row.verdict == "undecided"
    assert 3 < row.decider.seeds <= 12
    assert row.decider.more_runs == 2 * (row.decider.seeds - 3)
    # A run took 20 s.
    assert row.decider.gpu_hours == pytest.approx(20 / 3600 * row.decider.more_runs)


def test_runs_of_equal_settings_without_an_experiment_are_compared_as_models(store, reader):
    ids = seeds(store, "a", 0.0, count=2)

    rows = judge(reader, *ids).tables["si_sdr"]

    assert [row.variant for row in rows] == ["a0", "a1"]
    assert rows[1].difference.of == "models"


def test_no_difference_is_said_to_be_none(store, reader):
    ids = [add_run(store, name, {10: 1.0}, noise=0.5) for name in "ab"]

    found = judge(reader, *ids)

    assert found.tables["si_sdr"][1].verdict == "undecided"
    assert found.orderings[0].apart == [False]


def test_few_items_tell_nothing(store, reader):
    ids = [store.insert_run(
        {"name": name, "config": "{}", "fingerprint": "", "seed": 0}
    ) for name in "ab"]  # fmt: skip
    for level, run_id in enumerate(ids):
        store.add_points(run_id, steps=[10], series={"si_sdr": [float(level)]}, units={})
        store.add_results(
            EvaluationRecord(run_id, 10, train_seconds=1.0, items_key="key"),
            {"si_sdr": [float(level)] * 3},
        )

    row = judge(reader, *ids).tables["si_sdr"][1]

    assert (row.difference.mean, row.verdict) == (1.0, "undecided")
    assert row.caveat == "only 3 validation items; a verdict needs 10"


def test_seeds_of_a_variant_are_averaged_and_their_spread_counts(store, reader):
    """0.3 dB between means, but seeds are 1 dB apart: nothing is shown, unless seeds are shared."""
    ids = [
        add_run(store, f"{name}{seed}", {10: mean + shift}, seed=seed, noise=0.02)
        for name, mean, first in (("a", 0.0, 0), ("b", 0.3, 0), ("c", 0.3, 5))
        for seed, shift in enumerate((-1.0, 0.0, 1.0), start=first)
    ]

    rows = judge(reader, *ids).tables["si_sdr"]

    assert [row.variant for row in rows] == ["a0", "b0", "c5"]
    assert rows[0].best.deviation == pytest.approx(1.0)
    assert rows[0].best.values == pytest.approx([HARD.mean() + k for k in (-1, 0, 1)], abs=1e-5)
    for row, paired, verdict in zip(rows[1:], (True, False), ("better", "undecided"), strict=True):
        assert row.difference.num_runs == (3, 3)
        assert row.difference.mean == pytest.approx(0.3, abs=1e-5)
        assert (row.difference.paired, row.verdict) == (paired, verdict)


def test_runs_are_judged_where_all_of_them_have_been(store, reader):
    """Batch 8 sees twice the items in an update, and took longer for each."""
    small = add_run(store, "small", {10: 1.0, 20: 2.0, 40: 9.0}, batch=4)
    large = add_run(store, "large", {5: 1.0, 10: 3.0}, batch=8)

    by_samples = judge(reader, small, large)
    assert by_samples.budget == 80
    assert [row.best_at for row in by_samples.tables["si_sdr"]] == [80, 80]
    assert by_samples.tables["si_sdr"][1].difference.mean == pytest.approx(1, abs=1e-5)
    assert "compared up to the progress of large" in by_samples.notes[0]

    by_updates = judge(reader, small, large, by="updates")
    assert by_updates.budget == 10
    assert by_updates.tables["si_sdr"][1].difference.mean == pytest.approx(2, abs=1e-5)

    for run_id, epochs in ((small, 4.0), (large, 2.5)):
        store.update_run(run_id, epochs=epochs)
    by_epochs = judge(reader, small, large, by="epochs")
    assert by_epochs.budget == 2.5
    assert [row.best_at for row in by_epochs.tables["si_sdr"]] == [2.0, 2.5]

    by_time = judge(reader, small, large, by="wall_clock")
    assert by_time.budget == 20
    assert [row.best_at for row in by_time.tables["si_sdr"]] == [20, 20]


def test_epochs_that_no_one_counted_are_not_compared(store, reader):
    counted = add_run(store, "new", {10: 1.0})
    store.update_run(counted, epochs=2.0)
    old = add_run(store, "old", {10: 1.0})

    with pytest.raises(ValueError, match="epochs unknown for old"):
        judge(reader, counted, old, by="epochs")
    assert judge(reader, counted, by="epochs").budget == 2.0


def test_the_final_evaluation_can_be_asked_about(store, reader):
    ids = [add_run(store, "a", {10: 5.0, 20: 0.0}), add_run(store, "b", {10: 4.0, 20: 1.0})]

    for when, mean in (("best", -1), ("final", 1)):
        row = judge(reader, *ids, when=when).tables["si_sdr"][1]
        assert row.difference.mean == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "others"}, "evaluated on different items"),
        ({"items": False}, "no per-item results stored"),
    ],
)
def test_what_can_not_be_paired_has_no_interval(store, reader, change, reason):
    ids = [add_run(store, "a", {10: 1.0}), add_run(store, "b", {10: 9.0}, **change)]

    found = judge(reader, *ids)

    row = found.tables["si_sdr"][1]
    assert (row.difference, row.verdict, row.caveat) == (None, "not comparable", reason)
    assert row.best.mean == pytest.approx(HARD.mean() + 9)
    assert found.orderings[0].apart == [False]


def test_losses_of_different_kinds_are_not_compared(store, reader):
    ids = [add_run(store, "a", {10: 1.0}), add_run(store, "b", {10: 1.0}, loss={"kind": "si_sdr"})]

    found = judge(reader, *ids)

    assert set(found.tables) == {"si_sdr"}
    reason = "the runs differ in loss.kind, so its values don't mean the same"
    assert found.refused == {"val_loss": reason}
    assert f"val_loss is not compared: {reason}" in found.notes


def test_losses_of_labels_made_of_other_data_are_not_compared(store, reader):
    """Clusters are fitted on the training data: with other data, equal numbers are other labels."""

    def ids(name: str, kmeans_from: str | None) -> list[int]:
        loss = {"kind": "hubert", "clusters": 100, "kmeans_from": kmeans_from}
        return [
            add_run(
                store, f"{name}-{train}", {10: 1.0}, loss=loss, config={"data": {"train": train}}
            )
            for train in ("an-hour", "a-day")
        ]

    reason = "the runs differ in data.train, so its values don't mean the same"
    assert judge(reader, *ids("own", None)).refused == {"val_loss": reason}
    assert judge(reader, *ids("shared", "first")).refused == {}
    plain = [
        add_run(store, f"plain-{train}", {10: 1.0}, config={"data": {"train": train}})
        for train in ("an-hour", "a-day")
    ]
    assert judge(reader, *plain).refused == {}


def test_variants_of_an_experiment_go_by_their_names(store, reader):
    ids = [
        add_run(store, f"run-{number}", {10: 1.0}, experiment="e", variant=variant, seed=number)
        for number, variant in enumerate(["base", "twice", "base"])
    ]

    rows = judge(reader, *ids).tables["si_sdr"]

    assert [row.variant for row in rows] == ["base", "twice"]


def test_a_run_without_an_evaluation_is_left_out_by_name(store, reader):
    ids = [add_run(store, "a", {10: 1.0}), add_run(store, "empty", {})]

    found = judge(reader, *ids)

    assert len(found.tables["si_sdr"]) == 1
    many = [add_run(store, f"none{number}", {}) for number in range(5)]
    assert judge(reader, ids[0], *many).notes[0] == (
        "none0, none1, none2 and 2 more (finished) have no evaluation and are ignored"
    )
    assert found.notes[0] == "empty (finished) has no evaluation and is ignored"
    asked = judge(reader, *ids, metrics=["si_sdr"])
    assert asked.notes[0] == "empty (finished) has no evaluation of si_sdr and is ignored"
    with pytest.raises(ValueError, match=r"nothing to compare: no evaluation in empty"):
        judge(reader, ids[1])


def test_repeats_of_one_seed_count_as_one_run(store, reader):
    ids = [
        add_run(store, f"{name}{k}", {10: 1.0}, seed=7, experiment="e", variant=name)
        for name in "ab"
        for k in range(2)
    ]

    found = judge(reader, *ids)

    row = found.tables["si_sdr"][1]
    assert (row.seeds, row.difference.of, row.difference.num_runs) == (1, "models", (1, 1))
    assert "a: runs share a seed; repeats of a seed count as one run" in " ".join(found.notes)


def test_error_rates_weigh_items_by_their_length(store, reader):
    """Errors of 30 items of 1 to 30 words; the second run makes one error less in each long one."""
    words = np.arange(1, 31)
    errors = {"first": np.minimum(words, 5), "second": np.minimum(words, 5) - (words > 15)}
    ids = []
    for name, found in errors.items():
        config = json.dumps({"about": name, "loss": {"kind": "rnnt"}})
        fields = {"name": name, "config": config, "fingerprint": "", "seed": 0, "metric": "wer"}
        ids.append(run_id := store.insert_run(fields))
        store.add_points(
            run_id, steps=[10], series={"wer": [float(found.sum() / words.sum())]}, units={}
        )
        record = EvaluationRecord(run_id, 10, train_seconds=1.0, items_key="items")
        store.add_results(record, {"wer": (found / words.mean()).tolist()})
        store.update_run(run_id, updates=10, items=40, train_seconds=1.0)

    found = judge(reader, *ids)

    assert set(found.tables) == {"wer"}
    row = found.tables["wer"][1]
    assert row.difference.mean == pytest.approx(-15 / words.sum(), abs=1e-6)
    assert row.difference.mean == pytest.approx(
        row.best.mean - found.tables["wer"][0].best.mean, abs=1e-6
    )
    assert row.verdict == "models differ"
    assert found.orderings[0].variants == ["second", "first"]
    assert any("differences weight items by their length" in note for note in found.notes)


def test_bad_items_count_and_are_named(store, reader):
    """Three of forty estimates of the second variant are not finite: -100 dB each, and no loss at all."""
    ids = [*seeds(store, "a", 0.0), *seeds(store, "b", 5.0, items=False)]
    for run_id in ids[3:]:
        values = HARD + 5
        values[:3] = -100
        flags = [1.0] * 3 + [0.0] * (ITEMS - 3)
        losses = [float("inf")] * 3 + (-HARD[3:]).tolist()
        record = EvaluationRecord(run_id, 10, train_seconds=1.0, items_key="items")
        results = {"si_sdr": values.tolist(), "val_loss": losses, "non_finite": flags}
        store.add_results(record, results)

    found = judge(reader, *ids)

    row = found.tables["si_sdr"][1]
    assert row.difference.num_items == ITEMS
    assert row.difference.mean == pytest.approx(
        (5 * (ITEMS - 3) - 300 - HARD[:3].sum()) / ITEMS, abs=1e-5
    )
    assert row.verdict == "undecided"
    loss = found.tables["val_loss"][1]
    assert (loss.verdict, loss.caveat) == (
        "not comparable",
        "3 items of b0 have a non-finite estimate, which has no value",
    )
    assert any("b0: 3 of 40 items have a non-finite estimate" in note for note in found.notes)


def test_a_last_evaluation_that_is_not_finite_is_not_replaced_by_an_earlier_one(store, reader):
    ids = [*seeds(store, "a", 0.0), *seeds(store, "b", 5.0)]
    for run_id in ids:
        value = 1.0 if run_id in ids[:3] else float("nan")
        store.add_points(run_id, steps=[20], series={"si_sdr": [value]}, units={})
        record = EvaluationRecord(run_id, 20, train_seconds=1.0, items_key="items")
        store.add_results(record, {"si_sdr": (HARD - HARD.mean() + 1).tolist()})
        store.update_run(run_id, updates=20, items=80)

    row = judge(reader, *ids, when="final").tables["si_sdr"][1]

    assert (row.final, row.verdict) == (None, "not comparable")
    assert row.caveat == "no finite value in b0, b1, b2"


def test_a_run_that_diverged_is_not_left_out_of_the_best(store, reader):
    """Two good seeds of three are no verdict on a recipe whose third one has no finite value at all."""
    ids = [*seeds(store, "a", 0.0), *seeds(store, "b", 5.0, count=2)]
    ids.append(add_run(store, "b2", {10: float("nan")}, seed=2))

    row = judge(reader, *ids).tables["si_sdr"][1]

    assert (row.seeds, row.best, row.verdict) == (3, None, "not comparable")
    assert row.caveat == "no finite value in b2"


def test_last_evaluations_are_those_at_the_same_progress(store, reader):
    """Scores rise with progress alone; who is evaluated every 300 updates is 800 further than who is every 1000."""
    coarse = [
        add_run(store, f"a{k}", {at: at / 1000 for at in range(1000, 5001, 1000)}, seed=k, noise=0.01)
        for k in range(3)
    ]  # fmt: skip
    fine = [
        add_run(store, f"b{k}", {at: at / 1000 for at in range(300, 4801, 300)}, seed=k, noise=0.01)
        for k in range(3)
    ]  # fmt: skip

    found = judge(reader, *coarse, *fine, when="final")

    assert [row.final.mean for row in found.tables["si_sdr"]] == pytest.approx(
        [HARD.mean() + 4.0, HARD.mean() + 3.9], abs=1e-4
    )
    assert {point.updates for point in found.final_points["si_sdr"].values()} == {4000, 3900}
    note = next(note for note in found.notes if "not at exactly the same progress" in note)
    assert "a0 is 3 % further than b0" in note
    assert not any("exactly" in note for note in judge(reader, *coarse, when="final").notes)


def test_a_variant_without_values_says_why(store, reader):
    ids = seeds(store, "a", 0.0)
    ids += [add_run(store, f"b{k}", {10: 0.0}, seed=k, key=str(k // 2)) for k in range(3)]
    for run_id in ids[3:]:
        store.add_points(run_id, steps=[10], series={"sdr": [1.0]}, units={})
        record = EvaluationRecord(run_id, 10, train_seconds=20.0, items_key="")
        store.add_results(record, {"sdr": [1.0] * ITEMS})

    rows = judge(reader, *ids).tables["si_sdr"]
    assert rows[1].caveat == "evaluated on different items"
    rows = judge(reader, *ids, metrics=["si_sdr", "sdr"]).tables["sdr"]
    assert (rows[0].seeds, rows[1].seeds) == (0, 3)
    assert rows[1].caveat == "not evaluated by sdr (reference)"
    rows = judge(reader, *ids[3:], *ids[:3], metrics=["si_sdr", "sdr"]).tables["sdr"]
    assert rows[1].caveat == "not evaluated by sdr"


def test_runs_of_unequal_items_in_one_variant_are_on_different_items(store, reader):
    ids = [*seeds(store, "a", 0.0), *seeds(store, "b", 0.0, count=2, experiment="e", variant="b")]
    fields = {"experiment": "e", "variant": "b", "config": "{}", "fingerprint": "", "seed": 2}
    ids.append(store.insert_run({"name": "b2", **fields}))
    store.add_points(ids[-1], steps=[10], series={"si_sdr": [1.0]}, units={})
    record = EvaluationRecord(ids[-1], 10, train_seconds=1.0, items_key="fewer")
    store.add_results(record, {"si_sdr": [1.0] * 12})
    store.update_run(ids[-1], updates=10, items=40)

    assert judge(reader, *ids).tables["si_sdr"][1].caveat == "evaluated on different items"


def test_equal_settings_are_said_to_be_equal(store, reader):
    found = judge(reader, *seeds(store, "a", 0.0, count=2))
    assert "a0, a1 have the same settings apart from the seed" in found.notes[-1]
    assert not any(
        "same settings" in note for note in judge(reader, 1, add_run(store, "b", {10: 1.0})).notes
    )


def test_seeds_that_are_asked_for_are_listed(store, reader):
    ids = [add_run(store, name, {10: 1.0}) for name in "ab"]
    notes = " ".join(judge(reader, *ids, min_seeds=4).notes)
    assert "train 4 seeds of each variant (seeds = [0, 1, 2, 3] in" in notes


def test_the_side_with_fewer_seeds_is_brought_up_to_the_other_at_its_own_cost():
    estimate = Estimate(
        1.0, runs_variance=0.1, runs_freedom=1.5, items_variance=0.0, items_freedom=39.0,
        paired=False, num_items=40, num_runs=(5, 2),
    )  # fmt: skip

    more = decider(estimate, 0.05, margin=0.1, hours=(1.0, 10.0))

    assert (more.seeds, more.more_runs, more.gpu_hours) == (5, 3, 30.0)


def test_a_run_with_bad_items_says_nothing_about_the_spread_of_seeds(store, reader):
    """Seeds are equal but for rounding; a run at -100 dB would make every order look open."""
    known = seeds(store, "known", 0.0)
    worst = add_run(store, "known3", {10: -110.0}, seed=3)
    record = EvaluationRecord(worst, 20, train_seconds=1.0, items_key="items")
    store.add_results(record, {"si_sdr": [-100.0] * ITEMS, "non_finite": [1.0] * ITEMS})
    ids = [add_run(store, name, {10: level}) for name, level in (("a", 0.0), ("b", 0.3))]

    row = judge(reader, *ids).tables["si_sdr"][1]

    assert len(known) == 3
    assert "less than 1 % of cases (from 3 runs that differ only in their seed)" in row.caveat
