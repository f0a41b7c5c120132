"""A voice with a judge, and a voice that learns to speak: the language of tones, by a codec that was trained on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.config.loading import load_config
from engine.events import Evaluated
from engine.recipes.base import Opening
from engine.recipes.judge import run_judge
from engine.recipes.judge.judge import Heard
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer
from tests.engine.recipes.voice.fakes.updates import opened

CPU = torch.device("cpu")


class Ears:
    """Hears all texts but the last of each sample."""

    hash = "ears"

    def __init__(self) -> None:
        self.waves: list[list[np.ndarray]] = []

    def score(self, waves: Any, texts: Any, *, rate_hz: int) -> Heard:
        assert rate_hz == 8_000
        self.waves.append(list(waves))
        return Heard.of(texts, [*texts[:-1], ""])

    def hear(self, waves: Any, rate_hz: int) -> list[str]:
        self.of_clips = list(waves)
        return ["abc" for _ in self.of_clips]


def test_a_judge_hears_recordings_round_trips_and_what_was_spoken(
    make: Any, codec: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Only items that are not too long to be spoken are heard: all but the longest."""
    ears = Ears()
    monkeypatch.setattr(run_judge, "load_judge", lambda path, device: ears)
    recipe, _ = opened(make(), tmp_path, codec=codec)
    durations = np.sort(recipe._dataset("valid").durations_s())
    config = make(
        data={"max_s": float(durations[-2:].mean())},
        validation={"judge": "ears", "judge_items": 4, "spoken": 1, "clips": 1},
    )
    recipe, model = opened(config, tmp_path, **{"codec": codec, "validation.judge": tmp_path})
    assert len(recipe._dataset("valid")) == 5
    with torch.no_grad():
        found = recipe.evaluate(model.eval(), CPU)
        again = recipe.evaluate(model.eval(), CPU)
    real, bound, said, said_again = ears.waves
    rows = list(recipe._judged_rows.values())
    assert len(set(rows)) == 4
    for row, wave, round_trip in zip(rows, real, bound, strict=True):
        np.testing.assert_allclose(wave, recipe._dataset("valid").audio(row), atol=1e-6)
        codes = torch.from_numpy(recipe._codes.codes("valid", row))
        assert np.array_equal(round_trip, recipe._codes.codec.audio(codes[None])[0].numpy())
    assert [len(one) for one in said] != [len(one) for one in bound]
    assert all(np.array_equal(one, two) for one, two in zip(said, said_again, strict=True))
    assert found.metrics == again.metrics
    letters = [len(recipe._dataset("valid").utterances[row].text) for row in rows]
    assert found.metrics["judged_cer"] == pytest.approx(letters[-1] / sum(letters))
    # What is spoken for the judge counts for the lengths, too.
    assert np.isfinite(found.items["length_ratio"]).sum() == len({0, *rows})
    # The clips are heard as they are kept.
    (clip,) = found.clips
    assert clip.item == 0
    assert dict(clip.texts) == {
        "input": recipe._dataset("valid").utterances[0].text, "estimate": "abc",
    }  # fmt: skip
    np.testing.assert_array_equal(ears.of_clips[0], clip.signals["estimate"][0])


def test_clips_of_one_name_length_and_text_are_heard_apart(
    make: Any, codec: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """As folders of speakers have them whose recordings were cut to one length."""
    ears, rows = Ears(), []
    monkeypatch.setattr(run_judge, "load_judge", lambda path, device: ears)
    for number, speaker in enumerate(("anna", "theo")):
        (tmp_path / speaker).mkdir()
        wave = np.sin(np.arange(8_000) * (0.3 + 0.4 * number))
        soundfile.write(tmp_path / speaker / "0.wav", 0.3 * wave, 8_000)
        rows.append(json.dumps({"path": f"{speaker}/0.wav", "text": "abc", "speaker": speaker}))
    (tmp_path / "valid.jsonl").write_text("\n".join(rows))
    config = make(
        data={"valid": str(tmp_path / "valid.jsonl")},
        validation={"judge": "ears", "judge_items": 2, "spoken": 1, "clips": 0},
    )
    recipe, model = opened(config, tmp_path, **{"codec": codec, "validation.judge": tmp_path})
    with torch.no_grad():
        recipe.evaluate(model.eval(), CPU)
    real, bound, _ = ears.waves
    wanted = [torch.from_numpy(recipe._codes.codes("valid", row)) for row in (0, 1)]
    trips = [recipe._codes.codec.audio(codes[None])[0].numpy() for codes in wanted]
    order = [0, 1] if np.allclose(real[0], recipe._dataset("valid").audio(0), atol=1e-4) else [1, 0]
    assert not np.array_equal(*trips)
    assert all(np.array_equal(trips[row], wave) for row, wave in zip(order, bound, strict=True))


def fit(config: Any, folder: Path, recorder: Any, *, control: Any, needs: Any) -> None:
    recipe = open_recipe(config, opening=Opening(folder, needs))
    Trainer(config, recipe, folder=folder, observers=[recorder], control=control).fit()


@pytest.mark.slow
@pytest.mark.long
def test_it_learns_to_speak(
    make: Any, spoken: Any, judge: Any, tmp_path: Path, recorder: Any, stop_after: Any,
    monkeypatch: Any,
) -> None:  # fmt: skip
    """Texts that it has never heard, by the ear of a judge; a codec is trained first, on the same recordings."""
    monkeypatch.setattr(run_judge, "load_judge", lambda path, device: judge)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcde"), size=rng.integers(2, 7))) for _ in range(160)]
    train, valid = spoken(texts[20:], name="train"), spoken(texts[:20])
    data = {"train": str(train), "valid": str(valid), "rate_hz": 8_000, "min_s": 0.2, "max_s": 1.0}
    common: dict[str, Any] = {
        "ema": {"enabled": False}, "precision": {"device": "cpu", "threads": 1},
        "checkpoint": {"every": "1000 updates", "best": []},
    }  # fmt: skip
    codec = load_config(
        {
            **common, "data": {"kind": "unlabelled", **data},
            "model": {
                "kind": "mel_codec", "mel_bands": 40, "channels": [48], "strides": [2],
                "residual_blocks": 1, "levels": [8, 5, 5],
            },
            "loss": {"kind": "mel_codec"}, "batch": {"items": 16}, "optimizer": {"lr": 5e-3},
            "schedule": {"length": "300 updates"}, "validation": {"every": "300 updates", "at_start": False},
        }
    )  # fmt: skip
    fit(codec, tmp_path / "codec", recorder, control=stop_after(), needs={})
    checkpoint = tmp_path / "codec" / "checkpoints" / "last-000300"
    config = make(
        **common, codec=str(checkpoint), data={**data, "references": 1},
        model={"layers": 3, "dim": 96, "heads": 4}, loss={"text_loss_weight": 0.1},
        batch={"items": 16, "micro_batch": 16},
        optimizer={"lr": 3e-3}, schedule={"length": "320 updates", "kind": "cosine"},
        validation={"every": "320 updates", "judge": "ears", "judge_items": 0, "batch_items": 20},
    )  # fmt: skip
    needs = {"codec": checkpoint, "validation.judge": tmp_path}
    fit(config, tmp_path / "voice", recorder, control=stop_after(), needs=needs)
    first, last = (event.metrics for event in recorder.of(Evaluated)[-2:])
    assert last["judged_cer_real"] == 0.0
    assert first["judged_cer"] > 0.6
    assert last["judged_cer"] < last["judged_cer_bound"] + 0.15
    assert last["never_stops"] == 0
    assert last["length_ratio"] == pytest.approx(1.0, abs=0.1)
