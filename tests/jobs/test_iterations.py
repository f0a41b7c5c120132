"""Iterations: which runs a config stands for, what each takes from the one before, and what is refused."""

from __future__ import annotations

import pytest

from engine.config.errors import ConfigError
from jobs import submit
from jobs.home import Home
from jobs.store.errors import StoreError
from jobs.store.reader import StoreReader
from jobs.submit import NewRun
from jobs.sweeps.measured import Duration
from jobs.sweeps.plan import _planned
from tests.pretraining import pretraining, write_audio

LATER = [
    "2: loss.clusters=20",
    "2: loss.targets_layer=1",
    "3: loss.targets_layer = 2",
    "3: model.layers=3",
]


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    return write_audio(tmp_path_factory.mktemp("audio"))


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home").create()


def runs_of(home):
    with StoreReader(home.store) as reader:
        return {
            run.name: (run, reader.config(run.id), reader.needs(run.id)) for run in reader.runs()
        }


def test_a_preset_of_three_iterations_is_three_runs_that_wait_for_each_other(home, audio):
    config = pretraining(audio, loss={"iterations": 3, "later": LATER, "targets_layer": 6})
    run_id = submit.enqueue(home, config, preset="ssl/hubert-small")
    runs = runs_of(home)
    assert set(runs) == {"hubert-small-1-it1", "hubert-small-1-it2", "hubert-small-1"}
    assert runs["hubert-small-1"][0].id == run_id == max(run.id for run, _, _ in runs.values())
    first, second, third = (
        runs[name][1] for name in sorted(runs, key=lambda name: runs[name][0].id)
    )
    assert first["loss"]["targets_from"] is None
    assert (first["loss"]["clusters"], first["model"]["layers"]) == (10, 2)
    assert second["loss"]["targets_from"] == "hubert-small-1-it1"
    assert (second["loss"]["clusters"], second["loss"]["targets_layer"]) == (20, 1)
    assert third["loss"]["targets_from"] == "hubert-small-1-it2"
    # What no line of its own sets is as in the first iteration.
    assert (third["loss"]["clusters"], third["loss"]["targets_layer"]) == (10, 2)
    assert (second["model"]["layers"], third["model"]["layers"]) == (2, 3)
    for config in (first, second, third):
        assert (config["loss"]["iterations"], config["loss"]["later"]) == (1, [])
    waits = [[need.needed_name for need in needs] for _, _, needs in runs.values()]
    assert sorted(waits) == [[], ["hubert-small-1-it1"], ["hubert-small-1-it2"]]


def test_the_first_iteration_alone_starts_from_weights(home, audio, tmp_path):
    config = pretraining(audio, loss={"iterations": 2, "later": ["2: loss.targets_layer=1"]})
    config = config.model_copy(update={"init_from": "base"})
    submit.enqueue(home, pretraining(audio), name="base")
    submit.enqueue(home, config, name="more")
    runs = runs_of(home)
    assert runs["more-it1"][1]["init_from"] == "base"
    assert runs["more"][1]["init_from"] is None


def test_only_the_last_iteration_belongs_to_an_experiment(home, audio):
    config = pretraining(audio, loss={"iterations": 2, "later": ["2: loss.targets_layer=1"]})
    ids = submit.enqueue_all(
        home,
        [
            NewRun(config, name="a-0", variant="a"),
            NewRun(pretraining(audio), name="b-0", variant="b"),
        ],
        experiment="e",
    )
    runs = runs_of(home)
    assert [run.name for run, _, _ in runs.values() if run.experiment == "e"] in (
        ["a-0", "b-0"],
        ["b-0", "a-0"],
    )
    assert ids == [runs["a-0"][0].id, runs["b-0"][0].id]


@pytest.mark.parametrize(
    ("iterations", "line", "message"),
    [
        (2, "loss.clusters=500", r"loss.later: 'loss.clusters=500': expected \"ITERATION: KEY=VALUE\""),
        (2, "3: loss.clusters=500", "is about iteration 3, but loss.iterations = 2; expected 2 to 2"),
        (2, "1: loss.clusters=500", "is about iteration 1"),
        (1, "2: loss.clusters=500", "but loss.iterations = 1; set loss.iterations = 2"),
        (2, "2: loss.cluster=500", r"loss.later: iteration 2: .*cluster"),
        (2, "2: loss.clusters=1", r"loss.later: iteration 2: loss.clusters"),
        (2, "2: loss.targets_from=x", "loss.targets_from can't be set for an iteration"),
        (2, "2: loss.targets_layer=7", "has 2 layers, but loss.targets_layer = 7; expected 0 to 2"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_each_and_queue_nothing(home, audio, iterations, line, message):
    config = pretraining(
        audio, loss={"iterations": iterations, "later": [line], "targets_layer": 1}
    )
    with pytest.raises(ConfigError, match=message) as caught:
        submit.enqueue(home, config)
    assert len(caught.value.problems) == 1
    assert runs_of(home) == {}


def test_names_of_iterations_must_be_free_and_valid(home, audio):
    config = pretraining(audio, loss={"iterations": 2, "later": ["2: loss.targets_layer=1"]})
    with pytest.raises(StoreError, match="is not a valid run name"):
        submit.enqueue(home, config, name="a" * 78)
    submit.enqueue(home, pretraining(audio), name="x-it1")
    with pytest.raises(StoreError, match="'x-it1' already exists"):
        submit.enqueue(home, config, name="x")
    assert set(runs_of(home)) == {"x-it1"}


def test_a_plan_counts_the_time_of_all_iterations(audio):
    class Known:
        def duration(self, config, size, *, total):
            return Duration(10.0 * config.loss.clusters, 20.0 * total)

        def size_bytes(self, config):
            return config.loss.clusters

    config = pretraining(
        audio,
        loss={
            "iterations": 2,
            "later": ["2: loss.clusters=30", "2: schedule.length=7 updates"],
            "targets_layer": 1,
        },
        schedule={"length": "5 updates"},
    )
    run = _planned("x", "v", config=config, measured=Known())
    assert (run.seconds, run.duration.slowest_s) == (10.0 * (10 + 30), 20.0 * (5 + 7))
    assert (run.size_bytes, run.updates) == (40, 7)
    assert any("its 2 iterations are queued as runs" in warning for warning in run.warnings)
    alone = _planned(
        "x", "v", config=pretraining(audio, schedule={"length": "5 updates"}), measured=Known()
    )
    assert (alone.seconds, alone.updates) == (100.0, 5)
    assert not any("iterations" in warning for warning in alone.warnings)
