"""Claims about the CTC recipe: padding and packing change nothing, resume is exact, it learns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from engine.batching.items import ItemDraw, MicroBatch
from engine.programs import transcribe
from engine.recipes.base import StepContext
from engine.recipes.registry import open_recipe
from engine.training.trainer import Trainer
from engine.training.validator import evaluation_mode


def draws(*indices: int, epoch: int = 0) -> tuple[ItemDraw, ...]:
    return tuple(ItemDraw(epoch, index) for index in indices)


def losses_and_gradients(config, packs):
    """Return the loss of items 0 to 4, its weight and the gradients, packed in some way."""
    recipe = open_recipe(config)
    torch.manual_seed(0)
    model = recipe.build_model().double()
    total, weight = torch.zeros((), dtype=torch.float64), torch.zeros(())
    for indices, shape in packs:
        output = recipe.step(
            model, recipe.fetch("train", MicroBatch(draws(*indices), shape)), context=StepContext()
        )
        output.loss_sum.backward()
        total, weight = total + output.loss_sum.detach(), weight + output.weight
    return total, weight, {name: p.grad for name, p in model.named_parameters()}


ENCODERS = [
    ("ctc_conformer", {}),
    ("ctc_encoder", {"extractor_norm": "layer_norm"}),
    ("ctc_encoder", {"extractor_norm": "group_norm"}),
    ("ctc_data2vec2", {}),
]


@pytest.mark.parametrize(("kind", "model"), ENCODERS)
@pytest.mark.parametrize(
    "packs",
    [
        [((0, 1, 2, 3, 4), (3.0, 60.0))],
        [((3, 0), ()), ((4,), ()), ((1, 2), ())],
        [((2,), (1.5, 20.0)), ((4, 3, 1, 0), (2.0, 30.0))],
    ],
)
def test_padding_and_packing_change_no_gradient(ctc_config, packs, kind, model):
    config = ctc_config(kind, model=model)
    loss, weight, grads = losses_and_gradients(config, [((0, 1, 2, 3, 4), ())])
    other_loss, other_weight, other_grads = losses_and_gradients(config, packs)
    assert weight == other_weight == 5
    torch.testing.assert_close(other_loss, loss, rtol=1e-8, atol=1e-8)
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, rtol=1e-8, atol=1e-8)


def test_utterances_without_an_alignment_are_counted_and_weigh_nothing(ctc_config):
    # 16 frames of 10 ms are one of the encoder: no text of two characters or more fits.
    config = ctc_config(model={"stride": 16})
    recipe = open_recipe(config)
    torch.manual_seed(0)
    model = recipe.build_model()
    output = recipe.step(
        model, recipe.fetch("train", MicroBatch(draws(0, 1, 2, 3))), context=StepContext()
    )
    part, whole = output.metrics["unalignable"]
    assert part > 0
    assert whole == 4
    assert output.weight == whole - part
    assert output.loss_sum.isfinite()
    with evaluation_mode(model, seed=0):
        found = recipe.evaluate(model, torch.device("cpu"))
    absent = np.isnan(found.items["val_loss"])
    assert absent.any()
    assert found.num_excluded == absent.sum()
    assert np.isfinite(found.items["wer"]).all()


@pytest.mark.parametrize("kind", ["ctc_conformer", "ctc_encoder", "ctc_data2vec2"])
def test_a_resumed_run_is_the_run(
    ctc_config, tmp_path, stop_after, recorder, checkpoint_tensors, kind
):
    drops = {} if kind == "ctc_conformer" else {"layer_drop": 0.5}
    config = ctc_config(kind, model={"dropout": 0.2, **drops})
    for name, stops in (("whole", [99]), ("halted", [3, 99])):
        for updates in stops:
            Trainer(
                config, open_recipe(config), folder=tmp_path / name,
                observers=[recorder], control=stop_after(updates),
            ).fit()  # fmt: skip
    whole, halted = (
        checkpoint_tensors(next((tmp_path / name / "checkpoints").glob("last-*6")))
        for name in ("whole", "halted")
    )
    assert whole.keys() == halted.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, halted[name]), name


def test_an_output_that_is_not_finite_is_a_bad_item(ctc_config):
    recipe = open_recipe(ctc_config())
    model = recipe.build_model()
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with evaluation_mode(model, seed=0):
        found = recipe.evaluate(model, torch.device("cpu"))
    assert found.items["non_finite"].all()
    assert found.metrics["wer"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ctc_conformer", "ctc_encoder", "ctc_data2vec2"])
def test_it_learns_to_name_tones_and_transcribes(
    ctc_config, tones, tmp_path, stop_after, new_recorder, capsys, kind
):
    recorder = new_recorder()
    # Masks are for encoders that know something; one layer of 16 channels is too small for them.
    masks = {"time_mask_prob": 0.0, "channel_mask_prob": 0.0}
    first = {"layer_norm_first": True} if kind == "ctc_encoder" else {}
    config = ctc_config(
        kind, model={} if kind == "ctc_conformer" else {**masks, **first},
        batch={"items": 12, "micro_batch": 12}, schedule={"length": "150 updates", "kind": "cosine"},
        validation={"every": "150 updates"}, checkpoint={"every": "150 updates"},
        data={"time_masks": 0, "freq_masks": 0, "valid": str(tones / "train.jsonl")},
        ema={"enabled": False},
    )  # fmt: skip
    Trainer(
        config, open_recipe(config), folder=tmp_path, observers=[recorder], control=stop_after(999)
    ).fit()
    wer = [event.metrics["wer"] for event in recorder.events if hasattr(event, "items_key")]
    assert wer[-1] <= 0.2
    manifest = str(tones / "train.jsonl")
    found = {}
    for beam in ("1", "4"):
        options = ["--device", "cpu", "--json", "--beam", beam]
        assert transcribe.main([str(tmp_path), manifest, *options]) == 0
        found[beam] = json.loads(capsys.readouterr().out)["wer"]
    assert found["1"] == pytest.approx(wer[-1])
    assert found["4"] <= 0.2
    assert transcribe.main([str(tmp_path), manifest, "--device", "cpu", "--stream"]) == 2
    assert "needs the whole utterance and can't stream" in capsys.readouterr().err


def test_short_audio_is_transcribed(ctc_config, tmp_path, tones, capsys):
    from engine.checkpoints.files import MODEL, write_checkpoint

    config = ctc_config()
    model = open_recipe(config).build_model()
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, {"config": config.to_dict()}, tensors={MODEL: model.state_dict()})
    sound = tmp_path / "short.wav"
    soundfile.write(sound, np.zeros(3), 8_000)
    for beam in ("1", "3"):
        assert transcribe.main([str(folder), str(sound), "--device", "cpu", "--beam", beam]) == 0
    assert capsys.readouterr().out.startswith(f"{sound}: ")
