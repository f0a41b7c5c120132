"""The codec in the trainer: resumed exactly, what it learns, and how a collapse is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from engine.events import Evaluated, Noticed
from engine.recipes.base import CurvePoints, Opening
from engine.recipes.codec.code_counts import LASTS_UPDATES, find_collapse
from engine.recipes.registry import open_recipe
from engine.recipes.trained import load_trained
from engine.training.trainer import Trainer
from models.codec.mel_codec import MelCodec


def fit(config: Any, folder: Any, recorder: Any, *, control: Any) -> None:
    recipe = open_recipe(config, opening=Opening(folder))
    Trainer(config, recipe, folder=folder, observers=[recorder], control=control).fit()


@pytest.mark.parametrize("stop_at", [3, 10])
@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_stopped_and_resumed_is_bit_identical(
    make: Any, tmp_path: Any, new_recorder: Any, stop_after: Any, checkpoint_tensors: Any,
    quantiser: str, stop_at: int,
) -> None:  # fmt: skip
    """Weights, moments, statistics of the bands, codebook and curves; codes are revived in update 10."""
    config = make(model={"quantiser": quantiser, "revive_below": 0.5})
    whole, parts = new_recorder(), new_recorder()
    fit(config, tmp_path / "whole", whole, control=stop_after())
    # Asked once before the stage, too.
    fit(config, tmp_path / "parts", parts, control=stop_after(stop_at))
    fit(config, tmp_path / "parts", parts, control=stop_after())
    for name in ("loss", "reconstruction", "codebook_perplexity", "code_usage"):
        assert parts.curve(name) == whole.curve(name), name
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000012")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert any(name.endswith("mel-statistics.mean") for name in one)
    assert any(name.endswith("quantiser.sum_KD") for name in one) == (quantiser == "vq")
    ends = [recorder.of(Evaluated)[-1].metrics for recorder in (whole, parts)]
    assert ends[0] == ends[1]
    (about,) = (e.message for e in whole.of(Noticed) if "mel bands" in e.message)
    assert "4 frames per code: 20.8 codes of" in about


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_it_learns_and_a_trained_codec_is_complete_in_its_checkpoint(
    make: Any, tmp_path: Any, recorder: Any, stop_after: Any, quantiser: str
) -> None:
    config = make(
        model={"quantiser": quantiser},
        schedule={"length": "150 updates"}, validation={"every": "150 updates"},
        checkpoint={"every": "150 updates"},
    )  # fmt: skip
    fit(config, tmp_path, recorder, control=stop_after())
    first, last = (event.metrics for event in recorder.of(Evaluated))
    assert last["val_reconstruction"] < 0.75 * first["val_reconstruction"]
    assert last["mel_distance"] < 0.75 * first["mel_distance"]
    recipe, model = load_trained(tmp_path / "checkpoints" / "last-000150")
    assert isinstance(model, MelCodec)
    with torch.no_grad():
        found = recipe.evaluate(model, torch.device("cpu"))
    assert found.metrics["mel_distance"] == pytest.approx(last["mel_distance"], rel=1e-6)


def points(usage: Any) -> CurvePoints:
    values = np.asarray(usage, dtype=np.float64)
    return CurvePoints(np.arange(1, len(values) + 1), {"code_usage": values})


def test_a_collapse_is_found_when_it_lasts_and_the_text_says_what_to_do() -> None:
    low, fine = [0.02] * (LASTS_UPDATES + 1), [0.4] * 500
    assert find_collapse(points(fine), quantiser="vq") == []
    assert find_collapse(points([*low[1:], *fine, *low[1:]]), quantiser="vq") == []
    (found,) = find_collapse(points([*fine, *low]), quantiser="vq")
    assert found.condition == "codes-collapsed"
    assert not found.ends
    assert "collapsed by update 701" in found.text
    assert "(now 2.0%)" in found.text
    assert "model.kmeans_start = true" in found.text
    (of_fsq,) = find_collapse(points(low), quantiser="fsq")
    assert "fewer model.levels" in of_fsq.text
    assert "kmeans" not in of_fsq.text
