"""A recipe with stages, teacher, codebook and metrics, through queue and worker: killed, stopped, resumed.

It is an installed package (`tests/plugins/masked_toy`), used by the command line as any person would.
What it is killed by is in its `recipe.py`; single parts are tested in
`tests/engine/training/test_stages.py`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.home import Home
from jobs.store.reader import StoreReader
from jobs.store.records import RunRecord

UPDATES = 12
ACCIDENTS = (
    "stop-clusters-4", "kill-clusters-11", "kill-codes-0", "stop-codes-5", "kill-update-2",
    "kill-after-7", "stop-update-9", "kill-update-12",
)  # fmt: skip
PRESET = """
data = {{ kind = "masked_toy", train = "{folder}", valid = "{folder}" }}
model = {{ kind = "masked_toy" }}
batch = {{ items = 5, micro_batch = 2 }}
schedule = {{ length = "12 updates" }}
validation = {{ every = "5 updates", full_files = false }}
logging = {{ every = "3 updates", flush_s = 0.05 }}
checkpoint = {{ every = "2 updates", best = ["val_loss"] }}
precision = {{ device = "cpu", threads = 1 }}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def sepdash(site, repository, tmp_path, monkeypatch) -> Callable[..., str]:
    """Return a function that runs a verb where the toy is installed, with a preset `toy`."""
    site.install(
        "masked-toy",
        {
            "sepdash.recipes": {"masked_toy": "masked_toy.spec:RECIPE"},
            "sepdash.losses": {"masked_toy": "masked_toy.loss_settings:ToyLoss"},
            "sepdash.data": {"masked_toy": "masked_toy.data_settings:ToyData"},
            "sepdash.models": {"masked_toy": "masked_toy.model_settings:ToyNetwork"},
        },
        {},
    )
    (site.folder / "masked_toy").symlink_to(repository / "tests" / "plugins" / "masked_toy")
    presets = Path(os.environ["SEPDASH_HOME"]) / "presets"
    presets.mkdir(parents=True)
    (presets / "toy.toml").write_text(PRESET.format(folder=tmp_path))
    return lambda *arguments, code=0: site.start("-m", "tui.main", *arguments, code=code)


@pytest.fixture
def home(tmp_path) -> Home:
    """The home of every process of a test."""
    return Home(Path(os.environ["SEPDASH_HOME"]))


def run_of(home: Home, run_id: int) -> RunRecord:
    with StoreReader(home.store) as reader:
        return reader.run(run_id)


def log_of(home: Home, run_id: int) -> str:
    return (home.run_folder(run_id) / "log.txt").read_text()


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


@pytest.mark.long
def test_killed_and_stopped_anywhere_it_comes_to_the_same(home, sepdash):
    quiet, disturbed = 1, 2
    for _ in range(2):
        sepdash("enqueue", "toy")
    folder = home.run_folder(disturbed)
    folder.mkdir(parents=True)
    for name in ACCIDENTS:
        (folder / name).touch()

    sepdash("worker", "--drain", "--device", "cpu")

    log = log_of(home, disturbed)
    assert [name for name in ACCIDENTS if (folder / name).exists()] == [], log
    for run_id in (quiet, disturbed):
        run = run_of(home, run_id)
        assert (run.state, run.updates, run.message) == ("finished", UPDATES, ""), log
    with StoreReader(home.store) as reader:
        kinds = [event.kind for event in reader.events(disturbed)]
    assert kinds.count("killed") == sum(name.startswith("kill") for name in ACCIDENTS)
    assert "stage clusters 0 % (1 of 2): 0 of 30 steps" in log
    assert re.search(r"loss .* toy_accuracy [0-9.]+%, toy_kept_accuracy 0\.", log)

    (one, texts), (other, others) = (state_of(home, run_id) for run_id in (quiet, disturbed))
    assert one.keys() == other.keys()
    assert "clusters/stage.safetensors/centres" in one
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert texts == others
    curves = curves_of(home, quiet)
    assert curves_of(home, disturbed) == curves
    for name in ("toy_accuracy", "toy_kept_accuracy"):
        unit, updates, values = curves[name]
        assert (unit, updates) == ("", [3, 6, 9, 12])
        assert all(value is not None and 0 <= value <= 1 for value in values)


@pytest.mark.long
def test_a_toy_waits_for_the_run_whose_codebook_it_starts_from(home, sepdash):
    """Its codebook is there before the first update, and it is killed and stopped on its way."""
    base, heir, twin = 1, 2, 3
    sepdash("enqueue", "toy", "--name", "base")
    for name in ("heir", "twin"):
        sepdash("enqueue", "toy", "--name", name, "--set", "loss.codebook_from=base@last")
    for run_id, name in (
        (base, "kill-codes-3"),
        (heir, "kill-clusters-2"),
        (heir, "kill-update-1"),
    ):
        home.run_folder(run_id).mkdir(parents=True, exist_ok=True)
        (home.run_folder(run_id) / name).touch()
    sepdash("move", "heir", "top")
    assert "waiting for base" in sepdash("show", "heir")

    sepdash("worker", "--drain", "--device", "cpu")

    ended = [run_of(home, run_id) for run_id in (base, heir, twin)]
    assert [run.state for run in ended] == ["finished"] * 3, log_of(home, heir)
    assert ended[1].started_at >= ended[0].ended_at
    (one, texts), (other, others) = (state_of(home, run_id) for run_id in (heir, twin))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert texts == others
    documents = [json.loads(text) for text in texts if '"origin"' in text]
    assert [values["state"]["origin"] for values in documents] == ["base"]
    codebook = "recipe.safetensors/state.codebook"
    first, _ = state_of(home, base)
    key = f"last-{UPDATES:06d}/{codebook}"
    assert not torch.equal(one[key], first[key])


def test_a_trained_toy_is_loaded_with_all_it_keeps(home, sepdash, site):
    sepdash("enqueue", "toy")
    sepdash("worker", "--drain", "--device", "cpu")
    code = f"""
from pathlib import Path
from engine.recipes.trained import load_trained
from engine.checkpoints.find import find_checkpoint
folder = Path({str(home.run_folder(1))!r})
recipe, model = load_trained(find_checkpoint(folder))
state = recipe.state_dict()
print(type(recipe).__name__, model.training, recipe.opening.folder, len(recipe.codes), state.values["origin"])
print(float(recipe.centres_KF.sum()), float(state.tensors["codebook"].sum()))
"""
    first, second = site.run(code).splitlines()
    assert first == "MaskedToy False None 40 fresh"
    found = load_file(home.run_folder(1) / "checkpoints" / "best-val_loss" / "recipe.safetensors")
    expected = [found["stage.clusters.centres"], found["state.codebook"]]
    assert [float(text) for text in second.split()] == [float(tensor.sum()) for tensor in expected]
