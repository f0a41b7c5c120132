"""Claims about the recipe `hubert`: its numbers, its keyed masks, and that splitting changes nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.checkpoints.recipe_files import RecipeState
from engine.clustering.report import ClusterReport
from engine.config.errors import ConfigError
from engine.metrics.registry import metric_of
from engine.recipes.base import (
    LooksAhead,
    MeasuresTraining,
    RunsStages,
    StepContext,
)
from engine.recipes.datasets import Datasets
from engine.recipes.self_supervised.hubert import HubertRecipe
from engine.recipes.self_supervised.masked_prediction import NO_FRAME, entropy, is_correct
from tests.pretraining import MadeUpTargets, pretraining, write_audio
from tests.updates import assert_equal_updates, make_update

CPU = torch.device("cpu")
PADDED = {"fit": "pad", "normalize_waveform": True}
LAYER_NORM = {"extractor_norm": "layer_norm", "layer_norm_first": True, "feature_grad_scale": 1.0}


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """A folder of short files."""
    return write_audio(tmp_path_factory.mktemp("unlabelled"))


def recipe_of(config):
    return HubertRecipe(
        config, datasets=Datasets(config), targets=MadeUpTargets(config.loss.clusters)
    )


def padded(audio, **sections):
    """Return a run whose items keep their lengths."""
    data, model = sections.pop("data", {}), sections.pop("model", {})
    return pretraining(audio, data={**PADDED, **data}, model={**LAYER_NORM, **model}, **sections)


def model_of(recipe, seed=0):
    torch.manual_seed(seed)
    return recipe.build_model()


def batch_of(recipe, *items, epoch=0, shape=(2.0,)):
    return recipe.fetch("train", MicroBatch(tuple(ItemDraw(epoch, i) for i in items), shape))


def update(config, batches):
    """Return the loss, the gradients and the curves of an update."""
    recipe = recipe_of(config)
    model = model_of(recipe).double()
    batches = [Batch({**b.tensors, "wave": b.tensors["wave"].double()}) for b in batches(recipe)]
    return make_update(recipe, model, batches, config=config)


NORMALIZE = pytest.mark.parametrize("normalize", ["masked", "sequence", "separate"])


@NORMALIZE
@pytest.mark.parametrize("frames", ["all", "weighted"])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (1.0, 0.3), (0.0, 0.5)])
def test_accumulation_is_one_batch(audio, normalize, frames, weights):
    loss = {
        "normalize": normalize, "penalty_frames": frames, "masked_weight": weights[0],
        "unmasked_weight": weights[1],
    }  # fmt: skip
    config = padded(audio, loss=loss, model={"layer_drop": 0.4})
    one = update(config, lambda recipe: [batch_of(recipe, *range(8))])
    several = update(
        config,
        lambda recipe: [
            batch_of(recipe, 5),
            batch_of(recipe, 0, 3, 7, 1),
            batch_of(recipe, 2, 4, 6),
        ],
    )
    assert_equal_updates(several, one)


@NORMALIZE
def test_the_loss_is_what_its_settings_say(audio, normalize):
    loss = {
        "normalize": normalize, "unmasked_weight": 0.3, "penalty": 2.0, "penalty_frames": "weighted",
    }  # fmt: skip
    config = pretraining(audio, loss=loss, model={"layer_drop": 0.0})
    recipe = recipe_of(config)
    model = model_of(recipe)
    batch = batch_of(recipe, 0, 1, 2, shape=(1.0,))
    label, mask = batch.tensors["label"], batch.tensors["mask"]
    frames = model.frames(batch.tensors["wave"], mask_BL=mask)
    terms = torch.nn.functional.cross_entropy(
        model.logits(frames.context.flatten(0, 1)), label.flatten(), reduction="none"
    ).view_as(label)
    masked, unmasked = terms[mask].sum(), terms[~mask].sum()
    num_masked, num_unmasked = mask.sum(), (~mask).sum()
    expected = {
        "masked": (masked + 0.3 * unmasked) / num_masked,
        "sequence": (masked + 0.3 * unmasked) / (num_masked + num_unmasked),
        "separate": masked / num_masked + 0.3 * unmasked / num_unmasked,
    }[normalize] + 2.0 * frames.local.square().mean()
    output = recipe.step(model, batch, context=StepContext())
    torch.testing.assert_close(output.loss_sum / output.weight, expected, rtol=1e-5, atol=0)
    metrics = {name: (total / weight).item() for name, (total, weight) in output.metrics.items()}
    assert metrics["masked_loss"] == pytest.approx((masked / num_masked).item(), rel=1e-5)
    assert metrics["unmasked_loss"] == pytest.approx((unmasked / num_unmasked).item(), rel=1e-5)
    assert metrics["masked_share"] == pytest.approx(mask.float().mean().item())


def test_the_penalty_is_a_mean_over_the_frames_that_are_asked_for(audio):
    energies = {}
    for frames in ("all", "weighted"):
        config = pretraining(audio, loss={"penalty_frames": frames, "penalty": 1.0})
        recipe = recipe_of(config)
        model = model_of(recipe)
        batch = batch_of(recipe, 0, 1, 2, shape=(1.0,))
        total, weight = recipe.step(model, batch, context=StepContext()).metrics["penalty"]
        local = model.frames(batch.tensors["wave"]).local.square().mean(dim=2)
        chosen = local if frames == "all" else local[batch.tensors["mask"]]
        energies[frames] = (total / weight).item()
        assert energies[frames] == pytest.approx(chosen.mean().item(), rel=1e-5)
    assert energies["all"] != energies["weighted"]


def test_ties_are_wrong():
    logits = torch.tensor(
        [[1.0, 3.0, 2.0], [1.0, 3.0, 3.0], [0.0, 0.0, 0.0], [5.0, 1.0, 1.0], [np.nan, 1.0, 0.0]]
    )
    labels = torch.tensor([1, 1, 2, 0, 1])
    assert is_correct(logits, labels).tolist() == [True, False, False, True, False]
    assert is_correct(logits, torch.tensor([0, 2, 0, 1, 0])).tolist() == [False] * 5


def test_accuracies_by_hand(audio):
    """A network whose logits are given: 3 of 4 masked frames right, one tie; 1 of 2 others right."""
    recipe = recipe_of(pretraining(audio, loss={"clusters": 3}))
    model = model_of(recipe)
    label = torch.tensor([[0, 1, 2, 0, 1, 2, NO_FRAME]])
    mask = torch.tensor([[True, True, True, True, False, False, True]])
    given = torch.tensor(
        [[9, 0, 0], [0, 9, 0], [0, 0, 9], [9, 9, 0], [0, 9, 0], [9, 0, 0], [9, 0, 0]]
    ).float()
    model.logits = lambda context: given + 0.0 * context.sum()
    samples = 400 + 6 * 320
    batch = Batch(
        {"wave": torch.randn(1, samples), "label": label, "mask": mask, "runs": torch.tensor([1])}
    )
    metrics = recipe.step(model, batch, context=StepContext()).metrics
    rates = {name: (total.item(), weight.item()) for name, (total, weight) in metrics.items()}
    assert rates["masked_accuracy"] == (3.0, 4.0)
    assert rates["unmasked_accuracy"] == (1.0, 2.0)
    assert rates["masked_share"] == (4.0, 6.0)
    assert rates["mask_run"] == (4.0, 1.0)


def test_padding_changes_no_number(audio):
    config = padded(audio)
    recipe = recipe_of(config)
    model = model_of(recipe)
    short, long = batch_of(recipe, 0, shape=(1.0,)), batch_of(recipe, 0, shape=(3.5,))
    assert long.tensors["wave"].shape[1] == 3.5 * short.tensors["wave"].shape[1]
    outputs = [recipe.step(model, batch, context=StepContext()) for batch in (short, long)]
    torch.testing.assert_close(outputs[0].loss_sum, outputs[1].loss_sum, rtol=1e-5, atol=0)
    for name in outputs[0].metrics:
        for one, other in zip(*(output.metrics[name] for output in outputs), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_labels_and_masks_follow_the_crop_and_nothing_else(audio):
    recipe = recipe_of(pretraining(audio))
    whole = batch_of(recipe, 0, 2, 5, shape=(1.0,)).tensors
    alone = batch_of(recipe, 2, shape=(1.0,)).tensors
    for name, tensor in alone.items():
        assert torch.equal(tensor[0], whole[name][1]), name
    other = batch_of(recipe, 2, epoch=1, shape=(1.0,)).tensors
    assert not torch.equal(other["mask"], alone["mask"])
    assert not torch.equal(other["label"], alone["label"])
    # The labels are those of the crop's frames: the wave at frame k was labelled so in the item.
    every = MadeUpTargets(10).labels("train", 2, first_frame=0, frames=99)
    starts = [s for s in range(51) if np.array_equal(every[s : s + 49], alone["label"][0])]
    assert len(starts) == 1


def test_layers_are_skipped_in_training_alone(audio):
    config = pretraining(audio, model={"layer_drop": 0.9, "layers": 2})
    recipe = recipe_of(config)
    model = model_of(recipe)
    batch = batch_of(recipe, 0, 1, shape=(1.0,))
    step = lambda number: recipe.step(model, batch, context=StepContext(update=number)).loss_sum  # noqa: E731
    losses = [step(number).item() for number in range(8)]
    assert losses[0] not in losses[1:]
    assert len(set(losses)) > 1
    assert [step(number).item() for number in range(8)] == losses


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_an_evaluation_is_the_sums_of_its_items(audio, fit):
    make = padded if fit == "pad" else pretraining
    config = make(audio, loss={"unmasked_weight": 0.2}, validation={"batch_items": 3})
    recipe = recipe_of(config)
    model = model_of(recipe).eval()
    state = torch.get_rng_state()
    found = recipe.evaluate(model, CPU)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.num_items == 8
    for name, values in found.items.items():
        assert values.mean() == pytest.approx(found.metrics[name], rel=1e-6)
    again = recipe_of(
        make(audio, loss={"unmasked_weight": 0.2}, validation={"batch_items": 1})
    ).evaluate(model, CPU)
    for name, value in again.metrics.items():
        assert value == pytest.approx(found.metrics[name], rel=2e-5), name
    assert again.items_key == found.items_key
    assert found.metrics["val_loss"] == pytest.approx(
        found.metrics["val_masked_loss"]
        + found.metrics["val_penalty"]
        + 0.2
        * found.metrics["val_unmasked_loss"]
        * (1 - found.metrics["val_masked_share"])
        / found.metrics["val_masked_share"],
        rel=1e-5,
    )
    assert 0 < found.metrics["val_masked_share"] < 1
    assert found.metrics["val_clusters_used"] == 10
    assert found.metrics["val_label_entropy"] == pytest.approx(np.log(10), abs=0.05)


def test_validation_masks_are_the_same_whatever_the_seed(audio):
    batches = []
    for seed in (0, 1):
        config = pretraining(audio).model_copy(update={"seed": seed})
        batches.append(recipe_of(config).fetch("valid", MicroBatch((ItemDraw(0, 3),), (1.0,))))
    assert torch.equal(*(batch.tensors["mask"] for batch in batches))


def test_an_item_that_is_not_finite_counts_as_worst(audio):
    recipe = recipe_of(pretraining(audio))
    model = model_of(recipe).eval()
    with torch.no_grad():
        model.label_embeddings[0] = torch.nan
    found = recipe.evaluate(model, CPU)
    assert found.metrics["val_loss"] == np.inf
    assert found.metrics["val_masked_accuracy"] == 0.0


def test_entropy_of_labels():
    assert entropy(torch.tensor([1.0, 1.0, 2.0, 0.0])).item() == pytest.approx(1.5 * np.log(2))
    assert entropy(torch.zeros(3)).item() == 0.0


def test_the_reference_line_is_that_of_all_training_labels(audio):
    recipe = recipe_of(pretraining(audio))
    model, batch = model_of(recipe), batch_of(recipe, 0, 1, shape=(1.0,))

    def reference():
        metrics = recipe.step(model, batch, context=StepContext()).metrics
        return [(metrics[n][0] / metrics[n][1]).item() for n in ("label_entropy", "clusters_used")]

    assert all(np.isnan(value) for value in reference())
    report = ClusterReport.of(np.array([500, 250, 250, 0]), distance_sum=1.0)
    recipe.use("labels", RecipeState({}, {"report": report.to_dict()}))
    assert reference() == [pytest.approx(1.5 * np.log(2)), 3.0]


def test_every_curve_is_declared(audio):
    recipe = recipe_of(pretraining(audio))
    assert isinstance(recipe, LooksAhead)
    assert isinstance(recipe, MeasuresTraining)
    assert isinstance(recipe, RunsStages)
    curves = recipe.training_metrics
    for name, unit in curves.items():
        assert metric_of(name).of_training, name
        assert metric_of(name).stored_unit == unit, name
    evaluated = recipe.evaluate(model_of(recipe).eval(), CPU).metrics
    assert evaluated.keys() == {"val_loss", *(f"val_{name}" for name in curves)}
    for name in evaluated:
        assert not metric_of(name).of_training, name


def test_a_worst_batch_needs_no_targets_and_has_the_shape(audio):
    recipe = recipe_of(pretraining(audio))
    recipe._targets = None
    batch = recipe.worst_batch(3, (1.5,))
    assert batch.tensors["wave"].shape == (3, 24_000)
    assert batch.tensors["label"].shape == batch.tensors["mask"].shape == (3, 74)
    assert recipe.step(model_of(recipe), batch, context=StepContext()).loss_sum.isfinite()
    assert recipe.worst_batch(1).tensors["wave"].shape == (1, 32_000)


def test_a_reader_process_can_have_the_recipe(audio):
    recipe = recipe_of(pretraining(audio))
    expected = batch_of(recipe, 1, 4, shape=(1.0,)).tensors
    sent = pickle.loads(pickle.dumps(recipe))
    for name, tensor in batch_of(sent, 1, 4, shape=(1.0,)).tensors.items():
        assert torch.equal(tensor, expected[name])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": LAYER_NORM},
            "layer_norm.*waveforms of unit variance.*data.normalize_waveform = true",
        ),
        ({"data": PADDED}, "group_norm.*padding of data.fit = 'pad'.*data.fit = 'crop'"),
        ({"model": {"conv_strides": [5, 2, 2, 2, 2, 2, 1]}}, "every 160 samples.*grid of 320"),
        ({"loss": {"masked_weight": 0.0}}, "no cluster would be learnt"),
        ({"loss": {"clusters": 1}}, "clusters"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_reason(audio, sections, message):
    with pytest.raises(ConfigError, match=message):
        pretraining(audio, **sections)
