"""The memory law holds for encoders: clones and kept frames, attention over all frames, distractors.

Counted is what a step keeps for its backward pass, which is most of the peak; unlike a peak it is the
same in every run.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.config.loading import load_config
from engine.recipes.base import KeepsState, StepContext
from engine.recipes.registry import open_recipe
from engine.tuning.law import Probe, fit_law, quadratic_length

LENGTHS_S = (1.0, 3.0, 6.0)
ENCODER = {
    "conv_channels": [8, 8, 8, 8, 8, 8, 8], "layers": 2, "dim": 64, "heads": 4, "ffn": 128,
    "layer_drop": 0.0,
}  # fmt: skip

POSITION = {"pos_conv_kernel": 16, "pos_conv_groups": 4}


def kept_by(
    kind: str, tmp_path: Path, *, model: dict[str, Any], loss: dict[str, Any]
) -> Callable[[int, float], int]:
    """Return what counts the bytes that a step of noise keeps, by items and seconds.

    A manifest with durations needs no files.
    """
    rows = [{"path": "a.wav", "duration": seconds} for seconds in (1.0, 6.0)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = load_config(
        {
            "data": {
                "kind": "unlabelled", "train": str(tmp_path / "m.jsonl"),
                "valid": str(tmp_path / "m.jsonl"), "min_s": 1.0, "max_s": 6.0, **data_of(model),
            },
            "model": {"kind": kind, **ENCODER, **model},
            "loss": {"kind": kind, **loss},
        }
    )  # fmt: skip
    recipe = open_recipe(config)
    torch.manual_seed(0)
    network = recipe.build_model()
    if isinstance(recipe, KeepsState):
        recipe.start_state(network, torch.device("cpu"))

    def kept(count: int, length_s: float) -> int:
        storages: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        batch = recipe.worst_batch(count, (length_s,))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            recipe.step(network, batch, context=StepContext(update=1))
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())

    return kept


def data_of(model: dict[str, Any]) -> dict[str, Any]:
    return {"normalize_waveform": model.get("extractor_norm", "layer_norm") == "layer_norm"}


@pytest.mark.parametrize(
    ("kind", "model", "loss", "error"),
    [
        # How many frames are masked is drawn, and with them distractors.
        ("hubert", {**POSITION, "extractor_norm": "group_norm"}, {}, 0.01),
        ("wav2vec2", {**POSITION, "extractor_norm": "layer_norm"}, {}, 0.03),
        ("data2vec2", {"decoder_dim": 32}, {"clones": 8, "average_layers": 2}, 0.01),
    ],
)
def test_six_probes_predict_the_memory_of_other_batches(
    kind: str, model: dict[str, Any], loss: dict[str, Any], error: float, tmp_path: Path
) -> None:
    kept = kept_by(kind, tmp_path, model=model, loss=loss)
    law = fit_law([Probe(n, s, kept(n, s)) for s in LENGTHS_S for n in (1, 2)])
    for count, length_s in ((5, 1.5), (3, 4.4), (7, 2.2), (4, 6.0)):
        assert law.peak(count, length_s) == pytest.approx(kept(count, length_s), rel=error)


def test_each_clone_takes_the_memory_of_its_kept_frames(tmp_path: Path) -> None:
    def law_of(clones: int) -> Any:
        loss = {"clones": clones, "average_layers": 2}
        kept = kept_by("data2vec2", tmp_path, model={"decoder_dim": 32}, loss=loss)
        return fit_law([Probe(n, s, kept(n, s)) for s in LENGTHS_S for n in (1, 2)])

    per_item = [law_of(clones).per_item(6.0) for clones in (2, 4, 8)]
    each = (per_item[1] - per_item[0]) / 2
    assert each > 0.05 * per_item[0]
    assert per_item[2] - per_item[1] == pytest.approx(4 * each, rel=0.02)


def test_attention_over_long_items_makes_the_law_quadratic(tmp_path: Path) -> None:
    wide = {"heads": 16, "ffn": 64}
    kept = kept_by(
        "data2vec2",
        tmp_path,
        model={"decoder_dim": 32, **wide},
        loss={"clones": 4, "average_layers": 2},
    )
    law = fit_law([Probe(n, s, kept(n, s)) for s in LENGTHS_S for n in (1, 2)])
    assert quadratic_length(law.per_item, 6.0) is not None
