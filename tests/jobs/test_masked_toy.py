"""A recipe with stages, teacher, codebook and metrics, through queue and worker: killed, stopped, resumed.

What it is killed by is in `tests/plugins/masked_toy/recipe.py`; single parts are tested in
`tests/engine/training/test_stages.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs import submit
from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.worker.serve import serve
from jobs.worker.supervisor import Child

RUNNER = (sys.executable, "-P", str(Path(__file__).parent / "fakes" / "toy_runner.py"))
UPDATES = 12
ACCIDENTS = (
    "stop-clusters-4", "kill-clusters-11", "kill-codes-0", "stop-codes-5", "kill-update-2",
    "kill-after-7", "stop-update-9", "kill-update-12",
)  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture
def toy_config(make_config) -> Any:
    return make_config(
        batch={"items": 5, "micro_batch": 2},
        schedule={"length": f"{UPDATES} updates"},
        validation={"every": "5 updates"},
        logging={"every": "3 updates", "flush_s": 0.05},
        checkpoint={"every": "2 updates", "best": ["val_loss"]},
        precision={"device": "cpu", "threads": 1},
    )


def drain(home: Home) -> None:
    serve(home, device="cpu", drain=True, echo=lambda text: None, child=Child(RUNNER))


def state_of(home: Home, run_id: int) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the tensors and the JSON that a run has left."""
    folder = home.run_folder(run_id)
    places = [
        folder / "checkpoints" / f"last-{UPDATES:06d}",
        *sorted((folder / "stages").iterdir()),
    ]
    tensors = {
        f"{place.name}/{file.name}/{name}": tensor
        for place in places
        for file in sorted(place.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    documents = [
        file.read_text()
        for place in places
        for file in sorted(place.glob("*.json"))
        if file.name != "manifest.json"
    ]
    return tensors, documents


def curves_of(home: Home, run_id: int) -> dict[str, tuple[str, list[int], list[float | None]]]:
    with StoreReader(home.store) as reader:
        names = [name for name in reader.series_names(run_id) if not name.endswith("per_s")]
        found = reader.curves(run_id, names, max_points=10**6)
    return {name: (curve.unit, curve.updates, curve.last) for name, curve in found.items()}


def test_killed_and_stopped_anywhere_it_comes_to_the_same(home, toy_config):
    quiet, disturbed = (submit.enqueue(home, toy_config) for _ in range(2))
    folder = home.run_folder(disturbed)
    folder.mkdir(parents=True)
    for name in ACCIDENTS:
        (folder / name).touch()

    # A stopped child puts its run back into the queue, where another start finds it.
    for _ in range(len(ACCIDENTS)):
        drain(home)

    log = (folder / "log.txt").read_text()
    assert [name for name in ACCIDENTS if (folder / name).exists()] == [], log
    with StoreReader(home.store) as reader:
        for run_id in (quiet, disturbed):
            run = reader.run(run_id)
            assert (run.state, run.updates, run.message) == ("finished", UPDATES, ""), log
        kinds = [event.kind for event in reader.events(disturbed)]
    assert kinds.count("killed") == sum(name.startswith("kill") for name in ACCIDENTS)
    assert "stage clusters 0 % (1 of 2): 0 of 30 steps" in log

    (one, texts), (other, others) = (state_of(home, run_id) for run_id in (quiet, disturbed))
    assert one.keys() == other.keys()
    assert "clusters/stage.safetensors/centres" in one
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert texts == others
    curves = curves_of(home, quiet)
    assert curves_of(home, disturbed) == curves
    for name in ("masked_accuracy", "unmasked_accuracy"):
        unit, updates, values = curves[name]
        assert (unit, updates) == ("", [3, 6, 9, 12])
        assert all(value is not None and 0 <= value <= 1 for value in values)
