"""A run that a judge hears: it waits for the judge, is listed by what was heard, and is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from engine.config.errors import ConfigError, DataError
from engine.config.loading import load_config
from jobs import submit
from jobs.store.reader import StoreReader
from jobs.submit import NewRun
from presets.catalogue import Catalogue
from presets.merging import merge


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three recordings with texts, as a manifest."""
    rows = []
    for number, text in enumerate(("one", "two", "three")):
        wave = 0.1 * np.random.default_rng(number).normal(size=8_000)
        soundfile.write(tmp_path / f"{number}.wav", wave, 8_000)
        rows.append(json.dumps({"path": f"{number}.wav", "text": text}))
    (tmp_path / "speech.jsonl").write_text("\n".join(rows))
    return tmp_path / "speech.jsonl"


def run_of(preset: str, speech: Path, name: str, **changes: Any) -> NewRun:
    data = {"train": str(speech), "valid": str(speech)}
    values = merge(Catalogue().read(preset), {"data": data, **changes})
    return NewRun(load_config(values), name=name)


def test_it_waits_for_the_judge_and_is_listed_by_what_that_hears(home: Any, speech: Path) -> None:
    ears = run_of("transducer/digits", speech, "ears")
    heard = run_of("codec/small", speech, "heard", validation={"judge": "ears@wer"})
    alone = run_of("codec/small", speech, "alone")
    ids = submit.enqueue_all(home, [heard, alone, ears])
    with StoreReader(home.store) as reader:
        runs = [reader.run(run) for run in ids]
    assert [run.metric for run in runs] == ["judged_cer", "mel_distance", "wer"]
    assert [run.waiting for run in runs] == ["waiting for ears (queued)", "", ""]


@pytest.mark.parametrize(
    ("judge", "match"),
    [
        ("codec", r"^validation.judge: run codec trains codec, which transcribes nothing; name a run of a"),
        ("nobody", r"^validation.judge: no run 'nobody'"),
        ("ears@si_sdr", r"^validation.judge: run ears keeps no checkpoint 'si_sdr'"),
    ],
)  # fmt: skip
def test_what_is_no_judge_is_refused_and_nothing_is_queued(
    home: Any, speech: Path, judge: str, match: str
) -> None:
    others = [run_of("transducer/digits", speech, "ears"), run_of("codec/small", speech, "codec")]
    submit.enqueue_all(home, others)
    with pytest.raises(ConfigError, match=match):
        submit.enqueue_all(
            home, [run_of("codec/small", speech, "heard", validation={"judge": judge})]
        )
    with StoreReader(home.store) as reader:
        assert sorted(run.name for run in reader.runs()) == ["codec", "ears"]


def test_recordings_without_texts_are_refused(home: Any, speech: Path) -> None:
    (speech.parent / "bare.jsonl").write_text('{"path": "0.wav"}\n{"path": "1.wav", "text": ""}\n')
    run = run_of("codec/small", speech, "heard", validation={"judge": "ears"})
    bare = run.config.data.model_copy(update={"valid": speech.parent / "bare.jsonl"})
    run = NewRun(run.config.model_copy(update={"data": bare}), name="heard")
    with pytest.raises(
        DataError, match=r"^validation.judge: ears compares .*bare.jsonl has none; set"
    ):
        submit.enqueue_all(home, [run])
    assert not home.store.exists()
