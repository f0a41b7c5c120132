"""Claims about fine-tuning: what starts from where, what stands still until when, and what masks depend on."""

from __future__ import annotations

import pytest
import torch

from engine.batching.items import ItemDraw, MicroBatch
from engine.checkpoints.files import MODEL, read_manifest, write_checkpoint
from engine.checkpoints.find import find_checkpoint
from engine.config.errors import ConfigError
from engine.config.schema import thawed
from engine.events import Noticed
from engine.recipes.registry import open_recipe
from engine.training.initial_weights import InitError
from engine.training.trainer import Trainer
from models.self_supervised.data2vec2 import Data2Vec2
from models.self_supervised.data2vec2_settings import Data2Vec2Config, Data2Vec2EncoderSettings
from models.self_supervised.waveform_encoder import WaveformEncoder


class Pretrained(WaveformEncoder):
    """An encoder with what self-supervised models have beside it."""

    def __init__(self, settings):
        super().__init__(settings)
        self.mask_embedding = torch.nn.Parameter(torch.rand(settings.dim))
        self.final_proj = torch.nn.Linear(settings.dim, 4)


class Holder(torch.nn.Module):
    """The same with the encoder as a part, as in wav2vec 2.0."""

    def __init__(self, settings):
        super().__init__()
        self.encoder = WaveformEncoder(settings)
        self.mask_embedding = torch.nn.Parameter(torch.rand(settings.dim))
        self.final_proj = torch.nn.Linear(settings.dim, 4)


@pytest.fixture(params=[Pretrained, Holder])
def pretrained(ctc_config, tmp_path, request):
    """The checkpoint of a pre-trained encoder of the tiny size."""
    torch.manual_seed(7)
    model = request.param(ctc_config("ctc_encoder").model)
    folder = tmp_path / "pretrained"
    about = {"config": {}, "counters": {"updates": 5}, "metrics": {}}
    write_checkpoint(folder, about, tensors={MODEL: model.state_dict()})
    return folder


def train(config, folder, *, init_from, recorder, control):
    trainer = Trainer(
        config, open_recipe(config), folder=folder, observers=[recorder], control=control
    )
    trainer.fit(init_from=init_from)
    return read_manifest(find_checkpoint(folder / "checkpoints")).tensors(MODEL)


@pytest.mark.parametrize("kind", ["ctc_encoder", "waveform_rnnt"])
def test_a_run_starts_from_the_encoder_and_says_what_is_new(
    ctc_config, speech_config, pretrained, tmp_path, new_recorder, stop_after, kind
):
    build = ctc_config if kind == "ctc_encoder" else speech_config
    still = {"optimizer": {"lr": 1e-12, "weight_decay": 0.0}, "ema": {"enabled": False}}
    config = build(kind, **still).model_copy(update={"init_from": "./pretrained"})
    recorder = new_recorder()
    ours = train(
        config, tmp_path / "run", init_from=pretrained, recorder=recorder, control=stop_after()
    )
    theirs = read_manifest(pretrained).tensors(MODEL)
    for name, tensor in theirs.items():
        ours_of = (
            name
            if name.startswith(("encoder.feature_extractor", "encoder.encoder"))
            else f"encoder.{name}"
        )
        if not name.startswith("final_proj."):
            torch.testing.assert_close(ours[ours_of], tensor, atol=1e-9, rtol=0)
    (notice,) = [event for event in recorder.of(Noticed) if event.kind == "init-from"]
    count = len(theirs) - 2
    assert f"{count} of {count} tensors of the encoder loaded; new: " in notice.message
    assert notice.message.endswith("not used: final_proj.bias; final_proj.weight")


def test_an_encoder_of_another_size_is_refused_or_loaded_in_part(
    ctc_config, pretrained, tmp_path, new_recorder, stop_after
):
    config = ctc_config("ctc_encoder", model={"ffn": 48})
    config = config.model_copy(update={"init_from": "./pretrained"})
    arguments = {"init_from": pretrained, "recorder": new_recorder(), "control": stop_after()}
    with pytest.raises(InitError, match=r"the encoder in .* does not match .* has shape 32x16"):
        train(config, tmp_path / "strict", **arguments)
    lenient = config.model_copy(update={"init_strict": False})
    assert train(lenient, tmp_path / "lenient", **arguments)


def test_frozen_parts_stand_still_until_their_time(ctc_config, tmp_path, new_recorder, stop_after):
    config = ctc_config(
        "ctc_encoder",
        fine_tuning={
            "freeze_extractor": True, "thaw_extractor_at": "4 updates",
            "freeze_encoder_until": "2 updates",
        },
        checkpoint={"every": "1 updates", "keep_last": 10},
        ema={"enabled": False},
        validation={"at_start": False},
    )  # fmt: skip
    Trainer(
        config, open_recipe(config), folder=tmp_path, observers=[new_recorder()],
        control=stop_after(),
    ).fit()  # fmt: skip
    saved = {
        update: read_manifest(tmp_path / "checkpoints" / f"last-{update:06d}").tensors(MODEL)
        for update in range(1, 7)
    }

    def moves(part, update):
        names = [name for name in saved[1] if name.startswith(part)]
        return any(not torch.equal(saved[update][n], saved[update - 1][n]) for n in names)

    assert [moves("head.", update) for update in range(2, 7)] == [True] * 5
    assert [moves("encoder.encoder.", u) for u in range(2, 7)] == [False, *[True] * 4]
    assert [moves("encoder.feature_extractor.", u) for u in range(2, 7)] == [
        False, False, False, True, True,
    ]  # fmt: skip


def test_what_is_frozen_for_good_is_not_trained_at_all(ctc_config):
    config = ctc_config("ctc_encoder", fine_tuning={"freeze_extractor": True})
    model = open_recipe(config).build_model()
    frozen = {name for name, param in model.named_parameters() if not param.requires_grad}
    assert frozen
    assert all(name.startswith("encoder.feature_extractor.") for name in frozen)
    assert thawed(config).fine_tuning == config.fine_tuning


def test_rates_fall_with_each_layer_below_the_head(ctc_config):
    config = ctc_config("ctc_encoder", fine_tuning={"layer_lr_decay": 0.5})
    recipe = open_recipe(config)
    model = recipe.build_model()
    ratio = {
        name: group.lr_ratio
        for group in recipe.parameter_groups(model)
        for name in group.parameters
    }
    assert ratio.keys() == dict(model.named_parameters()).keys()
    assert ratio["head.weight"] == 1
    layer = "encoder.encoder.transformer.layers.{}.attention.k_proj.weight"
    assert ratio[layer.format(1)] == 0.5
    assert ratio[layer.format(0)] == 0.25
    assert ratio["encoder.feature_extractor.conv_layers.0.conv.weight"] == 0.125
    assert ratio["encoder.mask_embedding"] == 0.125


def test_masks_belong_to_the_item_whatever_it_is_trained_with(ctc_config):
    recipe = open_recipe(ctc_config("ctc_encoder"))
    alone = recipe.fetch("train", MicroBatch((ItemDraw(3, 2),))).tensors
    together = recipe.fetch(
        "train", MicroBatch((ItemDraw(3, 0), ItemDraw(3, 2)), (3.0, 40.0))
    ).tensors
    frames = alone["time_mask"].shape[1]
    assert alone["time_mask"].any()
    assert torch.equal(together["time_mask"][1, :frames], alone["time_mask"][0])
    assert not together["time_mask"][1, frames:].any()
    assert torch.equal(together["channel_mask"][1], alone["channel_mask"][0])
    again = recipe.fetch("train", MicroBatch((ItemDraw(4, 2),))).tensors
    assert not torch.equal(again["time_mask"], alone["time_mask"])
    assert "time_mask" not in recipe.fetch("valid", MicroBatch((ItemDraw(0, 1),))).tensors


def test_settings_that_change_nothing_are_refused(ctc_config):
    with pytest.raises(ConfigError, match="fine_tuning is for encoders of waveforms"):
        ctc_config(fine_tuning={"freeze_extractor": True})
    with pytest.raises(ConfigError, match="requires freeze_extractor = true"):
        ctc_config("ctc_encoder", fine_tuning={"thaw_extractor_at": "3 updates"})
    with pytest.raises(ConfigError, match=r"set data\.normalize_waveform = true"):
        ctc_config("ctc_encoder", data={"normalize_waveform": False})
    with pytest.raises(ConfigError, match="must be at most half of dim = 16"):
        ctc_config("ctc_encoder", model={"channel_mask_length": 9})


def test_a_run_starts_from_the_encoder_of_data2vec(ctc_config, tmp_path, new_recorder, stop_after):
    still = {"optimizer": {"lr": 1e-12, "weight_decay": 0.0}, "ema": {"enabled": False}}
    config = ctc_config("ctc_data2vec2", fine_tuning={"layer_lr_decay": 0.5}, **still)
    config = config.model_copy(update={"init_from": "./pretrained"})
    sizes = {name: getattr(config.model, name) for name in Data2Vec2EncoderSettings.model_fields}
    torch.manual_seed(7)
    student = Data2Vec2(Data2Vec2Config(**sizes, decoder_dim=8, decoder_groups=2, decoder_layers=2))
    about = {"config": {}, "counters": {"updates": 5}, "metrics": {}}
    write_checkpoint(tmp_path / "trained", about, tensors={MODEL: student.state_dict()})
    recorder = new_recorder()
    ours = train(
        config, tmp_path / "run", init_from=tmp_path / "trained", recorder=recorder,
        control=stop_after(),
    )  # fmt: skip
    for name, tensor in student.state_dict().items():
        if not name.startswith("decoder."):
            torch.testing.assert_close(ours[f"encoder.{name}"], tensor, atol=1e-9, rtol=0)
    (notice,) = [event for event in recorder.of(Noticed) if event.kind == "init-from"]
    assert "; new: head.bias; head.weight; " in notice.message
    assert "not used: decoder." in notice.message


def test_it_computes_what_data2vec_does(ctc_config):
    torch.manual_seed(0)
    model = open_recipe(ctc_config("ctc_data2vec2")).build_model().double().eval()
    wave = torch.randn(1, 6_000, dtype=torch.float64)
    ours, lengths = model.encode(wave[..., None], torch.tensor([6_000]))
    theirs = model.encoder.layer_features(wave)[-1]
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert lengths.tolist() == [theirs.shape[1]]
