"""Codes of a data set: made once, the same after any stop, stale where files changed, taken over where they are."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import MODEL, write_checkpoint
from engine.checkpoints.recipe_files import RECIPE, RECIPE_VALUES, RecipeParts
from engine.config.errors import ConfigError
from engine.events import Noticed, StageProgressed
from engine.recipes.base import Opening
from engine.recipes.codec import item_codes
from engine.recipes.codec.item_codes import ItemCodes
from engine.recipes.codec.trained_codec import TrainedCodec, load_codec
from models.codec.mel_codec import MelCodec

FAKES = Path(__file__).parent / "fakes" / "make_codes.py"
spec = importlib.util.spec_from_file_location("make_codes", FAKES)
assert spec is not None
fakes = importlib.util.module_from_spec(spec)
assert spec.loader is not None
spec.loader.exec_module(fakes)
sys.modules["make_codes"] = fakes
make, Config = fakes.make, fakes.Config

ALL = [("train", k) for k in range(16)] + [("valid", k) for k in range(5)]


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: Any) -> None:
    monkeypatch.setattr(item_codes, "_STEP_S", 0.1)


def save_codec(folder: Path, config: Any, *, seed: int = 0) -> Path:
    """Write the checkpoint of a codec whose weights are drawn, as if it had been trained."""
    torch.manual_seed(seed)
    network = MelCodec(config.model)
    network.normalise_by(torch.full((20,), -5.0), torch.full((20,), 2.0))
    about = {"counters": {"updates": 1}, "config": config.to_dict(), "plan": ""}
    write_checkpoint(
        folder, about, tensors={MODEL: network.state_dict()}, documents={"state.json": {}}
    )
    return folder


@pytest.fixture
def codec(make: Any, tmp_path: Path) -> Path:
    return save_codec(tmp_path / "codec", make())


@pytest.fixture(params=["folders", "texts"])
def data(request: Any, audio: Path, tmp_path: Path) -> Path:
    """The same files as audio alone, and as utterances with texts."""
    here = tmp_path / "data"
    shutil.copytree(audio, here)
    if request.param == "texts":
        for split in ("train", "valid"):
            rows = [
                json.dumps({"path": f"{split}/{path.name}", "text": "one"})
                for path in sorted((here / split).glob("*.wav"))
            ]
            (here / f"{split}.jsonl").write_text("\n".join(rows))
    return here


def codes_of(recipe: Any) -> dict[tuple[str, int], list[int]]:
    return {(split, k): recipe.codes.codes(split, k).tolist() for split, k in ALL}


def messages(events: Any) -> list[str]:
    return [event.message for event in events if isinstance(event, Noticed)]


def test_codes_are_those_of_whole_items_and_their_number_is_known(
    codec: Path, data: Path, tmp_path: Path
) -> None:
    reason, recipe, stages, events = make(tmp_path / "run", data, codec=codec)
    assert reason is None
    alone = load_codec(codec)
    for split, k in ALL:
        wave_T = Config(data).open(split).audio(k)
        (wanted_N,) = alone.encode(torch.from_numpy(wave_T)[None]).tolist()
        assert recipe.codes.codes(split, k).tolist() == wanted_N
        assert recipe.codes.num_codes(split)[k] == len(wanted_N) == len(wave_T) // 384
    found = recipe.codes.codes("train", 3, start=2, count=4)
    assert found.dtype == np.int64
    assert found.tolist() == recipe.codes.codes("train", 3).tolist()[2:6]
    with pytest.raises(ValueError, match=r"has \d+ codes, but codes 0 to 500 were asked for"):
        recipe.codes.codes("train", 3, count=500)
    sizes = [p.stat().st_size for p in (tmp_path / "run" / "codes").rglob("labels.u16")]
    assert sum(sizes) == 2 * sum(map(len, codes_of(recipe).values()))
    texts = messages(events)
    assert f"codec {alone.facts.hash} ({codec}): 20.8 codes of 75 per second" in texts
    assert any("codes of data.train: " in text and "perplexity" in text for text in texts)
    counted = stages.results["codes"].tensors["count"]
    every = np.concatenate([codes_of(recipe)["train", k] for k in range(16)])
    assert counted.tolist() == np.bincount(every, minlength=75).tolist()
    names = [event.name for event in events if isinstance(event, StageProgressed)]
    assert list(dict.fromkeys(names)) == ["codec", "codes"]


def test_a_reader_process_reads_codes_without_the_network(
    codec: Path, data: Path, tmp_path: Path
) -> None:
    _, recipe, stages, _ = make(tmp_path / "run", data, codec=codec)
    config = Config(data)
    codes = ItemCodes(config, Opening(tmp_path / "run"), items=config.open)
    codes.use("codec", stages.results["codec"])
    assert codes.codes("valid", 2).tolist() == recipe.codes.codes("valid", 2).tolist()
    sent = pickle.dumps(codes)
    weights = sum(t.nbytes for t in stages.results["codec"].tensors.values())
    assert len(sent) < weights / 2
    assert pickle.loads(sent).codes("valid", 2).tolist() == recipe.codes.codes("valid", 2).tolist()


@pytest.mark.parametrize("every", [1, 4])
def test_stopped_again_and_again_gives_the_same_codes_and_reads_nothing_twice(
    every: int, codec: Path, data: Path, tmp_path: Path
) -> None:
    _, whole, _, _ = make(tmp_path / "whole", data, codec=codec)
    starts, read = 0, []
    while True:
        # Two questions of the stage `codec`, which has no steps.
        reason, recipe, _, _ = make(
            tmp_path / "elsewhere" / "run", data, codec=codec, stop_after=every + 1
        )
        read += recipe.read
        starts += 1
        if reason is None:
            break
    assert starts > 2
    assert codes_of(recipe) == codes_of(whole)
    assert sorted(read) == sorted(ALL)


def test_killed_in_the_middle_gives_the_same_codes(codec: Path, data: Path, tmp_path: Path) -> None:
    _, whole, _, _ = make(tmp_path / "whole", data, codec=codec)
    run = tmp_path / "elsewhere" / "run"
    command = [sys.executable, str(FAKES), str(run), str(codec), str(data), "9"]
    repository = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert died.returncode == -9, died.stderr
    reason, recipe, _, _ = make(run, data, codec=codec)
    assert reason is None
    assert len(recipe.read) < len(ALL)
    assert codes_of(recipe) == codes_of(whole)


def test_what_has_changed_is_coded_again_and_said(codec: Path, data: Path, tmp_path: Path) -> None:
    _, recipe, _, _ = make(tmp_path / "run", data, codec=codec)
    before = codes_of(recipe)
    path = data / "valid" / "02.wav"
    samples_T, rate = soundfile.read(path)
    soundfile.write(path, samples_T[::-1] * 0.3, rate)
    _, recipe, _, events = make(tmp_path / "run", data, codec=codec)
    assert recipe.read == [("valid", 2)]
    assert any(
        "the codes of 1 of 5 items of data.valid are stale, since their files have changed (02.wav)"
        in text
        for text in messages(events)
    )
    after = codes_of(recipe)
    assert {key for key in before if before[key] != after[key]} == {("valid", 2)}


def test_another_run_takes_codes_over_and_another_codec_makes_its_own(
    codec: Path, data: Path, tmp_path: Path, request: Any
) -> None:
    _, first, _, _ = make(tmp_path / "runs" / "1", data, codec=codec)
    _, second, _, _ = make(tmp_path / "runs" / "2", data, codec=codec)
    assert second.read == []
    assert codes_of(second) == codes_of(first)
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "runs").rglob("codes/*/*/*")}
    assert modes == {0o600}
    # Half a set is none: another start is making it, or somebody has removed it.
    marks = [
        *(tmp_path / "runs" / "1").rglob("items.u64"),
        *(tmp_path / "runs" / "2").rglob("items.u64"),
    ]
    for path in marks:
        path.unlink()
    _, fourth, _, _ = make(tmp_path / "runs" / "4", data, codec=codec)
    assert sorted(fourth.read) == sorted(ALL)
    assert codes_of(fourth) == codes_of(first)
    config = request.getfixturevalue("make")()
    other = save_codec(tmp_path / "other", config, seed=1)
    _, third, _, _ = make(tmp_path / "runs" / "3", data, codec=other)
    assert sorted(third.read) == sorted(ALL)
    assert codes_of(third) != codes_of(first)
    assert third.codes.facts.hash != first.codes.facts.hash


def save_user(folder: Path, codec: TrainedCodec) -> Path:
    """Write a checkpoint of a run that uses a codec."""
    parts = RecipeParts(None, {"codec": codec.to_result()})
    about = {"counters": {"updates": 5}, "config": {}, "plan": ""}
    write_checkpoint(
        folder, about, tensors={RECIPE: parts.tensors()},
        documents={RECIPE_VALUES: parts.values(), "state.json": {}},
    )  # fmt: skip
    return folder


def test_the_codec_of_a_run_that_uses_one_is_used_again(
    codec: Path, data: Path, tmp_path: Path
) -> None:
    user = save_user(tmp_path / "voice", load_codec(codec))
    _, named, _, _ = make(tmp_path / "a" / "run", data, codec=user)
    assert named.codes.facts == load_codec(codec).facts
    config = Config(data, codec=None, init_from="voice")
    _, started, _, _ = make(
        tmp_path / "b" / "run", data, codec=None, config=config, needs={"init_from": user}
    )
    assert codes_of(started) == codes_of(named)


def test_weights_of_another_codec_are_refused(
    codec: Path, data: Path, tmp_path: Path, request: Any
) -> None:
    other = save_codec(tmp_path / "other", request.getfixturevalue("make")(), seed=1)
    needs = {"init_from": save_user(tmp_path / "voice", load_codec(other))}
    with pytest.raises(
        ConfigError, match=r"^codec: .* speak the codes of codec \w{16}, and codes of"
    ):
        make(tmp_path / "run", data, codec=codec, needs=needs)
    config = Config(data, init_strict=False)
    reason, recipe, _, _ = make(tmp_path / "run", data, codec=codec, config=config, needs=needs)
    assert reason is None
    assert recipe.codes.facts.hash == load_codec(codec).facts.hash


def test_what_does_not_suit_is_one_line(codec: Path, data: Path, tmp_path: Path) -> None:
    config = Config(data)
    config.data = config.data.model_copy(update={"rate_hz": 16_000})
    with pytest.raises(
        ConfigError, match=r"^codec: .* at 8000 Hz, but data.rate_hz = 16000; set it to"
    ):
        make(tmp_path / "a", data, codec=codec, config=config)
    with pytest.raises(
        ConfigError, match=r"^codec: the checkpoint of codec is gone, and codes have"
    ):
        make(tmp_path / "b", data, codec=None)


def test_items_without_a_code_are_counted(codec: Path, audio: Path, tmp_path: Path) -> None:
    here = tmp_path / "data"
    here.mkdir()
    soundfile.write(here / "short.wav", np.full(900, 0.1), 8_000)
    soundfile.write(here / "code.wav", np.full(1_700, 0.1), 8_000)
    for split in ("train", "valid"):
        rows = [
            {"path": "short.wav", "duration": 0.03, "text": "a"},
            {"path": "code.wav", "text": "b"},
        ]
        (here / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = Config(here)
    config.data = config.data.model_copy(update={"min_s": 0.0})
    _, recipe, _, events = make(tmp_path / "run", here, codec=codec, config=config)
    assert recipe.codes.num_codes("valid").tolist() == [4, 0]
    assert recipe.codes.codes("valid", 1).tolist() == []
    assert "1 item of data.valid are too short for a code" in messages(events)
