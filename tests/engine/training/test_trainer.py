"""The order of things in a run, and what it tells its observers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.checkpoints.files import read_manifest
from engine.events import CheckpointSaved, Evaluated, Noticed, PointsRecorded, RunEnded, RunStarted
from engine.precision import backend_settings
from engine.recipes.datasets import Datasets
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.curves import TrainingDiverged
from engine.training.trainer import Trainer


def _fit(config, recipe, folder, observer, control):
    return Trainer(config, recipe, folder=folder, observers=[observer], control=control).fit()


def test_a_run_tells_all_in_order(tmp_path, make_config, line_recipe, recorder, stop_after):
    ended = _fit(make_config(), line_recipe(), tmp_path, recorder, stop_after())
    assert isinstance(recorder.events[0], RunStarted)
    assert recorder.events[-1] == ended
    assert (ended.outcome, ended.counters.updates, ended.counters.items) == ("finished", 12, 48)
    assert [e.counters.updates for e in recorder.of(Evaluated)] == [1, 5, 10, 12]
    assert sorted(recorder.curve("loss")) == list(range(1, 13))
    saved = [e.counters.updates for e in recorder.of(CheckpointSaved) if e.kind == "last"]
    assert saved == [4, 8, 12]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [name for name in kept if name.startswith("last")] == ["last-000008", "last-000012"]


def test_points_before_an_evaluation_are_told_before_it(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    _fit(make_config(), line_recipe(), tmp_path, recorder, stop_after())
    told = 0
    for event in recorder.events:
        if isinstance(event, PointsRecorded):
            told = int(event.updates[-1])
        if isinstance(event, (Evaluated, CheckpointSaved)):
            assert told >= event.counters.updates


def test_loss_falls(tmp_path, make_config, line_recipe, recorder, stop_after):
    config = make_config(schedule={"length": "300 updates"}, validation={"every": "300 updates"},
                         checkpoint={"every": "300 updates"})  # fmt: skip
    _fit(config, line_recipe(dropout=0.0), tmp_path, recorder, stop_after())
    losses = list(recorder.curve("loss").values())
    assert np.mean(losses[-20:]) < 0.2 * np.mean(losses[:20])


def test_every_item_once_per_epoch(tmp_path, make_config, line_recipe, recorder, stop_after):
    recipe = line_recipe()
    _fit(make_config(), recipe, tmp_path, recorder, stop_after())
    first = [draw.index for draw in recipe.fetched if draw.epoch == 0]
    assert sorted(first) == list(range(12))


def test_points_cover_the_interval(tmp_path, make_config, line_recipe, new_recorder, stop_after):
    each, third = new_recorder(), new_recorder()
    _fit(make_config(), line_recipe(), tmp_path / "a", each, stop_after())
    config = make_config(logging={"every": "12 items"})
    _fit(config, line_recipe(), tmp_path / "b", third, stop_after())
    losses = each.curve("loss")
    assert third.curve("loss") == pytest.approx(
        {k: np.mean([losses[k - 2], losses[k - 1], losses[k]]) for k in (3, 6, 9, 12)}
    )


def test_skipped_updates_are_counted_charted_and_said(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    recipe = line_recipe(poisoned=[7])
    _fit(make_config(), recipe, tmp_path, recorder, stop_after())
    losses, skipped = recorder.curve("loss"), recorder.curve("skipped")
    assert sum(math.isnan(loss) for loss in losses.values()) == skipped[12] == 4
    notices = recorder.of(Noticed)
    assert sum(notice.details["count"] for notice in notices) == 4
    assert {notice.kind for notice in notices} == {"updates-skipped"}


def test_twenty_in_a_row_end_the_run(tmp_path, make_config, line_recipe, recorder, stop_after):
    config = make_config(schedule={"length": "100 updates"})
    with pytest.raises(TrainingDiverged, match=r"updates 1 to 20: .* 20 times in a row"):
        _fit(config, line_recipe(poisoned=range(12)), tmp_path, recorder, stop_after())


def test_best_checkpoints_hold_the_weights_they_were_measured_on(
    tmp_path, make_config, recorder, stop_after
):
    config = make_config(optimizer={"lr": 3e-3})
    _fit(config, SeparationRecipe(config), tmp_path, recorder, stop_after())
    best = recorder.of(Evaluated)
    for name in ("si_sdr", "si_sdr_ema", "val_loss", "val_loss_ema"):
        manifest = read_manifest(tmp_path / "checkpoints" / f"best-{name}")
        values = [event.metrics[name] for event in best]
        expected = min(values) if "loss" in name else max(values)
        assert manifest.values["metrics"][name] == expected
        recipe = SeparationRecipe(config)
        model = recipe.build_model()
        model.load_state_dict(manifest.tensors("model.safetensors"))
        # The thread count of the run: sums come out equal only in the same order.
        with backend_settings(config.precision), torch.no_grad():
            measured = recipe.evaluate(model.eval(), torch.device("cpu"))
        assert measured.metrics[name.removesuffix("_ema")] == expected


def test_evaluation_changes_nothing(
    tmp_path, make_config, line_recipe, new_recorder, stop_after, checkpoint_tensors
):
    """The same run with and without evaluations ends with the same weights and generators."""
    often, never = new_recorder(), new_recorder()
    for name, every, observer in (("a", "1 updates", often), ("b", "12 updates", never)):
        config = make_config(validation={"every": every, "at_start": False})
        _fit(config, line_recipe(), tmp_path / name, observer, stop_after())
    a, b = (checkpoint_tensors(tmp_path / n / "checkpoints" / "last-000012") for n in "ab")
    assert all(torch.equal(a[key], b[key]) for key in b)
    assert often.curve("loss") == never.curve("loss")


def test_an_observer_that_fails_does_not_end_the_run(
    tmp_path, make_config, line_recipe, recorder, stop_after, caplog
):
    class Broken:
        def on_event(self, event):
            raise RuntimeError("sink is gone")

    ended = Trainer(
        make_config(), line_recipe(), folder=tmp_path, observers=[Broken(), recorder],
        control=stop_after(),
    ).fit()  # fmt: skip
    assert ended.outcome == "finished"
    assert isinstance(recorder.events[-1], RunEnded)
    assert caplog.text.count("event sink failed and was disabled") == 1


def test_gpu_that_is_not_there_is_one_clear_message(
    tmp_path, make_config, line_recipe, recorder, stop_after, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"precision\.device = cuda: no GPU found"):
        _fit(make_config(precision={"device": "cuda"}), line_recipe(), tmp_path, recorder, None)


def test_references_without_a_level_are_excluded_and_counted(make_config):
    """Item 0 is plain, the reference of 1 is silent, the input of 2 is its reference already."""
    from engine.data.separation.dataset import AudioItem

    recipe = SeparationRecipe(make_config())
    place = np.arange(800, dtype=np.float32)
    tone, other = np.sin(place * np.pi / 4)[None], np.cos(place * np.pi / 4)[None]
    references = [tone, np.zeros_like(tone), tone + other]

    class Three:
        manifest = "three items"

        def __len__(self):
            return 3

        def item(self, epoch, index):
            return AudioItem(tone + other, references[index][None])

    recipe._dataset = Datasets(recipe._config, {"valid": Three()})
    with torch.no_grad():
        found = recipe.evaluate(recipe.build_model().eval(), torch.device("cpu"))
    assert (found.num_items, found.num_excluded) == (3, 2)
    assert found.metrics["input_si_sdr"] == pytest.approx(0, abs=1e-4)
    assert np.isnan(found.items["si_sdr"]).tolist() == [False, True, True]
    assert found.metrics["sdr"] == found.items["sdr"][0]
    assert np.isfinite(found.items["val_loss"]).all()
    assert found.metrics["val_loss"] == pytest.approx(found.items["val_loss"].mean())
    assert found.metrics["si_sdri"] == pytest.approx(found.metrics["si_sdr"], abs=1e-4)
    assert math.isfinite(found.metrics["val_loss"])


def test_items_are_named_by_what_is_judged_and_by_nothing_else(make_config):
    def key(**sections):
        return SeparationRecipe(make_config(**sections))._items_key

    plain = key()
    for same in (
        {"data": {"segment_s": 0.125}}, {"model": {"width": 8}}, {"seed": 5}, {"loss": {"kind": "l1"}},
        {"validation": {"every": "2 updates"}},
    ):  # fmt: skip
        assert key(**same) == plain, same
    for other in (
        {"data": {"targets": ["percussion"], "others": ["voice"]}}, {"data": {"rate_hz": 4_000}},
        {"validation": {"segment_s": 0.25}}, {"validation": {"max_items": 1}},
    ):  # fmt: skip
        assert key(**other) != plain, other


def test_an_evaluation_tells_the_value_of_each_item(make_config, recorder, stop_after, tmp_path):
    config = make_config(schedule={"length": "1 updates"})
    recipe = SeparationRecipe(config)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    (evaluated,) = recorder.of(Evaluated)
    # Of training items, means are enough.
    alone = {name for name in evaluated.metrics if "_train" in name or name.startswith("overfit_")}
    assert alone
    assert set(evaluated.items) == set(evaluated.metrics) - alone
    for name, values in evaluated.items.items():
        assert values.shape == (evaluated.num_items,)
        assert np.nanmean(values) == pytest.approx(evaluated.metrics[name]), name
    assert evaluated.items_key
