"""Two processes that train together come to what one comes to: weights, losses, counters, data.

The runs are in `fakes/ranks.py`; two processes and this one make each of them once for all tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.training.ranks import Alone, open_ranks
from engine.training.trainer import Trainer
from tests.engine.training.fakes import ranks as script
from tests.ranks import made_once, start_together

RUNS = ["ragged", "epochs", "ragged_seconds", "separation", "transducer"]


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, synthetic: Path, tones: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the runs came to in one process, and in each of two."""

    def make(folder: Path) -> list[Any]:
        (folder / "audio").symlink_to(synthetic)
        (folder / "tones").symlink_to(tones)
        with start_together(script.__name__, folder) as results:
            one = script.run_all(Alone(), folder)
            return [one, *results()]

    one, *several = made_once(make, "ranks", tmp_path_factory=tmp_path_factory)
    return one, several


Made = tuple[dict[str, Any], list[dict[str, Any]]]


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance)


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_what_one_trains(made: Made, name: str) -> None:
    one, (first, second) = made[0][name], (ranks[name] for ranks in made[1])
    assert_equal(first["state"], second["state"])
    assert_close(one["state"], first["state"])
    assert len(one["losses"]) == one["updates"]
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for counter in ("updates", "items", "audio_seconds", "epochs"):
        assert first[counter] == second[counter] == one[counter]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RUNS, "capped"])
def test_an_update_takes_one_sum(made: Made, name: str) -> None:
    for ranks in made[1]:
        assert ranks[name]["sums"] == ranks[name]["updates"] > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ragged", "ragged_seconds"])
def test_the_items_are_those_of_one_process_each_once(made: Made, name: str) -> None:
    one, (first, second) = made[0][name], (ranks[name] for ranks in made[1])
    assert set(first["fetched"]).isdisjoint(second["fetched"])
    assert sorted(first["fetched"] + second["fetched"]) == sorted(one["fetched"])
    assert len(set(one["fetched"])) == len(one["fetched"]) == one["items"]


@pytest.mark.slow
def test_a_rule_of_stop_when_ends_all_processes_at_the_update_where_it_ends_one(made: Made) -> None:
    one, (first, second) = made[0]["early"], (ranks["early"] for ranks in made[1])
    assert first["updates"] == second["updates"] == one["updates"] == 6
    assert one["outcome"] == first["outcome"] == second["outcome"] == "finished"
    assert first["reason"] == second["reason"] == one["reason"]
    assert one["reason"].startswith("stopped early: val_loss")
    assert_equal(first["state"], second["state"])
    assert_close(one["state"], first["state"])


@pytest.mark.slow
def test_only_the_first_process_tells(made: Made) -> None:
    first, second = (ranks["ragged"] for ranks in made[1])
    assert first["num_events"] > 3
    assert second["num_events"] == 0


@pytest.mark.slow
def test_an_update_that_is_not_finite_on_one_is_skipped_by_all(made: Made) -> None:
    one, (first, second) = made[0]["poisoned"], (ranks["poisoned"] for ranks in made[1])
    assert 0 < first["state"]["optimizer.step"] < 12
    assert_equal(first["state"], second["state"])
    assert_close(one["state"], first["state"])


@pytest.mark.slow
def test_teacher_codebook_and_metrics_are_those_of_one_process(made: Made) -> None:
    """With updates that are skipped, and memory for one item at a time on the second rank."""
    one, (first, second) = made[0]["followed"], (ranks["followed"] for ranks in made[1])
    assert 0 < first["state"]["optimizer.step"] < 12
    assert any(kind == "out-of-memory" for kind, _, _ in first["notices"])
    assert_equal(first["state"], second["state"])
    assert_close(one["state"], first["state"], tolerance=1e-6)
    assert one["state"]["codes"].tolist() != [-1.0, 1.0]
    assert first["lengths"] == pytest.approx(one["lengths"], rel=1e-6, nan_ok=True)
    assert sum(length == length for length in one["lengths"]) > 3


@pytest.mark.slow
def test_memory_that_runs_out_on_one_makes_all_begin_the_update_again(made: Made) -> None:
    quiet, (first, second) = made[0]["plenty_of_memory"], (r["short_of_memory"] for r in made[1])
    assert_equal(first["state"], second["state"])
    assert_close(quiet["state"], first["state"])
    assert first["items"] == quiet["items"]
    assert first["micro_batches"] > made[1][0]["plenty_of_memory"]["micro_batches"]
    assert first["sums"] > first["updates"]
    kinds = [kind for kind, _, _ in first["notices"]]
    assert kinds
    assert set(kinds) == {"out-of-memory"}
    assert {details["process"] for _, _, details in first["notices"]} == {1}
    assert second["notices"] == []


@pytest.mark.slow
def test_what_one_is_asked_all_do_and_the_resumed_run_is_the_same(made: Made) -> None:
    whole = made[1][0]["ragged"]
    first, second = (ranks["stopped"] for ranks in made[1])
    assert first["first"]["outcome"] == second["first"]["outcome"] == "stopped"
    assert first["first"]["updates"] == second["first"]["updates"] == 7
    assert first["first"]["reason"] == "stop requested"
    for ranks in (first, second):
        assert (ranks["second"]["outcome"], ranks["second"]["updates"]) == ("finished", 12)
        assert_equal(ranks["second"]["state"], whole["state"])
    assert first["first"]["losses"] + first["second"]["losses"] == whole["losses"]


@pytest.mark.slow
def test_a_process_without_data_joins_and_idle_parameters_stay(made: Made) -> None:
    one, ranks = made[0]["without_data"], [ranks["without_data"] for ranks in made[1]]
    for found in ranks:
        assert (found["weight"], found["pieces"]) == (4.0, 1)
        assert_equal(one["state"], found["state"])
        assert found["state"]["idle"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.slow
def test_what_can_not_be_trained_together_is_refused(made: Made) -> None:
    assert made[0]["errors"] == {}
    for ranks in made[1]:
        assert ranks["errors"]["norm"].startswith(
            "ValueError: precision.devices = 2: the model uses batch normalisation (0)"
        )
        assert "differ in their names: 0, 1" in ranks["errors"]["unequal"]


@pytest.mark.slow
def test_another_number_of_processes_goes_on_in_mode_exact_only(made: Made, tmp_path: Path) -> None:
    from engine.checkpoints.find import ResumeError

    bench = script.Bench(Alone(), tmp_path)
    one = bench.fit("run", bench.config(), script.RaggedRecipe(), stop_at=5)
    assert one["updates"] == 5
    two = bench.config(precision={"devices": 2})
    folder = tmp_path / "world-1" / "run"

    def fit(config: Any, where: Path) -> Any:
        recorder = script.Recorder()
        Trainer(
            config, script.RaggedRecipe(), folder=where, observers=[recorder],
            control=script.StopAt(),
        ).fit()  # fmt: skip
        return recorder

    notices = [e for e in fit(two, folder).events if getattr(e, "kind", "") == "replanned"]
    assert "2 process(es) instead of 1" in notices[0].message
    capped = {"mode": "duration", "cap_s": 10.0}
    bench.fit("capped", bench.config(batch=capped), script.RaggedRecipe(), stop_at=5)
    with pytest.raises(ResumeError, match=r"precision\.devices \(saved 1, now 2\)"):
        fit(bench.config(batch=capped, precision={"devices": 2}), tmp_path / "world-1" / "capped")


def test_one_process_opens_no_process_group(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with open_ranks(make_config().precision) as ranks:
        assert isinstance(ranks, Alone)
    assert not torch.distributed.is_initialized()


def test_the_number_of_processes_must_be_that_of_the_config(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    precision = make_config(precision={"devices": 2}).precision
    with (
        pytest.raises(ValueError, match=r"precision\.devices = 2, but 1 process"),
        open_ranks(precision),
    ):
        pass


def test_unequal_cards_are_warned_about_at_the_start(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, monkeypatch
):
    """One process that hears from another of another card, and one that hears from an equal one."""
    from engine.events import Noticed
    from engine.training import prepared
    from engine.training.ranks import Alone
    from engine.training.trainer import Trainer

    monkeypatch.setattr(prepared, "card_name", lambda device: "NVIDIA H100, 80 GiB")

    class WithAnother(Alone):
        def __init__(self, other):
            self.other = other

        def gather(self, value):
            return [value, self.other] if isinstance(value, str) and "NVIDIA" in value else [value]

    for other, expected in (("NVIDIA T4, 15 GiB", 1), ("NVIDIA H100, 80 GiB", 0)):
        recorder = new_recorder()
        config = make_config(schedule={"length": "1 updates"})
        Trainer(
            config, line_recipe(), folder=tmp_path / other, observers=[recorder],
            control=stop_after(), ranks=WithAnother(other),
        ).fit()  # fmt: skip
        found = [event for event in recorder.of(Noticed) if event.kind == "unequal-devices"]
        assert len(found) == expected
        for event in found:
            assert "process 1: NVIDIA T4, 15 GiB" in event.message
            assert "sepdash tune" in event.message
