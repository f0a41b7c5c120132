"""Claims about the transducer recipe: padding and packing change nothing, resume is exact, it learns."""

from __future__ import annotations

import pickle

import pytest
import soundfile
import torch

from engine.batching.items import ItemDraw, MicroBatch
from engine.config.errors import ConfigError
from engine.recipes.base import StepContext
from engine.recipes.registry import open_recipe
from engine.recipes.transducer.recipe import TransducerRecipe
from engine.training.trainer import Trainer
from engine.training.validator import evaluation_mode

RATE = 8_000


def draws(*indices: int, epoch: int = 0) -> tuple[ItemDraw, ...]:
    return tuple(ItemDraw(epoch, index) for index in indices)


def test_items_are_padded_to_the_shape_and_lengths_tell_what_is_real(speech_config):
    recipe = open_recipe(speech_config())
    assert isinstance(recipe, TransducerRecipe)
    batch = recipe.fetch("train", MicroBatch(draws(0, 3), (2.0, 40))).tensors
    assert batch["feat"].shape == (2, 1 + (16_000 - 256) // 80, 16)
    assert batch["token"].shape == (2, 40)
    sizes = recipe.sizes("train")
    assert batch["token_length"].tolist() == [int(sizes[0, 1]), int(sizes[3, 1])]
    for row, length in enumerate(batch["feat_length"].tolist()):
        assert (batch["feat"][row, length:] == 0).all()
    free = recipe.fetch("train", MicroBatch(draws(0, 3))).tensors
    assert free["feat"].shape[1] == int(batch["feat_length"].max())
    assert free["token"].shape[1] == int(batch["token_length"].max())


def test_sizes_are_seconds_and_tokens(speech_config, tones):
    recipe = open_recipe(speech_config())
    sizes = recipe.sizes("valid")
    info = [soundfile.info(tones / f"valid-{number}.wav") for number in range(4)]
    assert sizes[:, 0].tolist() == pytest.approx([item.duration for item in info])
    assert sizes[:, 1].tolist() == [7, 3, 11, 15]
    assert len(open_recipe(speech_config(validation={"max_items": 2})).sizes("valid")) == 2


@pytest.mark.parametrize(
    ("validation", "told"),
    [
        ({"clips": 2}, "produces no audio"),
        ({"full_files": True}, "is always evaluated on whole files"),
    ],
)
def test_what_speech_has_no_use_for_is_refused(speech_config, validation, told):
    with pytest.raises(ConfigError, match=told):
        speech_config(validation=validation)


def test_masks_follow_seed_epoch_and_item_and_spare_validation(speech_config):
    recipe = open_recipe(speech_config())
    one = recipe.fetch("train", MicroBatch(draws(2, 5, epoch=1))).tensors["feat"]
    again = open_recipe(speech_config()).fetch("train", MicroBatch(draws(5, 2, epoch=1)))
    assert torch.equal(one, again.tensors["feat"].flip(0))
    other = recipe.fetch("train", MicroBatch(draws(2, 5, epoch=2))).tensors["feat"]
    assert not torch.equal(one, other)
    valid = recipe.fetch("valid", MicroBatch(draws(1, epoch=1))).tensors["feat"]
    assert torch.equal(valid, recipe.fetch("valid", MicroBatch(draws(1))).tensors["feat"])


def test_a_reader_process_reads_the_same(speech_config):
    recipe = open_recipe(speech_config())
    recipe.build_model()
    sent = pickle.loads(pickle.dumps(recipe))
    ours = recipe.fetch("train", MicroBatch(draws(0, 1))).tensors
    theirs = sent.fetch("train", MicroBatch(draws(0, 1))).tensors
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def losses_and_gradients(config, packs, dtype=torch.float64):
    """Return the loss of items 0 to 4 and the gradients, packed in some way."""
    recipe = open_recipe(config)
    torch.manual_seed(0)
    model = recipe.build_model().to(dtype)
    total = torch.zeros((), dtype=dtype)
    weight = torch.zeros(())
    for indices, shape in packs:
        output = recipe.step(
            model, recipe.fetch("train", MicroBatch(draws(*indices), shape)), context=StepContext()
        )
        output.loss_sum.backward()
        total, weight = total + output.loss_sum.detach(), weight + output.weight
    return total, weight, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("kind", ["conformer_rnnt", "emformer_rnnt", "waveform_rnnt"])
@pytest.mark.parametrize(
    "packs",
    [
        [((0, 1, 2, 3, 4), (3.0, 60.0))],
        [((3, 0), ()), ((4,), ()), ((1, 2), ())],
        [((2,), (1.5, 20.0)), ((4, 3, 1, 0), (2.0, 30.0))],
    ],
)
def test_padding_and_packing_change_no_gradient(speech_config, kind, packs):
    config = speech_config(kind)
    # torchaudio's Emformer takes the softmax of its attention in float32.
    tolerance = 2e-5 if kind == "emformer_rnnt" else 1e-8
    loss, weight, grads = losses_and_gradients(config, [((0, 1, 2, 3, 4), ())])
    other_loss, other_weight, other_grads = losses_and_gradients(config, packs)
    assert weight == other_weight == 5
    torch.testing.assert_close(other_loss, loss, rtol=tolerance, atol=tolerance)
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_splitting_changes_no_gradient(speech_config, dtype, tolerance):
    packs = [((0, 1, 2, 3, 4), ())]
    loss, _, grads = losses_and_gradients(speech_config(), packs, dtype)
    split = speech_config(batch={"split": 3})
    split_loss, _, split_grads = losses_and_gradients(split, packs, dtype)
    torch.testing.assert_close(split_loss, loss, rtol=tolerance, atol=tolerance)
    scale = max(float(grad.abs().max()) for grad in grads.values())
    for name, grad in grads.items():
        difference = float((split_grads[name] - grad).abs().max())
        assert difference <= tolerance * scale, name


def test_the_worst_batch_is_as_large_as_the_largest(speech_config):
    recipe = open_recipe(speech_config())
    sizes = recipe.sizes("train")
    worst = recipe.worst_batch(3).tensors
    assert worst["token"].shape == (3, int(sizes[:, 1].max()))
    longest = int(sizes[:, 0].argmax())
    real = recipe.fetch("train", MicroBatch(draws(longest))).tensors
    assert worst["feat"].shape[1:] == real["feat"].shape[1:]
    told = recipe.worst_batch(2, (3.0, 17.0)).tensors
    assert told["feat"].shape[:2] == (2, 1 + (24_000 - 256) // 80)
    assert told["token_length"].tolist() == [17, 17]
    model = recipe.build_model()
    assert recipe.step(model, recipe.worst_batch(2), context=StepContext()).loss_sum.isfinite()


def test_an_evaluation_counts_edits_over_all_items(speech_config, monkeypatch):
    recipe = open_recipe(speech_config())
    said = {7: "low", 3: "mid", 11: "top low mid", 15: "mid low top top top"}

    def script(model, enc, lengths, most):
        return [recipe._tokenizer.encode(text) for text in script.texts.pop(0)]

    # Longest first, three at once.
    script.texts = [[said[15], said[11], said[7]], [said[3]]]
    monkeypatch.setattr("engine.recipes.transducer.recipe.greedy", script)
    model = recipe.build_model()
    with evaluation_mode(model, seed=0):
        found = recipe.evaluate(model, torch.device("cpu"))
    # low top / low: 1 deletion. mid mid low top / mid low top top top: 1 deletion, 2 insertions.
    assert found.metrics["wer"] == pytest.approx(4 / 10)
    assert found.items["wer"].tolist() == pytest.approx([1 / 2.5, 0, 0, 3 / 2.5])
    for name in ("val_loss", "wer", "cer"):
        assert found.items[name].mean() == pytest.approx(found.metrics[name])
    assert found.num_items == 4
    other = open_recipe(speech_config(validation={"max_items": 3}))
    assert found.items_key != other._items_key


def test_batches_of_validation_change_nothing(speech_config):
    found = []
    for count in (1, 4):
        recipe = open_recipe(speech_config(validation={"batch_items": count}))
        torch.manual_seed(0)
        model = recipe.build_model()
        with evaluation_mode(model, seed=0):
            found.append(recipe.evaluate(model, torch.device("cpu")))
    assert found[0].items["val_loss"] == pytest.approx(found[1].items["val_loss"], rel=1e-4)
    assert found[0].items["wer"].tolist() == found[1].items["wer"].tolist()
    assert found[0].items_key == found[1].items_key


@pytest.mark.parametrize("kind", ["conformer_rnnt", "emformer_rnnt"])
def test_a_resumed_run_is_the_run(
    speech_config, tmp_path, stop_after, recorder, checkpoint_tensors, kind
):
    config = speech_config(kind, model={"dropout": 0.2, "lstm_dropout": 0.2}, batch={"split": 2})
    for name, stops in (("whole", [99]), ("halted", [3, 99])):
        for updates in stops:
            Trainer(
                config, open_recipe(config), folder=tmp_path / name,
                observers=[recorder], control=stop_after(updates),
            ).fit()  # fmt: skip
    last = [tmp_path / name / "checkpoints" / "last-00000006" for name in ("whole", "halted")]
    whole, halted = (checkpoint_tensors(next(folder.parent.glob("last-*6"))) for folder in last)
    assert whole.keys() == halted.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, halted[name]), name


@pytest.mark.slow
def test_it_learns_to_name_tones(speech_config, tones, tmp_path, stop_after, new_recorder):
    recorder = new_recorder()
    config = speech_config(
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


def test_the_loss_must_fit_the_task(speech_config, make_config):
    with pytest.raises(
        ConfigError,
        match=r"loss.kind = 'l1' trains separation, but data.kind = 'speech' is for ctc or "
        "transducer; set loss.kind to rnnt or ctc, or leave it out for rnnt",
    ):
        speech_config(loss={"kind": "l1"})
    with pytest.raises(
        ConfigError,
        match=r"loss.kind = 'rnnt' trains transducer, but data.kind = 'stems' is for separation; "
        "set loss.kind to spectral or si_sdr or l1, or leave it out for spectral",
    ):
        make_config(loss={"kind": "rnnt"})
