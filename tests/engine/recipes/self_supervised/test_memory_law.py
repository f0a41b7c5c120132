"""The memory law holds for encoders: clones and kept frames, attention over all frames, distractors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config.loading import load_config
from engine.recipes.registry import open_recipe
from engine.tuning.law import quadratic_length
from tests.memory import Kept, assert_six_probes_predict_others, kept_by, law_of

ENCODER = {
    "conv_channels": [8, 8, 8, 8, 8, 8, 8], "layers": 2, "dim": 64, "heads": 4, "ffn": 128,
    "layer_drop": 0.0,
}  # fmt: skip

POSITION = {"pos_conv_kernel": 16, "pos_conv_groups": 4}


def kept_by_step(kind: str, tmp_path: Path, *, model: dict[str, Any], loss: dict[str, Any]) -> Kept:
    """Return what counts the bytes that a step of a small encoder keeps.

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
    return kept_by(open_recipe(config))


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
    kept = kept_by_step(kind, tmp_path, model=model, loss=loss)
    assert_six_probes_predict_others(kept, error=error)


def test_each_clone_takes_the_memory_of_its_kept_frames(tmp_path: Path) -> None:
    def kept(clones: int) -> Kept:
        loss = {"clones": clones, "average_layers": 2}
        return kept_by_step("data2vec2", tmp_path, model={"decoder_dim": 32}, loss=loss)

    per_item = [law_of(kept(clones)).per_item(6.0) for clones in (2, 4, 8)]
    each = (per_item[1] - per_item[0]) / 2
    assert each > 0.05 * per_item[0]
    assert per_item[2] - per_item[1] == pytest.approx(4 * each, rel=0.02)


def test_attention_over_long_items_makes_the_law_quadratic(tmp_path: Path) -> None:
    wide = {"heads": 16, "ffn": 64}
    kept = kept_by_step(
        "data2vec2",
        tmp_path,
        model={"decoder_dim": 32, **wide},
        loss={"clones": 4, "average_layers": 2},
    )
    assert quadratic_length(law_of(kept).per_item, 6.0) is not None
