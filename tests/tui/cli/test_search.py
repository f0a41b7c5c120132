"""`sepdash search`, and `sepdash sweep` on a file with a search."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.searches.definition import find
from jobs.store.reader import StoreReader
from tests.jobs.searches.simulated import Simulation
from tests.jobs.searches.test_search import rising

SEARCH = """
base = "tiny"
[search]
trials = 6
pruner = "none"
confirm = 2
confirm_seeds = 2
space.optimizer.lr = {low = 1e-5, high = 1.0, log = true}
"""


@pytest.fixture
def simulation(home, tmp_path: Path, write_tone) -> Simulation:
    for name in ("train", "valid"):
        write_tone(tmp_path / "data" / name / "tone.wav")
    opened = Simulation(home, data=tmp_path / "data", curve=rising)
    yield opened
    opened.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lr.toml"
    path.write_text(SEARCH)
    return path


def test_a_dry_run_shows_the_search_and_starts_nothing(sepdash, simulation, file) -> None:
    answer = sepdash("sweep", str(file), "--dry-run")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "lr: search in 6 trials of tiny, with seed 0 (tpe, no pruning)",
        "  first trial: lr-t000-s0, the base itself, 100 updates",
        "  optimizer.lr  1e-05 to 1, log",
        "then 6 runs with fresh seeds (1, 2): the base and the best 2; the verdict is about these",
        "duration unknown (no comparable earlier run)",
    ]
    record = json.loads(sepdash("sweep", str(file), "--dry-run", "--json").out)
    assert (record["confirming_runs"], record["first_trial"]["name"]) == (6, "lr-t000-s0")
    assert not simulation.home.searches.exists()


def test_a_dry_run_says_what_keeps_the_search_from_starting(sepdash, simulation, file) -> None:
    answer = sepdash("sweep", str(file), "--dry-run", "--set", "data.train=/nowhere/at/all")
    assert answer.code == 0
    title, refused = answer.err.splitlines()
    assert title == "not ready to be queued:"
    assert refused.startswith("  data.train: folder /nowhere/at/all does not exist")
    started = sepdash("sweep", str(file), "--set", "data.train=/nowhere/at/all")
    assert (started.code, started.err) == (2, f"sepdash: {refused.strip()}\n")


def test_a_plan_counts_no_more_settings_than_there_are_and_says_what_one_seed_tells(
    sepdash, simulation, file
) -> None:
    text = SEARCH.replace("confirm = 2", "confirm = 50")
    file.write_text(text.replace("confirm_seeds = 2", "confirm_seeds = 1"))
    lines = sepdash("sweep", str(file), "--dry-run").out.splitlines()
    assert lines[-3:-1] == [
        "then 6 runs with fresh seeds (1): the base and the best 5; the verdict is about these",
        "one fresh seed compares trained models, not settings; use confirm_seeds = 3 for a verdict",
    ]


def test_sweep_starts_a_search_and_search_shows_both_numbers_and_the_verdict(
    sepdash, simulation, file
) -> None:
    answer = sepdash("sweep", str(file), "--yes")
    assert (answer.code, answer.out.splitlines()[-1]) == (
        0,
        "search lr started: 6 trials, proposed by the worker when the queue is empty",
    )
    assert "0/6" in sepdash("search").out
    simulation.train_all()

    answer = sepdash("search", "lr")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].startswith("search lr: finished; 6 of 6 trials (6 finished); best t00")
    assert lines[1].split() == ["TRIAL", "RUN", "STATE", "DONE", "SI-SDR", "optimizer.lr", "NOTE"]
    assert sum(line.startswith("t00") and "*" in line.split()[0] for line in lines) == 1
    assert "the best of 6 finished trials was picked by it: it is biased" in answer.out
    assert "verdict on the confirming runs only:" in lines
    assert any(line.split()[:1] == ["baseline"] and "2/2" in line for line in lines)

    record = json.loads(sepdash("search", "lr", "--json").out)
    assert record["state"] == "finished"
    assert len(record["trials"]) == 6
    confirmed = record["confirmed"]
    assert [item["variant"] for item in confirmed][:2] == ["baseline", record["best"]]
    assert {item["best_of"] for item in confirmed} == {6}
    best = next(row for row in record["trials"] if row["variant"] == record["best"])
    assert confirmed[1]["searched"] == best["value"]
    assert "biased" in record["note"]
    assert record["verdict"]["when"] == "final"

    compared = sepdash("compare", "--experiment", "lr")
    assert compared.out.startswith("6 runs compared")


def test_a_search_is_stopped_continued_and_removed(sepdash, simulation, file) -> None:
    sepdash("sweep", str(file), "--yes")
    simulation.train_next()
    simulation.train_next(until=0.5)
    assert sepdash("search", "lr", "--stop").out == "search lr is stopped, with 1 run\n"
    again = sepdash("search", "lr", "--stop")
    assert (again.code, again.err) == (
        2,
        "sepdash: search lr can't be stopped: it is stopped\n",
    )
    answer = sepdash("search", "lr", "--remove", "--yes")
    assert answer.code == 2
    assert "lr-t001-s0 is running; stop it first" in answer.err
    assert find(simulation.home, "lr") is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["search", "lr"], "no search 'lr'; start one with `sepdash sweep FILE`"),
        (["search", "--stop"], "--stop and --remove need the NAME of a search"),
        (["search", "lr", "--stop", "--remove"], "give either --stop or --remove"),
        (["search", "lr", "--keep-runs"], "--keep-runs needs --remove"),
    ],
)
def test_mistakes_get_one_message(sepdash, words, expected) -> None:
    answer = sepdash(*words)
    assert answer.code == 2
    assert expected in answer.err
    assert "Traceback" not in answer.err


def test_options_of_a_night_are_refused_for_a_search(sepdash, simulation, file) -> None:
    answer = sepdash("sweep", str(file), "--until", "07:30")
    assert answer.code == 2
    assert "--until plans a sweep" in answer.err
    assert "`sepdash search lr --stop`" in answer.err


def test_a_mistake_in_the_file_starts_nothing(sepdash, simulation, file) -> None:
    file.write_text(SEARCH.replace("low = 1e-5", "low = 2.0"))
    answer = sepdash("sweep", str(file), "--yes")
    assert (answer.code, answer.err) == (
        2,
        "sepdash: search.space.optimizer.lr: low = 2 must be below high = 1\n",
    )
    assert not simulation.home.searches.exists()


def test_a_damaged_file_of_a_search_is_named_and_the_others_are_listed(
    sepdash, simulation, file
) -> None:
    sepdash("sweep", str(file), "--yes")
    (simulation.home.searches / "bad.json").write_text("{")
    listed = sepdash("search")
    assert listed.code == 0
    assert "unreadable" in listed.out
    assert "0/6" in listed.out
    assert "remove this file" in sepdash("search", "bad").err
    # And the worker goes on with the other one.
    assert simulation.train_next() is not None


def test_optuna_is_loaded_by_what_needs_it_only(home, repository: Path) -> None:
    code = (
        "import sys\n"
        "import tui.apps.dashboard, tui.main, jobs.worker.serve, jobs.searches.serving, jobs.searches.control\n"
        "from jobs.home import Home\n"
        "from jobs.searches.serving import Searches\n"
        f"Searches(Home.locate({str(home.root)!r}), echo=print).tend(propose=True)\n"
        "print({'optuna', 'sqlalchemy', 'torch'} & set(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=repository
    )
    assert out.stdout == "set()\n"
    with StoreReader(home.store) as reader:
        assert reader.runs() == []
