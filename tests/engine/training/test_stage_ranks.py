"""Stages, teacher, codebook and metrics in two processes are those of one."""

from __future__ import annotations

import json

import pytest
import torch

from engine.training.ranks import Alone
from tests.engine.training.fakes import toy_ranks as script
from tests.ranks import start_together


@pytest.mark.slow
def test_two_processes_come_to_what_one_comes_to(make_config, repository, tmp_path):
    """One of two is asked to stop in a stage: both stop there, both go on."""

    def config(devices: int):
        return make_config(
            batch={"items": 5, "micro_batch": 2}, schedule={"length": "12 updates"},
            optimizer={"lr": 1e-3, "eps": 1e-4},
            checkpoint={"every": "4 updates", "best": []},
            precision={"device": "cpu", "threads": 1, "devices": devices},
        )  # fmt: skip

    folder = tmp_path / "two"
    folder.mkdir()
    values, plugins = json.dumps(config(2).to_dict()), repository / "tests" / "plugins"
    with start_together(script.__name__, folder, arguments=[values], paths=[plugins]) as results:
        one = script.train(config(1), tmp_path / "one", ranks=Alone())
        ranks = results()

    for rank in ranks:
        first, second = rank["first"], rank["second"]
        assert (first["outcome"], first["updates"], first["reason"]) == (
            "stopped", 0, "asked to stop",
        )  # fmt: skip
        assert (second["outcome"], second["updates"]) == ("finished", 12)
        assert torch.equal(second["centres"], one["centres"])
        assert second["state"].keys() == one["state"].keys()
        for name, tensor in one["state"].items():
            torch.testing.assert_close(second["state"][name], tensor, rtol=1e-6, atol=1e-6)
            assert torch.equal(second["state"][name], ranks[0]["second"]["state"][name])
    assert one["curves"]["skipped"][-1] > 0
    for name in ("toy_accuracy", "toy_kept_accuracy"):
        found = ranks[0]["second"]["curves"][name]
        assert found == pytest.approx(one["curves"][name], rel=1e-6, nan_ok=True)
    # Only the first process reports.
    assert ranks[0]["first"]["stages"] > 0
    assert ranks[1]["first"]["stages"] == 0
