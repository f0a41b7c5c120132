"""The codec recipe: losses and codebooks of any split, evaluation, clips, settings that are refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.errors import ConfigError, DataError
from engine.evaluation.clips import write_clips
from engine.recipes.base import Opening, StepContext
from engine.recipes.codec.recipe import CodecRecipe
from engine.recipes.registry import open_recipe
from engine.training.optimizer import FusedAdamW
from engine.training.ranks import Alone
from engine.training.updates import Updater
from models.codec.codebook import Codebook

CPU = torch.device("cpu")
KINDS = ["fsq", "vq"]


def draws(*items: int, epoch: int = 0) -> tuple[ItemDraw, ...]:
    return tuple(ItemDraw(epoch, item) for item in items)


def opened(config: Any, *, folder: Path | None = Path("run")) -> tuple[CodecRecipe, Any]:
    """Open a recipe with the results of its stage, and its model with its codebook."""
    recipe = open_recipe(config, opening=Opening(folder))
    assert isinstance(recipe, CodecRecipe)
    (stage,) = recipe.stages()
    state = stage.start()
    for index in range(stage.num_steps()):
        state = stage.step(index, state, device=CPU)
    recipe.use(stage.name, stage.finish(state))
    torch.manual_seed(0)
    model = recipe.build_model()
    recipe.start_state(model, CPU)
    return recipe, model


def updates(config: Any, parts: list[tuple[int, ...]], *, number: int = 10) -> dict[str, Any]:
    """Make an update in float64 of items packed in some way; return what it came to.

    Its number is one in which codes are revived.
    """
    recipe, model = opened(config)
    model = model.double().train()
    batches = []
    for items in parts:
        batch = recipe.fetch("train", MicroBatch(draws(*items), (0.3,)))
        batches.append(Batch({name: tensor.double() for name, tensor in batch.tensors.items()}))
    optimizer = FusedAdamW(model, config.optimizer)
    updater = Updater(recipe, model, optimizer, config=config, device=CPU, ema=None, ranks=Alone())
    result = updater.run(number, batches, lr=1e-3)
    assert result.metrics is not None
    sums = result.metrics.view(-1, 2)
    return {
        "loss": (result.loss_sum / result.weight).item(),
        "metrics": (sums[:, 0] / sums[:, 1]).tolist(),
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
    }


@pytest.mark.parametrize("quantiser", KINDS)
def test_any_split_makes_the_update_of_one_batch(make: Any, quantiser: str) -> None:
    """Adam divides what rounding leaves of a gradient near 0 by itself: a large epsilon keeps that small."""
    config = make(
        model={"quantiser": quantiser, "revive_below": 0.5},
        optimizer={"eps": 1.0, "clip_norm": 0.0},
    )
    whole = updates(config, [(0, 1, 2, 3, 4, 5)])
    before = opened(config)[1].state_dict()
    for parts in ([(0, 1, 2), (3, 4, 5)], [(5,), (3, 1, 0, 2), (4,)]):
        found = updates(config, parts)
        assert found["loss"] == pytest.approx(whole["loss"], rel=1e-6)
        assert found["metrics"] == pytest.approx(whole["metrics"], rel=1e-5)
        for name, tensor in found["weights"].items():
            assert (tensor - whole["weights"][name]).abs().max() < 1e-6, name
    changed = {n for n, t in whole["weights"].items() if not torch.equal(t.float(), before[n])}
    assert ("quantiser.codes_KD" in changed) == (quantiser == "vq")


def test_the_codebook_moves_by_the_sums_of_the_update_and_not_in_a_skipped_one(make: Any) -> None:
    config = make(model={"quantiser": "vq", "codebook_decay": 0.9, "revive_below": 0.0})
    recipe, model = opened(config)
    codebook = model.quantiser
    before = codebook.codes_KD.clone(), codebook.use_K.clone(), codebook.sum_KD.clone()
    batch = recipe.fetch("train", MicroBatch(draws(0, 1, 2), (0.3,)))
    output = recipe.step(model, batch, context=StepContext(update=1))
    from engine.config.counters import Counters
    from engine.recipes.base import UpdateMade

    def made(skipped: float, statistics: Any) -> UpdateMade:
        return UpdateMade(Counters(), 1, torch.tensor(skipped), statistics)

    poisoned = {name: tensor * torch.nan for name, tensor in output.statistics.items()}
    recipe.after_step(model, made(1.0, poisoned))
    assert torch.equal(codebook.codes_KD, before[0])
    recipe.after_step(model, made(0.0, output.statistics))
    mel_BFL = recipe._frames(batch.tensors["wave"])
    vectors_ND = model.vectors(mel_BFL).flatten(0, 1)
    index_N = torch.cdist(vectors_ND, before[0]).argmin(dim=1)
    for code in range(24):
        own_ND = vectors_ND[index_N == code]
        use = 0.9 * before[1][code] + 0.1 * len(own_ND)
        total_D = 0.9 * before[2][code] + 0.1 * own_ND.sum(dim=0)
        torch.testing.assert_close(codebook.use_K[code], use)
        torch.testing.assert_close(codebook.codes_KD[code], total_D / use, rtol=1e-3, atol=1e-4)


def test_the_codebook_starts_at_clusters_of_encoder_outputs(make: Any) -> None:
    recipe, model = opened(make(model={"quantiser": "vq"}))
    vectors_ND = torch.cat(
        [model.vectors(recipe._frames(torch.from_numpy(recipe._dataset("train").audio(i))[None]))[0]
         for i in range(16)]
    )  # fmt: skip
    found = model.quantiser(vectors_ND)
    assert len(found.index_N.unique()) == 24
    assert float(found.distance_N.detach().mean()) < 0.3 * float(
        vectors_ND.detach().var(dim=0).mean()
    )
    again = opened(make(model={"quantiser": "vq"}))[1].quantiser
    assert torch.equal(model.quantiser.codes_KD, again.codes_KD)
    # Where nothing is trained no audio is read: a trial, or a trained model whose weights bring the codebook.
    idle = open_recipe(
        make(model={"quantiser": "vq"}, data={"train": "/nowhere", "valid": "/nowhere"})
    )
    assert isinstance(idle, CodecRecipe)
    idle.start_state(idle.build_model(), CPU)
    fixed = opened(make(model={"quantiser": "vq", "kmeans_start": False}))[1].quantiser
    assert not fixed.started


def test_weights_that_bring_a_codebook_keep_it(make: Any) -> None:
    config = make(model={"quantiser": "vq"})
    recipe, trained = opened(config)
    trained.quantiser.codes_KD += 1
    fresh = recipe.build_model()
    fresh.load_state_dict(trained.state_dict())
    recipe.start_state(fresh, CPU)
    assert torch.equal(fresh.quantiser.codes_KD, trained.quantiser.codes_KD)


def test_too_few_vectors_for_a_codebook_are_refused(make: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"model.codes: 5000, but the training data have only \d+"
    ):
        opened(make(model={"quantiser": "vq", "codes": 5_000}))


@pytest.mark.parametrize("quantiser", KINDS)
def test_an_evaluation_is_over_all_frames_whatever_is_evaluated_together(
    make: Any, quantiser: str
) -> None:
    found = {}
    for batch_items in (1, 5):
        config = make(
            model={"quantiser": quantiser}, validation={"batch_items": batch_items, "clips": 2}
        )
        recipe, model = opened(config)
        with torch.no_grad():
            found[batch_items] = recipe.evaluate(model.eval(), CPU)
    for name, value in found[1].metrics.items():
        assert found[5].metrics[name] == pytest.approx(value, rel=1e-3), name
    assert found[1].items_key == found[5].items_key
    metrics = found[1].metrics
    dataset = recipe._dataset("valid")
    errors, distances, codes = [], [], []
    with torch.no_grad():
        for index in range(len(dataset)):
            mel_BFL = recipe._frames(
                torch.from_numpy(dataset.audio(index))[
                    None, : -(len(dataset.audio(index)) % 160) or None
                ]
            )
            output = model(mel_BFL)
            errors.append((output.estimate_BFL - output.target_BFL).abs().flatten())
            distances.append((model.decode(model.encode(mel_BFL)) - mel_BFL).abs().flatten())
            codes.append(output.quantised.index_N.flatten())
    assert metrics["val_reconstruction"] == pytest.approx(float(torch.cat(errors).mean()), rel=1e-4)
    decibels = 20 / np.log(10) * float(torch.cat(distances).mean())
    assert metrics["mel_distance"] == pytest.approx(decibels, rel=1e-4)
    share_K = torch.bincount(torch.cat(codes)).double() / len(torch.cat(codes))
    used_K = share_K[share_K > 0]
    assert metrics["val_codes_used"] == len(used_K)
    perplexity = float(torch.exp(-(used_K * used_K.log()).sum()))
    assert metrics["val_codebook_perplexity"] == pytest.approx(perplexity, rel=1e-5)
    assert metrics["val_largest_code"] == pytest.approx(float(share_K.max()), rel=1e-5)
    assert ("val_commitment" in metrics) == (quantiser == "vq")


def test_clips_are_the_recording_its_frames_and_its_codes_as_audio(
    make: Any, tmp_path: Path
) -> None:
    recipe, model = opened(make(validation={"clips": 2}))
    with torch.no_grad():
        found = recipe.evaluate(model.eval(), CPU)
    assert [clip.item for clip in found.clips] == [0, 1]
    files = write_clips(tmp_path, 6, clips=found.clips)
    assert [file.kind for file in files[:3]] == ["input", "target", "estimate"]
    for clip in found.clips:
        whole = recipe._dataset("valid").num_samples(clip.item)
        assert clip.signals["input"].shape == (1, whole)
        code = 4 * 96
        assert clip.signals["estimate"].shape == (1, whole // code * code)
    audio, rate = soundfile.read(tmp_path / files[2].path)
    assert rate == 8_000
    assert np.isfinite(audio).all()
    assert audio.std() > 0


def test_a_reader_process_reads_the_same(make: Any) -> None:
    recipe = open_recipe(make())
    sent = pickle.loads(pickle.dumps(recipe))
    micro_batch = MicroBatch(draws(0, 1, epoch=3), (0.3,))
    ours, theirs = (one.fetch("train", micro_batch).tensors["wave"] for one in (recipe, sent))
    assert torch.equal(ours, theirs)


def test_silent_training_audio_is_refused_and_empty_bands_are_named(
    make: Any, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(8_000), 8_000)
    with pytest.raises(DataError, match="silent, so there is nothing to code"):
        opened(make(data={"train": str(tmp_path)}))
    narrow = tmp_path / "narrow"
    narrow.mkdir()
    noise_T = np.random.default_rng(0).normal(size=8_000)
    soundfile.write(narrow / "a.wav", 0.1 * noise_T, 8_000)
    recipe = open_recipe(make(data={"train": str(narrow), "rate_hz": 16_000}))
    assert isinstance(recipe, CodecRecipe)
    (stage,) = recipe.stages()
    stage.num_steps()
    result = stage.finish(stage.step(0, stage.start(), device=CPU))
    (_, about), (level, warning) = stage.notices(result)
    assert about.startswith(
        "20 mel bands, window 1024 and hop 184 samples at 16000 Hz; 4 frames per code"
    )
    assert level == "warning"
    assert "mel bands hardly change" in warning
    assert float(result.tensors["std"].min()) >= 0.1


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"fit": "pad"}}, "data.fit = 'pad' pads items"),
        ({"data": {"normalize_waveform": True}}, "normalize_waveform = true would take the level"),
        ({"data": {"min_s": 0.05}}, "min_s = 0.05 is less than one code needs; raise it to at least 0.06"),
        ({"model": {"f_max_hz": 4_100.0}}, "above half of data.rate_hz = 8000"),
        ({"model": {"f_max_hz": 100.0, "f_min_hz": 200.0}}, "must be below the upper edge"),
        ({"model": {"mel_bands": 160}}, "resolves: the lowest would be empty; use at most"),
        ({"model": {"n_fft": 128}}, "model.hop = 96 must be at most half of model.n_fft = 128"),
        ({"model": {"hop": 64, "n_fft": 64}}, "at most half of n_fft"),
        ({"validation": {"full_files": True}}, "is always evaluated on whole files"),
        ({"loss": {"kind": "hubert"}}, "model.kind = 'mel_codec' is for codec"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(make: Any, sections: Any, message: str) -> None:
    if "loss" in sections:
        config = make().to_dict()
        config["loss"] = sections["loss"]
        from engine.config.loading import load_config

        with pytest.raises(ValueError, match=message):
            load_config(config)
        return
    with pytest.raises(ValueError, match=message):
        make(**sections)


def test_the_most_bands_that_are_allowed_have_no_empty_one(make: Any) -> None:
    """And those that are refused for it would: the bound is close."""
    from torchaudio.functional import melscale_fbanks

    from engine.config.codec import _most_bands

    for rate, n_fft in ((8_000, 512), (16_000, 1024), (22_050, 1024), (48_000, 2048)):
        most = _most_bands(rate / n_fft, 0.0, high=rate / 2)
        filters = melscale_fbanks(
            n_fft // 2 + 1, 0.0, rate / 2, most, rate, norm="slaney", mel_scale="slaney"
        )
        assert bool((filters.max(dim=0).values > 0).all())


def test_codebook_is_what_the_network_has(make: Any) -> None:
    assert isinstance(opened(make(model={"quantiser": "vq"}))[1].quantiser, Codebook)
