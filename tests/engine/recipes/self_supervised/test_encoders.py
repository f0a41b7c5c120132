"""Encoders of probes: blind to what shares a batch, to the mode of the network, and to global randomness."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.checkpoints.files import CheckpointError
from engine.recipes.self_supervised.encoders import MfccEncoder, batches, network_encoder
from models.self_supervised.settings import WaveformEncoderSettings
from models.self_supervised.waveform_encoder import WaveformEncoder

SMALL = {
    "conv_channels": (8, 8, 8, 8, 8, 12, 12), "layers": 2, "dim": 16, "heads": 2, "ffn": 24,
    "pos_conv_kernel": 6, "pos_conv_groups": 4,
}  # fmt: skip


def opened(norm="layer_norm", *, normalises=True):
    settings = WaveformEncoderSettings(
        **SMALL, extractor_norm=norm, layer_norm_first=norm == "layer_norm"
    )
    torch.manual_seed(0)
    model = WaveformEncoder(settings)
    config = SimpleNamespace(
        model=settings, data=SimpleNamespace(rate_hz=16_000, normalize_waveform=normalises)
    )
    return network_encoder(model, config, name="net")


@pytest.fixture
def waves():
    draw = np.random.default_rng(0)
    lengths = (4_000, 9_000, 4_000, 6_321, 100)
    return [draw.normal(size=length).astype(np.float32) * 0.1 for length in lengths]


@pytest.mark.parametrize("norm", ["layer_norm", "group_norm"])
def test_features_do_not_depend_on_the_batch(norm, waves):
    encoder = opened(norm)
    together = encoder.features(waves)
    assert len(together) == encoder.num_layers + 1 == 3
    for place, wave in enumerate(waves):
        alone = encoder.features([wave])
        for layer in range(3):
            assert together[layer][place].shape == alone[layer][0].shape
            np.testing.assert_allclose(
                together[layer][place], alone[layer][0], rtol=1e-4, atol=2e-5
            )
    assert [len(item) for item in together[0]] == [12, 27, 12, 19, 1]
    assert together[1][0].dtype == np.float32


def test_hop_and_window_are_those_of_the_network():
    encoder = opened()
    assert (encoder.hop, encoder.window, encoder.rate_hz) == (320, 400, 16_000)


def test_normalisation_is_that_of_the_data_settings(waves):
    louder = [3.0 * wave + 0.5 for wave in waves]
    same, other = opened(), opened(normalises=False)
    first, second = same.features(waves)[2][1], same.features(louder)[2][1]
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)
    assert np.abs(other.features(waves)[2][1] - other.features(louder)[2][1]).max() > 1e-3


def test_the_mode_of_the_network_stays_and_dropout_is_off(waves):
    encoder = opened()
    encoder.model.train()
    first, second = encoder.features(waves[:1])[2][0], encoder.features(waves[:1])[2][0]
    assert (first == second).all()
    assert encoder.model.training


def test_mfcc_has_one_layer_on_the_same_grid_and_no_loudness(waves):
    encoder = MfccEncoder()
    (frames,) = encoder.features(waves)
    assert [item.shape for item in frames] == [(12, 39), (27, 39), (12, 39), (19, 39), (1, 39)]
    (louder,) = encoder.features([5 * wave for wave in waves])
    np.testing.assert_allclose(frames[1], louder[1], rtol=1e-2, atol=1e-2)


def test_waveforms_share_a_batch_by_length_and_size():
    lengths = [5, 3, 5, 2, 9]
    assert list(batches(lengths, most=10, pads=False)) == [[3], [1], [0, 2], [4]]
    assert list(batches(lengths, most=10, pads=True)) == [[3, 1], [0, 2], [4]]
    assert list(batches([30], most=10, pads=True)) == [[0]]


def test_a_network_without_features_is_refused():
    config = SimpleNamespace(
        model=SimpleNamespace(kind="audio-unet"), data=SimpleNamespace(rate_hz=16_000)
    )
    with pytest.raises(CheckpointError, match="gives no features of its layers"):
        network_encoder(torch.nn.Linear(2, 2), config, name="run one")
