"""A trained codec: its codes and its audio, what its hash covers, and how it travels in other checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import CheckpointError
from engine.checkpoints.recipe_files import RecipeState
from engine.config.errors import ConfigError
from engine.recipes.base import Opening
from engine.recipes.codec.trained_codec import TrainedCodec, load_codec
from engine.recipes.codec.transform import transform_of
from engine.recipes.registry import open_recipe
from engine.recipes.trained import load_trained
from engine.training.trainer import Trainer
from models.codec.mel_codec import MelCodec


@pytest.fixture(params=["fsq", "vq"])
def run(request: Any, make: Any, tmp_path: Path, recorder: Any, stop_after: Any) -> Path:
    config = make(model={"quantiser": request.param})
    recipe = open_recipe(config, opening=Opening(tmp_path / "run"))
    Trainer(
        config, recipe, folder=tmp_path / "run", observers=[recorder], control=stop_after()
    ).fit()
    return tmp_path / "run"


def wave_of(audio: Path, name: str = "valid/00.wav") -> torch.Tensor:
    return torch.from_numpy(soundfile.read(audio / name, dtype="float32")[0])[None]


def test_it_codes_and_decodes_as_the_network_of_its_run_does(run: Path, audio: Path) -> None:
    codec = load_codec(run)
    _, network = load_trained(run)
    assert isinstance(network, MelCodec)
    wave_BT = wave_of(audio)
    facts = codec.facts
    index_BN = codec.encode(wave_BT)
    assert index_BN.shape == (1, facts.codes_of(wave_BT.shape[1]))
    assert index_BN.dtype == torch.int64
    assert (facts.rate_hz, facts.samples_per_code) == (8_000, 4 * 96)
    assert facts.codes_per_s == pytest.approx(20.83, abs=0.01)
    assert int(index_BN.max()) < facts.num_codes
    mel_BFL = facts.transform.log_mel(wave_BT)[..., : 4 * index_BN.shape[1]]
    with torch.no_grad():
        assert torch.equal(index_BN, network.encode(mel_BFL))
        assert torch.equal(codec.decode(index_BN), network.decode(index_BN))
    sound_BT = codec.audio(index_BN)
    assert sound_BT.shape == (1, index_BN.shape[1] * facts.samples_per_code)
    torch.manual_seed(1)
    assert torch.equal(sound_BT, load_codec(run).audio(index_BN))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codec.encode(wave_BT), index_BN)
        assert torch.equal(codec.audio(index_BN), sound_BT)
    # The audio has the frames that it was made of, as far as Griffin-Lim finds them.
    found = (facts.transform.log_mel(sound_BT) - codec.decode(index_BN)).abs().mean()
    assert found < 0.5 * (codec.decode(index_BN) - codec.decode(index_BN).mean()).abs().mean()


@pytest.mark.parametrize("samples", [0, 1, 256, 257, 383, 384, 767, 768, 5_000])
def test_the_number_of_codes_is_known_from_the_duration(make: Any, samples: int) -> None:
    config = make().model
    codec = TrainedCodec(config, MelCodec(config), rate_hz=8_000, source="")
    wave_BT = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    index_BN = codec.encode(wave_BT)
    assert index_BN.shape == (2, codec.facts.codes_of(samples))
    assert codec.facts.codes_of(samples) == samples // 384
    assert codec.audio(index_BN).shape == (2, samples // 384 * 384)


def hash_of(config: Any, state: dict[str, Any], *, rate_hz: int = 8_000) -> str:
    network = MelCodec(config)
    network.load_state_dict(state)
    return TrainedCodec(config, network, rate_hz=rate_hz, source="").facts.hash


@pytest.mark.parametrize("quantiser", ["fsq", "vq"])
def test_the_hash_covers_what_fixes_codes_and_audio_and_nothing_else(
    make: Any, quantiser: str
) -> None:
    config = make(model={"quantiser": quantiser}).model
    state = MelCodec(config).state_dict()
    mine = hash_of(config, state)
    assert mine == hash_of(config, state)
    same = {"codebook_decay": 0.5, "kmeans_start": False, "revive_below": 0.0}
    assert mine == hash_of(config.model_copy(update=same), state)
    for name, tensor in state.items():
        changed = {**state, name: tensor + 1}
        moves = name.rpartition(".")[2] in ("use_K", "sum_KD", "started")
        assert (hash_of(config, changed) == mine) == moves, name
    assert mine != hash_of(config, state, rate_hz=16_000)
    assert mine != hash_of(config.model_copy(update={"hop": 128}), state)
    assert mine != hash_of(config.model_copy(update={"f_max_hz": 3_000.0}), state)


def test_levels_of_equal_product_are_other_codecs(make: Any) -> None:
    one, other = (make(model={"levels": levels}).model for levels in ([5, 3, 4], [3, 5, 4]))
    state = MelCodec(one).state_dict()
    assert hash_of(one, state) != hash_of(other, state)


def test_it_travels_in_another_checkpoint_and_is_checked_there(run: Path, audio: Path) -> None:
    codec = load_codec(run)
    result = codec.to_result()
    again = TrainedCodec.of_result(result)
    assert again.facts == codec.facts
    index_BN = codec.encode(wave_of(audio))
    assert torch.equal(again.encode(wave_of(audio)), index_BN)
    assert torch.equal(again.audio(index_BN), codec.audio(index_BN))
    name = "decoder.1.weight" if "decoder.1.weight" in result.tensors else "from_codes.weight"
    tensors = {**result.tensors, name: result.tensors[name] * 1.001}
    with pytest.raises(ValueError, match=r"has hash \w{16}, but was saved with"):
        TrainedCodec.of_result(RecipeState(tensors, result.values))
    del tensors[name]
    with pytest.raises(ValueError, match="does not fit this version of sepdash"):
        TrainedCodec.of_result(RecipeState(tensors, result.values))


def test_what_has_no_trained_codec_is_one_line(make: Any, tmp_path: Path, rewrite: Any) -> None:
    with pytest.raises(CheckpointError, match="contains no checkpoint"):
        load_codec(tmp_path)
    rewrite(tmp_path / "new", make(), updates=0)
    with pytest.raises(ConfigError, match=r"^codec: .*was saved before its first update; name a"):
        load_codec(tmp_path / "new")


@pytest.fixture
def rewrite() -> Any:
    """Return a function that writes the checkpoint of an untrained codec."""
    from engine.checkpoints.files import MODEL, write_checkpoint

    def write(folder: Path, config: Any, *, updates: int) -> None:
        about = {
            "counters": {"updates": updates}, "config": config.to_dict(), "plan": "",
        }  # fmt: skip
        tensors = MelCodec(config.model).state_dict()
        write_checkpoint(folder, about, tensors={MODEL: tensors}, documents={"state.json": {}})

    return write


def test_transform_names_all_that_fixes_it(make: Any) -> None:
    config = make().model
    transform = transform_of(config, 8_000)
    assert "hop=96" in transform.name
    assert "griffin-lim 32" in transform.name
    assert transform.frames_of(256) == 0
    assert transform.frames_of(257) == 2
    assert transform.frames_of(8_000) == 83
    assert transform.log_mel(torch.zeros(1, 8_000)).shape[-1] == 83
    assert np.isfinite(transform.waveform(transform.log_mel(torch.zeros(1, 8_000))).numpy()).all()
