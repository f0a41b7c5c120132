"""A non-finite estimate makes an item bad, never absent: in every mean, for any weights, in any recipe."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from engine.checkpoints.files import read_manifest
from engine.data.separation.dataset import AudioItem, WholeItem
from engine.evaluation.result import bad_items_notice, evaluation_of
from engine.events import Evaluated, Noticed
from engine.metrics.best import BestMetrics
from engine.metrics.registry import BUILT_IN, NON_FINITE, metric_of
from engine.recipes.datasets import Datasets
from engine.recipes.registry import open_recipe
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.ema import Ema
from engine.training.trainer import Trainer
from engine.training.validator import Validator

CPU = torch.device("cpu")
FRAMES = 4_000


class Ten:
    """Ten validation items: a tone in noise 20 dB below it; the reference of the last one is silent."""

    manifest = "ten items"

    def __len__(self):
        return 10

    def item(self, epoch, index):
        rng = np.random.default_rng(index)
        tone = np.sin(np.arange(FRAMES) * (0.1 + 0.02 * index)).astype(np.float32)
        noise = 0.07 * rng.standard_normal(FRAMES).astype(np.float32)
        target = np.zeros_like(tone) if index == 9 else tone
        return AudioItem((target + noise)[None], target[None, None])

    def whole(self, index):
        item = self.item(0, index)

        def read(start, count):
            part = slice(start, start + count)
            return AudioItem(item.mix_CT[:, part], item.target_SCT[..., part])

        return WholeItem(FRAMES, read)


class PassesOn(nn.Module):
    """Puts out its input, with one sample that is not finite in each of the items `bad`."""

    def __init__(self, bad, value=math.nan):
        super().__init__()
        self.bad = nn.Parameter(torch.zeros(10))
        with torch.no_grad():
            self.bad[list(bad)] = value
        self.items = [Ten().item(0, index).mix_CT for index in range(10)]

    def forward(self, mix_BCT):
        est_BSCT = mix_BCT.unsqueeze(1).clone()
        for row, mix_CT in enumerate(mix_BCT.numpy()):
            size = mix_CT.shape[-1]
            (index,) = [
                i
                for i, whole in enumerate(self.items)
                if any(
                    np.array_equal(whole[:, at : at + size], mix_CT)
                    for at in range(0, FRAMES - size + 1, 100)
                )
            ]
            est_BSCT[row, 0, 0, size // 3] += self.bad[index]
        return est_BSCT


def recipe_of_ten(make_config, **sections):
    recipe = SeparationRecipe(make_config(**sections))
    recipe._dataset = Datasets(recipe._config, {"valid": Ten()})
    return recipe


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("whole", [False, True])
def test_three_bad_items_of_ten_make_the_mean_worse(make_config, value, whole):
    # Whole files in chunks of half their length: the sample is in one of them.
    recipe = recipe_of_ten(make_config, validation={"segment_s": 0.25})
    judge = recipe.evaluate_whole if whole else recipe.evaluate
    with torch.no_grad():
        good = judge(PassesOn([]), CPU)
        found = judge(PassesOn([0, 4, 8], value), CPU)
    assert good.items.keys() == good.metrics.keys()
    assert (good.num_excluded, found.num_excluded) == (1, 1)
    levels_N = good.items["si_sdr"].copy()
    assert levels_N[:9] == pytest.approx(20, abs=2)
    assert math.isnan(levels_N[9])
    levels_N[[0, 4, 8]] = -100
    assert found.items["si_sdr"] == pytest.approx(levels_N, nan_ok=True)
    assert found.metrics["si_sdr"] == pytest.approx(np.mean(levels_N[:9]))
    assert found.metrics["sdr"] < -15
    assert found.metrics["lsd"] > 100 / 3
    assert found.metrics["val_loss"] == found.metrics["spectral"] == math.inf
    assert found.metrics["input_si_sdr"] == good.metrics["input_si_sdr"]
    assert found.items[NON_FINITE].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0]


def test_bad_estimate_of_silent_reference_has_no_ratio_but_is_counted(make_config):
    with torch.no_grad():
        found = recipe_of_ten(make_config).evaluate(PassesOn([9]), CPU)
    assert math.isnan(found.items["si_sdr"][9])
    assert found.metrics["si_sdr"] == pytest.approx(20, abs=1)
    assert (found.num_excluded, found.items[NON_FINITE].sum()) == (1, 1)
    assert found.metrics["val_loss"] == math.inf


def test_averaged_weights_and_whole_files_are_counted_apart(make_config):
    # The model knows the ten validation items only.
    validation = {"full_files": True, "training_items": 0}
    config = make_config(validation=validation)
    recipe = recipe_of_ten(make_config, validation=validation)
    model = PassesOn([])
    ema = Ema(model, config.ema, config.update_size)
    with torch.no_grad():
        model.bad[2] = math.nan
        found = Validator(recipe, config, device=CPU, ema=ema).run(model, whole=True)
    # The average still has the weights of before.
    assert found.metrics["si_sdr"] < found.metrics["si_sdr_ema"] - 10
    assert found.metrics["si_sdr_full"] < found.metrics["si_sdr_full_ema"] - 10
    assert {name for name in found.items if NON_FINITE in name} == {"non_finite", "non_finite_full"}
    text = bad_items_notice(found)
    assert (
        "not finite (NaN or infinity) on validation items: 1 of 10, 1 of 10 (whole files);" in text
    )
    best = BestMetrics(["si_sdr", "si_sdr_ema", "val_loss", "val_loss_ema"])
    assert best.update(found.metrics) == ["si_sdr", "si_sdr_ema", "val_loss_ema"]


def test_run_says_so_and_never_chooses_a_checkpoint_by_leaving_items_out(
    make_config, recorder, stop_after, tmp_path
):
    """The second evaluation is better on one item and bad on the other: the first stays the best."""
    config = make_config(
        schedule={"length": "4 updates"}, ema={"enabled": False},
        validation={"every": "2 updates", "at_start": False}, optimizer={"lr": 1e-9},
    )  # fmt: skip
    recipe = SeparationRecipe(config)
    judged = []
    plain = recipe.evaluate

    def evaluate(model, device):
        judged.append(1)
        if len(judged) == 1:
            return plain(model, device)

        def bad(mix_BCT):
            # Better than the untrained model; but of the last item one sample is missing.
            est_BSCT = mix_BCT.unsqueeze(1).clone()
            est_BSCT[-1, 0, 0, 0] = math.nan
            return est_BSCT

        return plain(bad, device)

    recipe.evaluate = evaluate
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    first, second = recorder.of(Evaluated)
    assert (first.num_bad, second.num_bad) == (0, 1)
    assert second.metrics["si_sdr"] < first.metrics["si_sdr"] - 20
    (notice,) = [event for event in recorder.of(Noticed) if event.kind == "non-finite-items"]
    assert notice.level == "warning"
    assert second.items["si_sdr"][0] > first.items["si_sdr"].mean()
    assert "1 of 2; they are not left out but count with the worst value" in notice.message
    manifests = {place.name for place in (tmp_path / "checkpoints").glob("best-*")}
    assert manifests == {"best-si_sdr", "best-val_loss"}
    for name in manifests:
        assert read_manifest(tmp_path / "checkpoints" / name).updates == 2


def test_values_of_a_recipe_from_elsewhere_follow_the_same_rule():
    found = evaluation_of(
        {"val_loss": np.array([1.0, math.nan, 3.0]), "own": np.array([1.0, 2, 3])}
    )
    assert found.metrics == {"val_loss": math.inf, "own": 2.0}
    assert found.items[NON_FINITE].tolist() == [0, 1, 0]
    assert (found.num_items, found.num_excluded) == (3, 0)
    absent = {"own": np.array([True, True, True])}
    none = evaluation_of({"own": np.full(3, math.nan)}, absent=absent)
    assert math.isnan(none.metrics["own"])
    assert none.num_excluded == 3
    assert NON_FINITE not in none.items


def test_worst_value_is_never_better_than_a_real_one():
    for metric in BUILT_IN:
        if metric.of_input:
            continue
        # PESQ and DNSMOS begin at 1.
        of_opinion = metric.name.startswith(("pesq", "dnsmos"))
        ordinary = 20.0 if metric.unit == "dB" else 2.0 if of_opinion else 0.5
        assert not metric.is_better(metric.of_bad_item, ordinary), metric.name
    assert metric_of("loss_of_a_package").of_bad_item == -math.inf


def test_utterance_with_frames_that_are_not_finite_has_no_word_right(speech_config, monkeypatch):
    recipe = open_recipe(speech_config())
    model = recipe.build_model().eval()
    with torch.no_grad():
        good = recipe.evaluate(model, CPU)
        read = recipe._valid_frames
        bad = {1: torch.full_like(read(1), math.nan)}
        monkeypatch.setattr(recipe, "_valid_frames", lambda row: bad.get(row, read(row)))
        found = recipe.evaluate(model, CPU)
    assert NON_FINITE not in good.items
    assert found.items[NON_FINITE].tolist() == [0, 1, 0, 0]
    assert found.metrics["val_loss"] == math.inf
    lengths = [len(utterance.text.split()) for utterance in recipe._dataset("valid").utterances]
    assert found.items["wer"][1] == pytest.approx(lengths[1] / np.mean(lengths[:4]))
    assert found.metrics["wer"] == pytest.approx(found.items["wer"].mean())
    others = [0, 2, 3]
    assert found.items["wer"][others] == pytest.approx(good.items["wer"][others])
