"""The trainer's updates of wav2vec 2.0 have the gradients of one batch: parts, short memory, two processes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parent / "fakes" / "wav2vec2_updates.py"
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@pytest.fixture(scope="module")
def fake() -> ModuleType:
    """The updates, as a module."""
    spec = importlib.util.spec_from_file_location("fake_wav2vec2_updates", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_equal_updates(found: dict[str, Any], whole: dict[str, Any]) -> None:
    """Gradients within 1e-6 of the largest; loss and curves, perplexities and diversity too."""
    scale = max(gradient.abs().max() for gradient in whole["gradients"])
    assert scale > 0
    for ours, theirs in zip(found["gradients"], whole["gradients"], strict=True):
        assert (ours - theirs).abs().max() < 1e-6 * scale
    assert found["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert found["metrics"] == pytest.approx(whole["metrics"], rel=1e-6)


@pytest.fixture
def config(wav2vec2_config: Any) -> Any:
    return wav2vec2_config(loss={"diversity_weight": 3.0}, optimizer={"clip_norm": 0.0})


def test_parts_and_short_memory(fake: ModuleType, config: Any) -> None:
    whole = fake.update(config, "one batch")
    for name in ("even", "ragged"):
        assert_equal_updates(fake.update(config, name), whole)
    for where in ("look", "step"):
        found = fake.update(config, "even", fits=2, where=where)
        assert found["shortages"] > 0
        assert_equal_updates(found, whole)


@pytest.mark.slow
def test_two_processes(fake: ModuleType, config: Any, repository: Path, tmp_path: Path) -> None:
    """Also where one has no data, or runs out of memory while it looks."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK, "PYTHONPATH": str(repository),
    }  # fmt: skip
    values = json.dumps(config.to_dict())
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), str(rank), "2", str(tmp_path), values],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said
    whole = fake.update(config, "one batch")
    for rank in range(2):
        found = torch.load(tmp_path / f"rank-{rank}.pt")
        assert found.keys() == {"one batch", "even", "ragged", "short"}
        assert found["short"]["shortages"] > 0
        for name in found:
            assert_equal_updates(found[name], whole)
