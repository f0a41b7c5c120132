"""The voice recipe: losses of any split, real places only, reference clips, batches, evaluation, refusals."""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.errors import ConfigError, DataError
from engine.recipes.base import Opening, StepContext
from engine.recipes.registry import open_recipe
from engine.recipes.voice.place_sums import sequences_of
from engine.recipes.voice.references import _cut
from engine.recipes.voice.voices_stage import code_entropy, histogram_loss
from engine.tuning.law import Probe, fit_law
from engine.tuning.measuring import Subject
from tests.engine.recipes.voice.fakes.updates import opened, update
from tests.updates import SPLITS, assert_equal_updates

CPU = torch.device("cpu")


def draws(*items: int, epoch: int = 0) -> tuple[ItemDraw, ...]:
    return tuple(ItemDraw(epoch, item) for item in items)


@pytest.mark.parametrize("weights", [(0.5, 1.0), (1.0, 0.01), (0.01, 1.0), (0.0, 2.0), (1.0, 0.0)])
def test_any_split_makes_the_update_of_one_batch(
    make: Any, tmp_path: Path, weights: tuple[float, float]
) -> None:
    config = make(loss={"text_loss_weight": weights[0], "mel_loss_weight": weights[1]})
    whole = update(config, "one batch", tmp_path)
    for name in SPLITS:
        assert_equal_updates(update(config, name, tmp_path), whole)


def test_losses_are_means_over_real_places_and_stop_is_predicted_once(
    make: Any, codec: Path, tmp_path: Path
) -> None:
    recipe, model = opened(make(), tmp_path)
    items = (3, 11, 7)
    wide = recipe.fetch("train", MicroBatch(draws(*items), (1.9, 14.0)))
    assert wide.tensors["text"].shape == (3, 14)
    assert wide.tensors["code"].shape == (3, recipe._codes.facts.codes_of(round(1.9 * 8_000)))
    output = recipe.step(model, wide, context=StepContext(update=1))
    text_sum = mel_sum = texts = mels = 0.0
    for item in items:
        one = recipe.fetch("train", MicroBatch(draws(item))).tensors
        assert one["text"].shape[1] == int(one["text_length"]) < 14
        with torch.no_grad():
            text, code = model(model.reference_vectors(one["reference"]), sequences_of(Batch(one)))
        wanted_text = torch.cat([one["text"][0], torch.tensor([0])])
        wanted_code = torch.cat([one["code"][0], torch.tensor([model.code_stop])])
        text_sum += float(cross_entropy(text[0], wanted_text, reduction="sum"))
        mel_sum += float(cross_entropy(code[0], wanted_code, reduction="sum"))
        texts, mels = texts + len(wanted_text), mels + len(wanted_code)
    values = {name: (float(s.detach()), float(w)) for name, (s, w) in output.metrics.items()}
    assert values["text_loss"] == (pytest.approx(text_sum, rel=1e-4), texts)
    assert values["mel_loss"] == (pytest.approx(mel_sum, rel=1e-4), mels)
    loss = float((output.loss_sum / output.weight).detach())
    assert loss == pytest.approx(mel_sum / mels + 0.5 * text_sum / texts, rel=1e-4)
    assert values["code_entropy"][0] / values["code_entropy"][1] == pytest.approx(recipe._entropy)


def test_clips_are_of_other_utterances_of_the_speaker_and_drawn_anew_each_epoch(
    make: Any, codec: Path, tmp_path: Path
) -> None:
    recipe, _ = opened(make(), tmp_path)
    references, items = recipe._references, recipe._dataset("train").utterances
    for split in ("train", "valid"):
        own = recipe._dataset(split).utterances  # type: ignore[arg-type]
        for index, item in enumerate(own):
            side, others = references.candidates(split, index)  # type: ignore[arg-type]
            found = {recipe._dataset(side).utterances[k].speaker for k in others}
            assert found == {item.speaker}
            if item.speaker != "once":
                assert (side, index not in others) == (split, True)
                assert len(others) == sum(one.speaker == item.speaker for one in own) - 1
    (alone,) = [k for k, item in enumerate(items) if item.speaker == "once"]
    assert references.candidates("train", alone) == ("train", [alone])
    assert Counter(item.speaker for item in items)["loud"] > 20

    def clips(epoch: int, *, seed: int = 0, split: Any = "train") -> torch.Tensor:
        other, _ = opened(make(seed=seed), tmp_path)
        return other.fetch(split, MicroBatch(draws(3, epoch=epoch))).tensors["reference"]

    assert clips(0).shape == (1, 2, 20, recipe._references.num_frames)
    assert torch.equal(clips(0), clips(0))
    assert not torch.equal(clips(0), clips(1))
    assert not torch.equal(clips(0), clips(0, seed=1))
    assert torch.equal(clips(0, split="valid"), clips(0, seed=1, split="valid"))
    # 0.4 s of a clip are its own frames, repeated where the utterance is shorter.
    wave = np.arange(1_000, dtype=np.float32)
    assert _cut(wave, 3_200, start=300).tolist()[:701] == [*range(300, 1_000), 300]


def test_an_evaluation_is_of_all_places_and_the_same_each_time(
    make: Any, codec: Path, tmp_path: Path
) -> None:
    recipe, model = opened(make(), tmp_path)
    model.eval()
    with torch.no_grad():
        found, again = recipe.evaluate(model, CPU), recipe.evaluate(model, CPU)
        assert found.metrics == again.metrics
        assert found.items_key == again.items_key
        sums = {"mel_loss": [0.0, 0.0], "text_loss": [0.0, 0.0], "mel_accuracy": [0.0, 0.0]}
        for item in range(6):
            batch = recipe.fetch("valid", MicroBatch(draws(item)))
            output = recipe.step(model, batch, context=StepContext(split="valid"))
            for name, total in sums.items():
                total[0] += float(output.metrics[name][0])
                total[1] += float(output.metrics[name][1])
    for name, (total, weight) in sums.items():
        assert found.metrics[f"val_{name}"] == pytest.approx(total / weight, rel=1e-4)
    wanted = found.metrics["val_mel_loss"] + 0.5 * found.metrics["val_text_loss"]
    assert found.metrics["val_loss"] == pytest.approx(wanted)
    assert found.items["val_mel_loss"].mean() == pytest.approx(found.metrics["val_mel_loss"])
    # Three texts are spoken, two of them kept.
    assert np.isfinite(found.items["length_ratio"]).tolist() == [True] * 3 + [False] * 3
    assert [clip.item for clip in found.clips] == [0, 1]
    codes = recipe._codes.codes("valid", 0)
    per_code = recipe._codes.facts.samples_per_code
    signals = found.clips[0].signals
    assert signals["target"].shape == (1, len(codes) * per_code)
    ratio = found.items["length_ratio"][0]
    assert signals["estimate"].shape[1] == round(ratio * len(codes)) * per_code
    other, _ = opened(make(data={"reference_s": 0.5}), tmp_path)
    assert other._items_key != recipe._items_key


def test_what_guessing_by_frequency_costs_is_that_of_the_training_codes_and_stop(
    make: Any, codec: Path, tmp_path: Path
) -> None:
    assert code_entropy(torch.tensor([2, 0, 1]), 1) == pytest.approx(1.5 * np.log(2))
    assert histogram_loss(torch.tensor([2, 0, 1]), 1) == pytest.approx(
        -np.log(np.array([3, 1, 2, 2]) / 8)
    )
    recipe, model = opened(make(), tmp_path)
    every = np.concatenate([recipe._codes.codes("train", k) for k in range(90)])
    share = np.append(np.bincount(every), 90.0)
    share = share[share > 0] / share.sum()
    assert recipe._entropy == pytest.approx(-(share * np.log(share)).sum())
    with torch.no_grad():
        found = recipe.evaluate(model.eval(), CPU).metrics
    cost = histogram_loss(torch.from_numpy(np.bincount(every, minlength=75)), 90)
    own = [recipe._codes.codes("valid", k) for k in range(6)]
    wanted = sum(cost[one].sum() + cost[-1] for one in own) / sum(len(one) + 1 for one in own)
    assert found["val_code_entropy"] == pytest.approx(wanted)


def test_sizes_are_seconds_and_tokens_and_a_reader_process_reads_the_same(
    make: Any, codec: Path, tmp_path: Path
) -> None:
    recipe, _ = opened(make(), tmp_path)
    sizes = recipe.sizes("train")
    items = recipe._dataset("train").utterances
    assert sizes[:, 1].tolist() == [len(item.text) for item in items]
    assert sizes[:, 0].tolist() == [item.duration_s for item in items]
    assert len(opened(make(validation={"max_items": 4}), tmp_path)[0].sizes("valid")) == 4
    other = pickle.loads(pickle.dumps(recipe))
    batch = MicroBatch(draws(5, 2, epoch=3), (1.5, 10.0))
    one, two = recipe.fetch("train", batch).tensors, other.fetch("train", batch).tensors
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_items_without_places_are_refused_and_the_text_says_what_to_set(
    make: Any, codec: Path, tmp_path: Path
) -> None:
    config = make(model={"max_text": 8, "max_codes": 20})
    with pytest.raises(DataError) as caught:
        opened(config, tmp_path)
    texts = [problem.message for problem in caught.value.problems]
    assert [problem.key for problem in caught.value.problems][:2] == ["data.train"] * 2
    assert (
        "have more than 6 tokens, START and STOP aside; the longest has 8. Set model.max_text = 10"
        in texts[0]
    )
    assert "have more than 18 codes" in texts[1]
    assert "or lower data.max_s to 0.9" in texts[1]
    # One setting is right for both parts of the data, and nothing was coded for it.
    settings = [re.findall(r"Set (\S+ = \d+)", text) for text in texts]
    assert len({(one,) for found in settings for one in found}) == 2
    assert not (tmp_path / "codes").exists()


def test_settings_that_do_not_fit_are_refused(make: Any, codec: Path) -> None:
    for changes, message in (
        ({"codec": None}, "codec names no run, and this run learns the codes"),
        ({"loss": {"text_loss_weight": 0.0, "mel_loss_weight": 0.0}}, "both 0, so nothing would be learnt"),
        ({"data": {"reference_s": 3.0}}, "longer than data.max_s = 2"),
        ({"data": {"rate_hz": 6_000}}, "supports 8000 to 48000 Hz"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            make(**changes)


def test_speakers_are_a_part_of_what_the_data_are(
    make: Any, codec: Path, speech: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (speech / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row.update(path=str(speech / row["path"]), speaker="all")
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one = open_recipe(make())
    two = open_recipe(make(data={"train": str(tmp_path / "train.jsonl")}))
    assert one.manifest("train") != two.manifest("train")
    assert one.manifest("valid") == two.manifest("valid")


def test_the_memory_law_predicts_other_batches_in_both_dimensions(
    make: Any, codec: Path, tmp_path: Path
) -> None:
    """Counted is what a step keeps for its backward pass; half the tokens at two lengths are probes, as in `tune`."""
    config = make(model={"max_text": 200, "max_codes": 200}, data={"max_s": 8.0})
    recipe = open_recipe(config, opening=Opening(None, {"codec": codec}))
    torch.manual_seed(0)
    network = recipe.build_model()

    def kept(count: int, seconds: float, tokens: float) -> int:
        storages: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        batch = recipe.worst_batch(count, (seconds, tokens))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            recipe.step(network, batch, context=StepContext(update=1))
        return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())

    # Of real data: longer speech has longer texts.
    pace = 12.0
    probes = [
        Probe(n, s, kept(n, s, s * pace), tokens=s * pace) for s in (1.0, 4.0, 8.0) for n in (1, 2)
    ]
    probes += [Probe(2, s, kept(2, s, s * pace / 2), tokens=s * pace / 2) for s in (8.0, 1.0)]
    law = fit_law(probes)
    for count, seconds in ((5, 1.5), (3, 6.0), (7, 2.5), (4, 8.0)):
        peak = law.peak(count, seconds, tokens=seconds * pace)
        assert peak == pytest.approx(kept(count, seconds, seconds * pace), rel=0.05)
    assert law.joint == 0
    # Texts half as long or twice as long as others of their duration.
    for count, seconds, tokens in ((4, 6.0, 36.0), (4, 4.0, 96.0), (6, 2.0, 48.0)):
        peak = law.peak(count, seconds, tokens=tokens)
        assert peak == pytest.approx(kept(count, seconds, tokens), rel=0.05)


def test_a_trial_of_the_planner_opens_the_codec_that_a_folder_names(make: Any) -> None:
    """It runs no stages and knows no runs; `sepdash tune` writes the folder of the codec into its config."""
    subject = Subject(make(), CPU)
    assert subject.model.code_start == 75
    assert subject.model.text_start == 6
    with pytest.raises(
        ConfigError, match="the checkpoint of a-run is gone, and codes have to be made"
    ):
        Subject(make(codec="a-run"), CPU)
