"""Runs that start from trained weights: exactly those, measured before the first update, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.checkpoints.files import CheckpointError, read_manifest
from engine.checkpoints.find import find_checkpoint
from engine.checkpoints.referenced import checkpoint_of
from engine.events import CheckpointSaved, Evaluated, Noticed, RunStarted
from engine.training.initial_weights import InitError, load_initial_weights
from engine.training.trainer import Trainer

LAST = "last-000012"


@pytest.fixture
def base(tmp_path, make_config, line_recipe, new_recorder, stop_after) -> Path:
    """The folder of a finished run of 12 updates."""
    folder = tmp_path / "base"
    recorder = new_recorder()
    config = make_config()
    Trainer(config, line_recipe(), folder=folder, observers=[recorder], control=stop_after()).fit()
    return folder


def _weights(folder: Path) -> dict[str, Any]:
    return read_manifest(folder).tensors("model.safetensors")


def test_a_run_starts_with_the_figures_and_the_weights_of_its_base(
    tmp_path, base, make_config, line_recipe, new_recorder, stop_after
):
    at_zero, whole = new_recorder(), new_recorder()
    trained = base / "checkpoints" / LAST
    config = make_config(seed=5, init_from="base")
    Trainer(
        config, line_recipe(), folder=tmp_path / "tuned", observers=[whole], control=stop_after()
    ).fit(init_from=trained)
    frozen = make_config(seed=6, init_from="base", optimizer={"lr": 1e-12, "weight_decay": 0.0})
    ended = Trainer(
        frozen, line_recipe(), folder=tmp_path / "frozen", observers=[at_zero], control=stop_after()
    ).fit(init_from=trained)

    metrics = read_manifest(trained).values["metrics"]
    assert [event.counters.updates for event in whole.of(Evaluated)] == [0, 5, 10, 12]
    first = whole.of(Evaluated)[0].metrics
    assert metrics["val_loss"] == first["val_loss"] == first["val_loss_ema"]
    assert ended.counters.updates == 12
    moved = _weights(tmp_path / "frozen" / "checkpoints" / LAST)
    for name, tensor in _weights(trained).items():
        torch.testing.assert_close(moved[name], tensor, atol=1e-7, rtol=0)
    notice = next(event for event in whole.of(Noticed) if event.kind == "init-from")
    assert notice.message.startswith(f"starts from {trained}, saved after update 12 (content ")
    # What was best at update 0 is on disk as it was then.
    saved = [e for e in at_zero.of(CheckpointSaved) if e.counters.updates == 0]
    assert {event.kind for event in saved} >= {"best-val_loss"}


def test_a_stopped_run_goes_on_without_its_base_and_ends_bit_identical(
    tmp_path, base, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors
):
    trained = base / "checkpoints" / LAST

    def fit(name: str, control: Any, init_from: Path | None) -> Any:
        recorder = new_recorder()
        run = Trainer(
            make_config(seed=3, init_from="base"), line_recipe(), folder=tmp_path / name, observers=[recorder],
            control=control,
        )  # fmt: skip
        run.fit(init_from=init_from)
        return recorder

    fit("whole", stop_after(), trained)
    fit("parts", stop_after(5), trained)
    shutil.rmtree(base)
    with pytest.raises(InitError, match="are missing, and it has no intact checkpoint"):
        fit("fresh", stop_after(), None)
    resumed = fit("parts", stop_after(), None)

    assert resumed.of(RunStarted)[0].resumed_from == 5
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / LAST) for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_what_does_not_fit_is_refused_by_name_and_shape_or_left_untrained(base):
    trained = base / "checkpoints" / LAST
    wide = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 5), nn.PReLU())
    before = {name: tensor.clone() for name, tensor in wide.state_dict().items()}

    with pytest.raises(InitError) as refusal:
        load_initial_weights(wide, trained, strict=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in wide.state_dict().items())
    text = load_initial_weights(wide, trained, strict=False)

    for part in (
        "3.weight has shape 4x8, expected 5x8",
        "3.bias has shape 4, expected 5",
        "4.weight is missing in the checkpoint",
    ):
        assert part in str(refusal.value)
        assert part in text
    assert "init_strict = false" in str(refusal.value)
    assert "2 of 5 tensors of the model loaded" in text
    weights = _weights(trained)
    assert torch.equal(wide[0].weight, weights["0.weight"])
    assert torch.equal(wide[3].weight, before["3.weight"])
    with pytest.raises(InitError, match=r"no tensor in .* matches this model"):
        load_initial_weights(nn.Conv1d(1, 1, 1), trained, strict=False)


def test_names_kept_in_a_model_are_not_taken_from_another(base, tmp_path):
    class Named(nn.Module):
        def __init__(self, names: bytes) -> None:
            super().__init__()
            self.register_buffer("vocabulary", torch.tensor(list(names), dtype=torch.uint8))
            self.linear = nn.Linear(1, 1)

    from engine.checkpoints.files import write_checkpoint

    tensors = {"model.safetensors": Named(b"abc").state_dict()}
    folder = write_checkpoint(
        tmp_path / "named", {"counters": {"updates": 3}}, tensors=tensors
    ).folder
    with pytest.raises(InitError, match="vocabulary has other content"):
        load_initial_weights(Named(b"abd"), folder, strict=True)
    load_initial_weights(Named(b"abc"), folder, strict=True)


def test_a_reference_names_one_checkpoint_of_a_run(base):
    below = base / "checkpoints"
    assert checkpoint_of(base, "last") == below / LAST
    assert checkpoint_of(base, "val_loss") == below / "best-val_loss"
    assert checkpoint_of(base, "best") == find_checkpoint(base)
    with pytest.raises(CheckpointError, match=r"no checkpoint 'wer'; available: .*best-val_loss, "):
        checkpoint_of(base, "wer")
    copy = shutil.copytree(below / LAST, base / "copy")
    assert read_manifest(copy).content == read_manifest(below / LAST).content
    assert read_manifest(below / "best-val_loss").content != read_manifest(copy).content
