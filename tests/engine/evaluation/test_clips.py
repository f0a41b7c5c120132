"""Audio and pictures of a few validation items, written at evaluations."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import soundfile
import torch

from engine.evaluation.clips import write_clips
from engine.evaluation.result import Clip
from engine.evaluation.spectrogram import level_db, png
from engine.events import ClipsWritten, Noticed
from engine.recipes.separation.recipe import SeparationRecipe
from engine.training.trainer import Trainer


def test_a_run_writes_the_items_it_is_asked_for(make_config, recorder, stop_after, tmp_path):
    config = make_config(
        validation={"clips": 2, "every": "5 updates"}, schedule={"length": "5 updates"}
    )
    recipe = SeparationRecipe(config)
    trainer = Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after())
    trainer.fit()

    events = recorder.of(ClipsWritten)
    assert [event.counters.updates for event in events] == [1, 5]
    assert [(file.item, file.kind, file.updates) for file in events[1].files] == [
        (0, "input", 0), (0, "target", 0), (0, "estimate", 5),
        (1, "input", 0), (1, "target", 0), (1, "estimate", 5),
    ]  # fmt: skip
    assert len(list((tmp_path / "clips").rglob("*.wav"))) == 2 * (2 + 2)
    item = recipe._valid_items[1]
    for file, expected in zip(events[1].files[3:5], (item.mix_CT, item.target_SCT[0]), strict=True):
        samples, rate_hz = soundfile.read(tmp_path / file.path, dtype="float32", always_2d=True)
        assert rate_hz == 8_000
        assert (expected == samples.T).all()
        assert (tmp_path / file.spectrogram).read_bytes().startswith(b"\x89PNG")


def test_the_estimate_is_that_of_the_average(make_config, recorder, stop_after, tmp_path):
    config = make_config(validation={"clips": 1}, schedule={"length": "5 updates"})
    recipe = SeparationRecipe(config)
    trainer = Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after())
    trainer.fit()

    file = recorder.of(ClipsWritten)[-1].files[-1]
    written, _ = soundfile.read(tmp_path / file.path, dtype="float32", always_2d=True)
    state = trainer._state
    with torch.no_grad(), state.ema.swapped():
        expected = recipe.evaluate(state.model.eval(), torch.device("cpu")).clips[0]
    assert np.abs(written.T - expected.signals["estimate"]).max() < 1e-6


def test_a_run_that_began_with_an_earlier_version_keeps_its_folder(make_config, tmp_path):
    """Inputs and targets are there already; a second copy would list them twice."""
    (tmp_path / "samples" / "item-0000").mkdir(parents=True)
    clip = Clip(0, 8_000, signals={"input": np.zeros((1, 800), np.float32)})

    (file,) = write_clips(tmp_path, 5, clips=[clip])

    assert file.path == "samples/item-0000/input.wav"
    assert not (tmp_path / "clips").exists()


def test_nothing_is_written_unless_asked_for(make_config, recorder, stop_after, tmp_path):
    config = make_config(schedule={"length": "1 updates"})
    recipe = SeparationRecipe(config)
    Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    assert not (tmp_path / "clips").exists()
    assert recorder.of(ClipsWritten) == []


def test_several_sources_are_told_apart_by_name(make_config):
    config = make_config(
        data={"targets": ["voice", "noise"], "others": ["percussion"]}, validation={"clips": 1}
    )
    recipe = SeparationRecipe(config)
    with torch.no_grad():
        (clip,) = recipe.evaluate(recipe.build_model().eval(), torch.device("cpu")).clips
    assert list(clip.signals) == [
        "input", "target.voice", "target.noise", "estimate.voice", "estimate.noise",
    ]  # fmt: skip
    assert {signal.shape for signal in clip.signals.values()} == {(1, 4_000)}


def test_a_disk_that_takes_no_clips_does_not_end_the_run(
    make_config, recorder, stop_after, tmp_path
):
    (tmp_path / "clips").write_text("in the way")
    config = make_config(validation={"clips": 1}, schedule={"length": "1 updates"})
    recipe = SeparationRecipe(config)
    trainer = Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after())

    assert trainer.fit().outcome == "finished"

    (noticed,) = recorder.of(Noticed)
    assert (noticed.level, noticed.kind) == ("warning", "clips-failed")


def test_a_full_scale_sine_is_at_0_db_in_its_bin():
    place = np.arange(8_192)
    tone = np.sin(2 * np.pi * place * 64 / 1024)[None]
    level_FL = level_db(tone)
    assert level_FL.shape == (513, 129)
    middle = level_FL[:, 64]
    assert middle.argmax() == 64
    assert middle[64] == pytest.approx(0, abs=0.01)
    assert middle[400] == pytest.approx(-100, abs=0.1)


def test_the_picture_has_low_frequencies_at_the_bottom():
    tone = np.sin(2 * np.pi * np.arange(8_192) * 64 / 1024)[None]
    data = png(tone)
    width, height = struct.unpack(">II", data[16:24])
    start = data.index(b"IDAT")
    size = struct.unpack(">I", data[start - 4 : start])[0]
    lines = zlib.decompress(data[start + 4 : start + 4 + size])
    rows = np.frombuffer(lines, np.uint8).reshape(height, width + 1)[:, 1:]
    assert (width, height) == (129, 513)
    assert rows[:, 64].argmax() == 512 - 64
    assert rows[512 - 64, 64] == 255


@pytest.mark.parametrize("length", [1, 100, 1_000])
def test_short_signals_have_a_picture(length):
    assert png(np.ones((2, length), np.float32)).endswith(b"IEND\xaeB`\x82")
