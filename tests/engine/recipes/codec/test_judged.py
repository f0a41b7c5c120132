"""A codec with a judge: its round trip is heard in every evaluation, and decides which checkpoint is the best."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.checkpoints.find import find_checkpoint
from engine.config.errors import ConfigError, DataError
from engine.config.loading import load_config
from engine.data.checks.judged import require_texts
from engine.evaluation.result import Evaluation
from engine.events import Evaluated
from engine.metrics.items_keys import key_for
from engine.recipes.base import Opening
from engine.recipes.judge import run_judge
from engine.recipes.judge.run_judge import RunJudge
from engine.recipes.judge_fit import why_no_judge
from engine.recipes.registry import open_recipe
from engine.recipes.specs import spec_of
from engine.training.trainer import Trainer
from tests.engine.recipes.tone_speech import say

CPU = torch.device("cpu")
TEXTS = ["abab", "cdcd ee", "ea", "bbdd", "ac ac"]


def test_the_round_trip_is_heard_and_the_best_by_it_is_kept(
    make: Any, spoken: Any, judge: Any, tmp_path: Path, recorder: Any, stop_after: Any,
    monkeypatch: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr(run_judge, "load_judge", lambda path, device: judge)
    train, valid = spoken(TEXTS * 3, name="train"), spoken(TEXTS)
    config = make(
        data={"train": str(train), "valid": str(valid), "min_s": 0.2},
        schedule={"length": "120 updates"},
        optimizer={"lr": 5e-3},
        validation={"every": "120 updates", "judge": "ears"},
        checkpoint={"every": "120 updates", "best": ["judged_cer", "mel_distance"]},
    )
    opening = Opening(tmp_path / "run", {"validation.judge": tmp_path})
    recipe = open_recipe(config, opening=opening)
    Trainer(
        config, recipe, folder=tmp_path / "run", observers=[recorder], control=stop_after()
    ).fit()
    first, last = (event.metrics for event in recorder.of(Evaluated))
    # Tones survive Griffin-Lim; through codes they do once these have been learnt.
    assert first["judged_cer_real"] == last["judged_cer_real"] == 0.0
    assert last["judged_cer_bound"] <= 0.05
    assert first["judged_cer"] > 0.3
    assert last["judged_cer"] < first["judged_cer"]
    assert last["judged_cer"] >= last["judged_cer_bound"]
    assert last["judged_wer"] <= first["judged_wer"]
    assert find_checkpoint(tmp_path / "run").name == "best-judged_cer"


@pytest.mark.parametrize("judge_items", [0, 3])
def test_so_many_texts_are_heard(make: Any, spoken: Any, judge_items: int) -> None:
    valid = spoken(TEXTS)
    config = make(
        data={"valid": str(valid)}, validation={"judge": "ears", "judge_items": judge_items}
    )
    recipe = open_recipe(config, opening=Opening())
    assert len(recipe._judge.sample) == (judge_items or len(TEXTS))  # type: ignore[attr-defined]


def test_a_recording_too_short_for_a_code_is_heard_as_nothing(
    make: Any, spoken: Any, judge: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(run_judge, "load_judge", lambda path, device: judge)
    valid = spoken(["ab", "cd"])
    rows = valid.read_text().splitlines()
    rows.append(json.dumps({"path": "valid-00.wav", "duration": 0.02, "text": "a"}))
    rows.append(json.dumps({"path": "valid-00.wav", "duration": 0.05, "text": "a"}))
    valid.write_text("\n".join(rows))
    config = make(data={"valid": str(valid), "min_s": 0.15}, validation={"judge": "ears"})
    recipe = open_recipe(config, opening=Opening(None, {"validation.judge": Path("ears")}))
    model = recipe.build_model().eval()
    with torch.no_grad():
        found = recipe.evaluate(model, CPU)
    assert len(found.items["judged_cer"]) == 4
    # Two of six letters are not there to be heard.
    assert found.metrics["judged_cer_bound"] == pytest.approx(2 / 6)


@pytest.fixture
def judged(make: Any, spoken: Any) -> Any:
    manifest = spoken(["ab", "abcd", "ee dd"])
    return make(data={"valid": str(manifest)}, validation={"judge": "ears", "judge_items": 2})


def test_an_evaluation_gets_what_was_heard_and_what_could_have_been(
    judge: Any, judged: Any, monkeypatch: Any
) -> None:
    opened: list[Any] = []

    def load(path: Path, device: torch.device) -> Any:
        opened.append(path)
        return judge

    monkeypatch.setattr(run_judge, "load_judge", load)
    ears = RunJudge(judged, Opening(None, {"validation.judge": Path("ears")}))
    assert len(ears.sample) == 2
    bounds: list[str] = []

    def could_say(item: Any) -> np.ndarray:
        bounds.append(item.text)
        return say(item.text[:-1] + "a", 8_000)

    def says(item: Any) -> np.ndarray:
        return say(item.text[:-2] + "cc", 8_000)

    before = Evaluation({"val_loss": 1.0}, 3, 0, items={"val_loss": np.ones(3)}, items_key="abc")
    for _ in range(2):
        found = ears.added(before, says, could_say=could_say, device=CPU)
    texts = [item.text for item in ears.sample]
    total = sum(map(len, texts))
    wrong = sum(a != b for text in texts for a, b in zip(text, text[:-2] + "cc", strict=True))
    assert found.metrics["val_loss"] == 1.0
    assert found.metrics["judged_cer"] == pytest.approx(wrong / total)
    assert found.metrics["judged_wer"] > 0
    assert found.metrics["judged_cer_real"] == 0.0
    assert 0 < found.metrics["judged_cer_bound"] <= 2 / total
    # Judged once in a run, and so is the judge opened.
    assert bounds == texts
    assert opened == [Path("ears")]
    assert found.items["judged_cer"].mean() == pytest.approx(found.metrics["judged_cer"])
    key = key_for(found.items_key, "judged_cer")
    assert key == key_for(found.items_key, "judged_wer")
    assert key_for(found.items_key, "val_loss") == "abc" != key
    ears._judge.hash = "other"
    other = ears.added(before, says, could_say=could_say, device=CPU)
    assert key_for(other.items_key, "judged_cer") != key
    assert len(pickle.dumps(ears)) < 20_000


def test_without_a_judge_nothing_changes(make: Any, judged: Any) -> None:
    before = Evaluation({"val_loss": 1.0}, 3, 0, items_key="abc")
    for config in (
        make(),
        judged,
    ):  # a trained model is opened without the runs that its run needed
        ears = RunJudge(config, Opening())
        assert ears.added(before, None, could_say=None, device=CPU) is before  # type: ignore[arg-type]


def test_runs_are_listed_by_the_judge_where_there_is_one(make: Any, judged: Any) -> None:
    assert spec_of("codec").listed_by(make()) == "mel_distance"
    assert spec_of("codec").listed_by(judged) == "judged_cer"
    assert spec_of("codec").headline == "mel_distance"


def test_what_can_not_be_judged_is_refused(
    make: Any, judged: Any, make_config: Any, audio: Path
) -> None:
    with pytest.raises(ConfigError, match="makes no speech for it to hear; remove this setting"):
        load_config({**make_config().to_dict(), "validation": {"judge": "ears"}})
    require_texts(make())
    require_texts(judged)
    silent = make(validation={"judge": "ears"})
    with pytest.raises(
        DataError, match=r"validation.judge: ears compares what it hears with texts, and"
    ):
        require_texts(silent)


def test_another_run_must_be_a_recogniser_at_a_rate_that_can_be_had(
    make: Any, speech_config: Any
) -> None:
    codec, speech = make().to_dict(), speech_config().to_dict()
    assert why_no_judge(speech, key="validation.judge", rate_hz=22_050) == ""
    assert why_no_judge(codec, key="init_from", rate_hz=8_000) == ""
    why = why_no_judge(codec, key="validation.judge", rate_hz=8_000)
    assert why.startswith(
        "trains codec, which transcribes nothing; name a run of a speech recogniser"
    )
    why = why_no_judge(speech, key="validation.judge", rate_hz=22_051)
    assert why.startswith("hears at 8000 Hz: can't resample from 22051 to 8000 Hz")
