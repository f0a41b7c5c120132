"""Claims about frames: where a tone lies, how many there are, mean and deviation, and masks."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.audio.log_mel import LogMel, measure
from engine.config.speech import SpeechData
from engine.item_random import item_generator
from engine.recipes.speech.specaugment import spec_augment

DATA = SpeechData(
    train=Path("t.jsonl"), valid=Path("v.jsonl"), rate_hz=8_000, num_mels=20, freq_mask_mels=9
)


def tone(hz, seconds=0.5):
    return np.sin(2 * np.pi * hz * np.arange(round(8_000 * seconds)) / 8_000).astype(np.float32)


def test_a_higher_tone_lies_in_a_higher_band():
    log_mel = LogMel(DATA)
    bands = [int(log_mel(tone(hz)).mean(dim=0).argmax()) for hz in (200, 700, 1_500, 3_500)]
    assert bands == sorted(set(bands))


def test_frames_are_counted_as_they_come():
    log_mel = LogMel(DATA)
    for samples in (1, 80, 255, 256, 257, 335, 336, 4_000):
        frames = log_mel(np.zeros(samples, np.float32))
        assert frames.shape == (log_mel.frames(samples), 20)
        assert frames.dtype == torch.float32
    assert log_mel.frames_in(1.0) == log_mel.frames(8_000) == 97


def test_silence_is_finite_and_a_copy_measures_alike():
    log_mel = LogMel(DATA)
    assert log_mel(np.zeros(800, np.float32)).isfinite().all()
    samples = tone(440)
    assert torch.equal(pickle.loads(pickle.dumps(log_mel))(samples), log_mel(samples))


class Noise:
    """Utterances of noise, one second each, of growing level."""

    def __init__(self, count):
        self.read = []
        self.count = count

    def durations_s(self):
        return np.ones(self.count)

    def audio(self, index):
        self.read.append(index)
        return np.random.default_rng(index).normal(size=8_000).astype(np.float32) * 0.1


def test_mean_and_deviation_are_those_of_all_frames():
    log_mel, noise = LogMel(DATA), Noise(5)
    found = measure(noise, log_mel)
    frames = torch.cat([log_mel(noise.audio(index)) for index in range(5)]).double()
    torch.testing.assert_close(found.mean_F.double(), frames.mean(dim=0), rtol=1e-5, atol=1e-5)
    std = frames.std(dim=0, correction=0)
    torch.testing.assert_close(found.std_F.double(), std, rtol=1e-5, atol=1e-5)


def test_much_audio_is_sampled_evenly_and_always_the_same():
    noise = Noise(10)
    found = measure(noise, LogMel(DATA), most_s=4.0)
    assert noise.read == [0, 3, 6, 9]
    again = measure(Noise(10), LogMel(DATA), most_s=4.0)
    assert torch.equal(found.mean_F, again.mean_F)
    assert torch.equal(found.std_F, again.std_F)


def hide(data, epoch=0, index=0, frames=100):
    feat = torch.arange(1.0, frames * 20 + 1).reshape(frames, 20)
    generator = item_generator(3, epoch, index, "specaugment")
    return feat, spec_augment(feat, data, generator=generator, hidden_F=torch.zeros(20))


def settings(**values):
    return DATA.model_copy(update={"time_masks": 0, "freq_masks": 0, **values})


def test_masks_are_a_pure_function_of_seed_epoch_and_item():
    data = settings(time_masks=2, freq_masks=2, freq_mask_mels=8)
    assert torch.equal(hide(data)[1], hide(data)[1])
    assert not torch.equal(hide(data)[1], hide(data, epoch=1)[1])
    assert not torch.equal(hide(data)[1], hide(data, index=1)[1])


def test_time_masks_are_whole_stretches_no_longer_than_allowed():
    data = settings(time_masks=1, time_mask_frames=30, time_mask_share=0.2)
    widths = set()
    for index in range(200):
        feat, hidden = hide(data, index=index)
        gone = (hidden == 0).all(dim=1)
        assert torch.equal(hidden[~gone], feat[~gone])
        places = gone.nonzero()[:, 0].tolist()
        assert places == list(range(places[0], places[0] + len(places))) if places else True
        widths.add(len(places))
    assert max(widths) == 20
    assert min(widths) == 0


def test_frequency_masks_hide_bands_of_all_frames():
    data = settings(freq_masks=1, freq_mask_mels=5)
    widths = set()
    for index in range(100):
        feat, hidden = hide(data, index=index)
        gone = (hidden == 0).all(dim=0)
        assert torch.equal(hidden[:, ~gone], feat[:, ~gone])
        widths.add(int(gone.sum()))
    assert widths == {0, 1, 2, 3, 4, 5}


def test_nothing_is_hidden_where_nothing_is_asked_for():
    feat, hidden = hide(settings())
    assert torch.equal(feat, hidden)


@pytest.mark.parametrize("frames", [1, 2])
def test_the_shortest_items_keep_something(frames):
    data = settings(time_masks=2)
    feat, hidden = hide(data, frames=frames)
    assert torch.equal(feat, hidden)
