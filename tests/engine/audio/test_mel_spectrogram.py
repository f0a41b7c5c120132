"""Log-mel spectrograms and the audio that is made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.audio.log_mel import BandSums
from engine.audio.mel_spectrogram import MelSpectrogram

RATE = 8_000
TRANSFORM = MelSpectrogram(RATE, n_fft=512, hop=96, num_mels=64, f_min_hz=0.0, f_max_hz=4_000.0)


def voice(seconds: float, seed: int = 0) -> torch.Tensor:
    """Return (T,) harmonics of a gliding pitch with syllables, and some noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = 120 + 30 * np.sin(2 * np.pi * 1.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = sum(np.sin(k * phase) / k for k in range(1, 20))
    wave *= 0.1 * (1.05 + np.sin(2 * np.pi * 4 * time))
    return torch.from_numpy(wave + 1e-3 * rng.normal(size=len(time))).float()


def test_a_tone_is_in_the_band_of_its_frequency_and_has_its_level():
    time_T = torch.arange(RATE) / RATE
    mel_FL = TRANSFORM.log_mel(torch.stack([0.1 * torch.sin(2 * np.pi * 1_000 * time_T)]))[0]
    assert mel_FL.shape == (64, RATE // 96)
    # Slaney: 15 mel at 1 kHz of 35.16 at 4 kHz, over 65 steps.
    assert abs(int(mel_FL[:, 40].argmax()) - (15 / 35.16 * 65 - 1)) < 1
    louder_FL = TRANSFORM.log_mel(torch.stack([torch.sin(2 * np.pi * 1_000 * time_T)]))[0]
    band = int(mel_FL[:, 40].argmax())
    # Logarithms of magnitudes: ten times the amplitude is ln(10).
    assert float(louder_FL[band, 40] - mel_FL[band, 40]) == pytest.approx(np.log(10), abs=1e-4)


def test_items_do_not_depend_on_their_neighbours():
    wave_BT = torch.stack([voice(0.5), voice(0.5, seed=1)])
    both = TRANSFORM.log_mel(wave_BT)
    alone = torch.cat([TRANSFORM.log_mel(wave_T[None]) for wave_T in wave_BT])
    torch.testing.assert_close(both, alone, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "hop", "mels"), [(8_000, 512, 96, 64), (22_050, 1024, 256, 80)]
)
def test_audio_from_frames_has_about_these_frames(rate_hz, n_fft, hop, mels):
    transform = MelSpectrogram(
        rate_hz, n_fft=n_fft, hop=hop, num_mels=mels, f_min_hz=0.0, f_max_hz=rate_hz / 2
    )
    mel_BFL = transform.log_mel(voice(1.5)[None])
    wave_BT = transform.waveform(mel_BFL)
    frames = mel_BFL.shape[-1]
    assert wave_BT.shape == (1, frames * hop)
    again_BFL = transform.log_mel(wave_BT)
    assert again_BFL.shape == mel_BFL.shape
    assert float((again_BFL - mel_BFL).abs().mean()) < 0.25
    assert torch.equal(transform.waveform(mel_BFL), wave_BT)


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 128), (1024, 256), (512, 96), (1024, 64)])
def test_a_few_frames_are_a_short_sound(n_fft, hop):
    """Fewer than a window are too short to be transformed as they are: a voice may say one code and stop."""
    transform = MelSpectrogram(RATE, n_fft, hop, num_mels=20, f_min_hz=0.0, f_max_hz=4_000.0)
    tone_T = 0.3 * torch.sin(2 * np.pi * 500 * torch.arange(8_000) / RATE)
    mel_BFL = transform.log_mel(torch.stack([tone_T, 0.1 * tone_T]))[..., 10:]
    for frames in range(12):
        wave_BT = transform.waveform(mel_BFL[..., :frames])
        assert wave_BT.shape == (2, frames * hop)
        assert wave_BT.isfinite().all()
        if frames:
            loud, quiet = wave_BT.square().mean(dim=1).sqrt().tolist()
            assert loud > 0.05
            assert quiet == pytest.approx(loud / 10, rel=0.5)


def test_silence_stays_at_the_floor():
    mel_BFL = TRANSFORM.log_mel(torch.zeros(1, 4_000))
    assert torch.equal(mel_BFL, torch.full_like(mel_BFL, np.log(1e-5)))
    assert float(TRANSFORM.waveform(mel_BFL).abs().max()) < 1e-2


def test_sums_of_bands_give_mean_and_deviation_in_any_order():
    frames = [torch.randn(20, 3) * 2 + 5, torch.randn(7, 3)]
    sums = BandSums.of(3)
    for feat_LF in frames:
        sums.add(feat_LF)
    other = BandSums({name: tensor.clone() for name, tensor in BandSums.of(3).tensors.items()})
    for feat_LF in reversed(frames):
        other.add(feat_LF)
    every_LF = torch.cat(frames).double()
    found, again = sums.normalisation(), other.normalisation()
    torch.testing.assert_close(found.mean_F, every_LF.mean(dim=0).float())
    torch.testing.assert_close(found.std_F, every_LF.std(dim=0, correction=0).float())
    assert torch.allclose(found.std_F, again.std_F)


def test_frames_that_are_no_audio_give_finite_samples() -> None:
    mel_BFL = torch.full((1, TRANSFORM.num_mels, 20), 150.0)
    assert torch.isfinite(TRANSFORM.waveform(mel_BFL)).all()


def test_power_and_scale_are_those_of_torchaudio_and_come_back() -> None:
    from torchaudio.transforms import MelSpectrogram as Reference

    transform = MelSpectrogram(
        RATE,
        n_fft=512,
        hop=96,
        num_mels=40,
        f_min_hz=0.0,
        f_max_hz=4_000.0,
        power=2,
        mel_scale="htk",
    )
    reference = Reference(
        RATE, n_fft=512, hop_length=96, n_mels=40, f_max=4_000.0, norm="slaney", power=2
    )
    time = torch.arange(RATE) / RATE
    wave_BT = 0.3 * torch.sin(2 * torch.pi * 440.0 * time)[None]
    frames = RATE // 96
    mel_BFL = transform.log_mel(wave_BT)
    expected_BFL = reference(wave_BT).clamp(min=1e-5).log()[..., :frames]
    torch.testing.assert_close(mel_BFL, expected_BFL, atol=1e-4, rtol=1e-4)
    again_BFL = transform.log_mel(transform.waveform(mel_BFL))
    inner = slice(8, -8)
    loud_BFL = mel_BFL[..., inner] > mel_BFL.max() - 5
    gap_BFL = (again_BFL - mel_BFL)[..., inner][loud_BFL]
    assert float(gap_BFL.abs().mean()) < 0.3
    # What was stored before these were settings names neither.
    assert repr(TRANSFORM).endswith("f_max_hz=4000.0)")
    assert repr(transform).endswith("f_max_hz=4000.0, power=2, mel_scale='htk')")
