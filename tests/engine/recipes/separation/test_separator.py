"""Applying a model to files: any length, rate and channels; nothing lost, shifted or overwritten."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from engine.checkpoints.files import MODEL, CheckpointError, write_checkpoint
from engine.config.errors import DataError
from engine.config.loading import load_config
from engine.data.files.audio_files import probe
from engine.recipes.separation.overlap import Chunking
from engine.recipes.separation.separator import Separator, separate_files


class Identity(nn.Module):
    """Puts out its input for each source."""

    def __init__(self, sources: int = 1) -> None:
        super().__init__()
        self.sources = sources
        self.longest = 0

    def forward(self, mix_BCT: torch.Tensor) -> torch.Tensor:
        self.longest = max(self.longest, mix_BCT.shape[-1])
        return mix_BCT.unsqueeze(1).repeat(1, self.sources, 1, 1)


@pytest.fixture
def apply(monkeypatch):
    """Return a function that separates files with the identity in place of a trained model."""

    def run(inputs, out, *, data=None, model=None, **options):
        values = {"kind": "denoise", "train": "x", "valid": "x", "noise": "x", "rate_hz": 16_000}
        config = load_config({"data": data or values})
        model = model or Identity(config.num_sources)
        monkeypatch.setattr(
            "engine.recipes.separation.separator.load_model", lambda path: (config, model)
        )
        return separate_files(Path("unused"), inputs, out_dir=out, device="cpu", **options)

    return run


def _noise(path: Path, seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    shape = (round(seconds * rate_hz), channels)
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, shape).astype(np.float32)
    soundfile.write(path, samples, rate_hz, subtype="FLOAT")
    return samples


def _read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize("seconds", [0.001, 0.5, 1.0, 1.0001, 3.7])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_identity_returns_its_input_exactly(tmp_path, apply, seconds, channels, overlap):
    samples = _noise(tmp_path / "in.wav", seconds, 16_000, channels)
    model = Identity()
    (written,) = apply(
        [tmp_path / "in.wav"], tmp_path / "out", model=model, chunk_s=1.0, overlap=overlap
    )
    assert written == tmp_path / "out" / "in.denoised.wav"
    assert np.array_equal(_read(written), samples)
    assert model.longest <= 16_000


def test_stereo_model_takes_mono_and_stereo(tmp_path, apply):
    data = {
        "kind": "stems", "train": "x", "valid": "x", "rate_hz": 8_000, "channels": 2,
        "targets": ["vocals", "drums"],
    }  # fmt: skip
    for channels in (1, 2):
        samples = _noise(tmp_path / "in.wav", 0.7, 8_000, channels)
        written = apply([tmp_path / "in.wav"], tmp_path / "out", data=data, chunk_s=0.25)
        assert [path.name for path in written] == ["in.vocals.wav", "in.drums.wav"]
        assert all(np.array_equal(_read(path), samples) for path in written)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100])
def test_other_rates_come_back_with_their_length_and_place(tmp_path, apply, rate_hz):
    frames = round(1.3 * rate_hz)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(frames) / rate_hz).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", tone, rate_hz, subtype="FLOAT")
    (written,) = apply([tmp_path / "in.wav"], tmp_path / "out", chunk_s=0.4)
    info = probe(written)
    assert (info.rate_hz, info.frames) == (rate_hz, frames)
    edge = rate_hz // 50
    assert np.abs(_read(written)[edge:-edge, 0] - tone[edge:-edge]).max() < 2e-3


def test_bandwidth_extension_keeps_the_higher_rate(tmp_path, apply):
    _noise(tmp_path / "in.wav", 0.5, 8_000)
    data = {"kind": "bandwidth", "train": "x", "valid": "x", "rate_hz": 48_000}
    (written,) = apply([tmp_path / "in.wav"], tmp_path / "out", data=data)
    info = probe(written)
    assert (written.name, info.rate_hz, info.frames) == ("in.extended.wav", 48_000, 24_000)


def test_chunks_cover_the_signal_once():
    spans = list(Chunking(100, 25).spans(310))
    assert spans == [(0, 100), (75, 175), (150, 250), (225, 310)]
    assert list(Chunking(100, 25).spans(100)) == [(0, 100)]


def test_seams_fade(tmp_path):
    """Chunks that differ by a constant blend into a line, without a step."""
    config = load_config(
        {"data": {"kind": "denoise", "train": "x", "valid": "x", "noise": "x", "rate_hz": 16_000}}
    )

    class Counting(nn.Module):
        calls = -1.0

        def forward(self, mix_BCT):
            self.calls += 1
            return torch.zeros_like(mix_BCT).unsqueeze(1) + self.calls

    _noise(tmp_path / "in.wav", 0.1, 16_000)
    separator = Separator(config, Counting(), device=torch.device("cpu"))
    blocks = list(separator.blocks(probe(tmp_path / "in.wav"), Chunking(1000, 200)))
    whole = np.concatenate(blocks, axis=-1).ravel()
    assert len(whole) == 1600
    assert whole[:800].max() == 0
    assert np.diff(whole[799:1001]) == pytest.approx(np.full(201, 1 / 201), abs=1e-5)


def test_bad_input_is_refused_before_anything_is_written(tmp_path, apply):
    _noise(tmp_path / "in.wav", 0.1, 16_000)
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "other").mkdir()
    _noise(tmp_path / "other" / "in.wav", 0.1, 16_000)
    out = tmp_path / "out"
    with pytest.raises(DataError) as caught:
        apply([tmp_path / "text.wav", tmp_path / "missing.wav", tmp_path / "in.wav"], out)
    assert len(caught.value.problems) == 2
    with pytest.raises(ValueError, match="would both be written"):
        apply([tmp_path / "in.wav", tmp_path / "other" / "in.wav"], out)
    with pytest.raises(ValueError, match="overlap"):
        apply([tmp_path / "in.wav"], out, overlap=1.5)
    with pytest.raises(ValueError, match="is shorter than 64 samples"):
        apply([tmp_path / "in.wav"], out, chunk_s=0.001)
    assert not out.exists()
    _noise(tmp_path / "in.denoised.wav", 0.1, 16_000)
    with pytest.raises(ValueError, match="would overwrite an input"):
        apply([tmp_path / "in.wav", tmp_path / "in.denoised.wav"], tmp_path)


def test_a_failure_leaves_nothing_half_written(tmp_path, apply):
    class Fails(Identity):
        def forward(self, mix_BCT):
            if self.longest:
                raise RuntimeError("out of memory")
            return super().forward(mix_BCT)

    _noise(tmp_path / "in.wav", 1, 16_000)
    with pytest.raises(RuntimeError, match="out of memory"):
        apply([tmp_path / "in.wav"], tmp_path / "out", model=Fails(), chunk_s=0.5)
    assert list((tmp_path / "out").iterdir()) == []


def test_trained_checkpoint_is_applied(tmp_path, make_config):
    from engine.recipes.separation.recipe import SeparationRecipe

    config = make_config()
    model = SeparationRecipe(config).build_model().eval()
    folder = tmp_path / "run" / "checkpoints" / "best-si_sdr"
    about = {"kind": "best-si_sdr", "config": config.to_dict(), "counters": {"updates": 1}}
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_checkpoint(folder, about, tensors={MODEL: weights})
    samples = _noise(tmp_path / "song.wav", 0.4, 8_000)
    (written,) = separate_files(
        tmp_path / "run", [tmp_path / "song.wav"], out_dir=tmp_path / "out", device="cpu"
    )
    with torch.no_grad():
        expected = model(torch.from_numpy(samples.T)[None])[0, 0].numpy().T
    assert written.name == "song.voice.wav"
    assert np.allclose(_read(written), expected, atol=1e-6)
    with pytest.raises(CheckpointError):
        separate_files(tmp_path, [tmp_path / "song.wav"], out_dir=tmp_path / "out", device="cpu")


@pytest.mark.parametrize("rate_hz", [16_000, 24_000])
@pytest.mark.parametrize("limit_bytes", [20, 40_000])
def test_no_space_left_is_said_and_leaves_nothing(tmp_path, apply, rate_hz, limit_bytes):
    _noise(tmp_path / "in.wav", 2.0, rate_hz)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A write beyond the limit fails like one on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"in\.denoised\.wav: can't be written \(.*\); .* MiB are free"
        ):
            apply([tmp_path / "in.wav"], tmp_path / "out", chunk_s=0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_value_that_is_no_number_is_refused_with_its_place(tmp_path, apply):
    samples = _noise(tmp_path / "in.wav", 2.0, 16_000)
    samples[20_000] = np.nan
    soundfile.write(tmp_path / "in.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"in\.wav: contains non-finite values .* at 1\.25 s"):
        apply([tmp_path / "in.wav"], tmp_path / "out", chunk_s=0.5, overlap=0.0)
    assert list((tmp_path / "out").iterdir()) == []


class Swapping(nn.Module):
    """Finds a low and a high tone exactly, and names them the other way round at every second call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, mix_BCT: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(mix_BCT.double())
        border = mix_BCT.shape[-1] // 8
        low = torch.fft.irfft(
            torch.where(torch.arange(spectrum.shape[-1]) < border, spectrum, 0), mix_BCT.shape[-1]
        )
        self.calls += 1
        pair = torch.stack([low, mix_BCT - low], dim=1).float()
        return pair.flip(1) if self.calls % 2 else pair


@pytest.mark.parametrize("overlap", [0.1, 0.5])
def test_speakers_are_not_swapped_from_chunk_to_chunk(tmp_path, apply, overlap):
    time = np.arange(36_000) / 8_000
    tones = [0.3 * np.sin(2 * np.pi * hertz * time) for hertz in (200, 1_500)]
    soundfile.write(tmp_path / "in.wav", sum(tones), 8_000, subtype="FLOAT")
    data = {"kind": "speakers", "train": "x", "valid": "x", "rate_hz": 8_000}
    model = Swapping()
    written = apply(
        [tmp_path / "in.wav"],
        tmp_path / "out",
        data=data,
        model=model,
        chunk_s=1.0,
        overlap=overlap,
    )
    assert [path.name for path in written] == ["in.speaker1.wav", "in.speaker2.wav"]
    assert model.calls > 4
    high, low = (_read(path)[:, 0] for path in written)
    assert np.abs(high - tones[1]).max() < 0.05
    assert np.abs(low - tones[0]).max() < 0.05
