"""Claims about MFCC frames: as many as the encoder's, on its grid, local, and usable as targets."""

import pickle

import numpy as np
import pytest
import torch

from engine.audio.mfcc import DIM, Mfcc
from engine.item_random import item_generator

# The convolutions of wav2vec 2.0, HuBERT and data2vec: kernel and stride.
CONVOLUTIONS = [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]


def encoder_frames(samples):
    for kernel, stride in CONVOLUTIONS:
        samples = max(0, (samples - kernel) // stride + 1)
    return samples


def noise(samples, *, seed=0):
    return item_generator(seed, 0, 0, "noise").normal(size=samples).astype(np.float32) * 0.1


def test_frames_are_those_of_the_encoder_for_any_number_of_samples():
    mfcc = Mfcc(16_000)
    for samples in [0, 1, 399, *range(400, 2_100), 16_000, 15_999, 250_000]:
        assert mfcc.frames(samples) == encoder_frames(samples)
    for samples in (0, 399, 400, 559, 560, 719, 720, 721, 1_039, 1_040, 32_000):
        feat_LD = mfcc(noise(samples))
        assert feat_LD.shape == (encoder_frames(samples), DIM)
        assert feat_LD.dtype == torch.float32
        assert feat_LD.isfinite().all()


def test_a_click_is_in_the_frames_that_see_it_and_nowhere_else():
    # Frame k starts at sample 320 k and sees 400: no label shift.
    mfcc = Mfcc(16_000)
    quiet = noise(16_000) * 0.01
    for at in (3_200 + 200, 8_000 + 200, 12_800 + 200):
        click = quiet.copy()
        click[at] += 1.0
        moved_L = (mfcc(click) - mfcc(quiet))[:, :13].abs().amax(dim=1)
        seen = [k for k in range(len(moved_L)) if 320 * k <= at < 320 * k + 400]
        assert torch.nonzero(moved_L > 1e-3).flatten().tolist() == seen
        assert int(moved_L.argmax()) == (at - 200) // 320


def test_frames_cut_at_the_grid_are_the_frames_of_the_cut_inside():
    # Differences look 40 ms to either side, and no frame knows how loud the rest of the file is.
    mfcc = Mfcc(16_000)
    wave = noise(32_000)
    wave[24_000:] *= 50
    cut_LD = mfcc(wave[320 * 10 : 320 * 60 + 400])
    torch.testing.assert_close(cut_LD[4:-4], mfcc(wave)[14:57], atol=1e-4, rtol=1e-4)


def test_coefficients_are_those_of_a_definition_written_by_hand():
    wave = noise(4_000)
    window = np.hanning(401)[:400]
    power_LF = (
        np.abs(np.fft.rfft(np.stack([wave[i : i + 400] * window for i in range(0, 3_600, 160)])))
        ** 2
    )
    hz = np.linspace(0, 8_000, 201)
    top = 2_595 * np.log10(1 + 8_000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, 42) / 2_595) - 1)
    rise = (hz[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - hz[:, None]) / np.diff(edges)[1:]
    mel_LM = power_LF @ np.maximum(0, np.minimum(rise, fall))
    m = np.arange(40)
    basis_CM = np.cos(np.pi / 40 * (m + 0.5) * np.arange(13)[:, None]) * np.sqrt(2 / 40)
    basis_CM[0] /= np.sqrt(2)
    static_LC = np.log(mel_LM + 1e-6) @ basis_CM.T
    padded = np.pad(static_LC, ((2, 2), (0, 0)), mode="edge")
    first_LC = (
        sum(
            n * (padded[2 + n :][: len(static_LC)] - padded[2 - n :][: len(static_LC)])
            for n in (1, 2)
        )
        / 10
    )
    feat_LD = Mfcc(16_000)(wave).numpy()
    np.testing.assert_allclose(feat_LD[:, :13], static_LC[::2], atol=2e-3)
    np.testing.assert_allclose(feat_LD[:, 13:26], first_LC[::2], atol=2e-3)


def test_every_band_has_bins_and_silence_is_one_finite_frame():
    mfcc = Mfcc(16_000)
    silent_LD = mfcc(np.zeros(8_000, np.float32))
    assert silent_LD.isfinite().all()
    assert (silent_LD == silent_LD[0]).all()
    filters = mfcc._transform.MelSpectrogram.mel_scale.fb
    assert (filters.amax(dim=0) > 0).all()


def test_a_copy_in_another_process_gives_the_same_bits():
    mfcc = Mfcc(16_000)
    wave = noise(5_000)
    first = mfcc(wave)
    assert torch.equal(pickle.loads(pickle.dumps(mfcc))(wave), first)


def test_an_odd_hop_is_refused():
    with pytest.raises(ValueError, match="hop 321"):
        Mfcc(16_000, hop=321)
