"""From a run with `data.probe` to its score, and from its checkpoint to the table and to files of features."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from engine.child_processes import answers_of
from engine.config.errors import ConfigError, DataError
from engine.config.loading import load_config
from engine.data.kinds import check_data
from engine.data.speech.labelled import limited, read_labelled
from engine.events import Evaluated
from engine.metrics.items_keys import key_for
from engine.metrics.registry import PROBE
from engine.probing.bench import Collector
from engine.recipes.base import KeepsState
from engine.recipes.datasets import Datasets
from engine.recipes.registry import open_recipe
from engine.recipes.self_supervised import probing
from engine.recipes.self_supervised.encoders import open_encoder, random_encoder
from engine.recipes.self_supervised.hubert import HubertRecipe
from engine.recipes.self_supervised.probing import Options, probe_encoder, spread_layers
from engine.training.trainer import Trainer
from engine.training.validator import Validator
from jobs.probing.probe import Model, ProbeJob, run_probe
from tests.pretraining import MadeUpTargets, pretraining

WORDS = {"low": 200.0, "mid": 600.0, "high": 1_800.0}
FEATURES = (sys.executable, "-P", "-m", "engine.programs.features")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three words by two speakers, as tones over noise: <speaker>/<word>_<take>.wav, 16 kHz."""
    folder = tmp_path_factory.mktemp("words")
    draw = np.random.default_rng(0)
    for speaker, factor in (("ann", 1.0), ("bob", 1.2)):
        (folder / speaker).mkdir()
        for word, pitch in WORDS.items():
            for take in range(13):
                time_T = np.arange(int(draw.uniform(0.3, 0.5) * 16_000)) / 16_000
                tone_T = 0.2 * np.sin(2 * np.pi * pitch * factor * time_T)
                samples_T = tone_T + 0.02 * draw.normal(size=len(time_T))
                soundfile.write(folder / speaker / f"{word}_{take:02}.wav", samples_T, 16_000)
    return folder


def config_of(words: Path, **data: Any) -> Any:
    return load_config(
        {
            "data": {
                "kind": "unlabelled", "train": str(words), "valid": str(words), "min_s": 0.25,
                "max_s": 1.0, "normalize_waveform": True, **data,
            },
            "model": {
                "kind": "data2vec2", "conv_channels": [8] * 7, "layers": 2, "dim": 16, "heads": 2,
                "ffn": 24, "pos_conv_layers": 2, "pos_conv_width": 7, "pos_conv_groups": 4,
                "decoder_layers": 2, "decoder_dim": 8, "decoder_kernel": 3, "decoder_groups": 4,
            },
            "loss": {
                "kind": "data2vec2", "clones": 2, "average_layers": 2, "teacher_decay": 0.9,
                "teacher_end_decay": 0.99, "teacher_anneal": "8 updates",
            },
            "batch": {"items": 4, "micro_batch": 4},
            "schedule": {"length": "4 updates"},
            "ema": {"enabled": True},
            "validation": {"every": "4 updates", "batch_items": 4, "max_items": 4},
            "checkpoint": {"best": [PROBE]},
            "precision": {"device": "cpu", "threads": 1},
        }
    )  # fmt: skip


def train(config: Any, folder: Path) -> list[Any]:
    events: list[Any] = []

    class Keeper:
        def on_event(self, event: Any) -> None:
            events.append(event)

    class Never:
        def stop_reason(self) -> None:
            return None

    Trainer(config, open_recipe(config), folder=folder, observers=[Keeper()], control=Never()).fit()
    return events


@pytest.fixture(scope="module")
def trained(words: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A run of four updates, and its events."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train(config_of(words, probe=str(words)), folder)


def test_every_evaluation_has_the_score_and_its_takes(trained: Any) -> None:
    evaluations = [event for event in trained[1] if isinstance(event, Evaluated)]
    assert evaluations
    for event in evaluations:
        for name in (PROBE, f"{PROBE}_ema"):
            assert 0 <= event.metrics[name] <= 1
            # Five takes of each of two speakers.
            assert len(event.items[name]) == 10
            assert np.mean(event.items[name]) == pytest.approx(event.metrics[name])
        assert key_for(event.items_key, PROBE) != key_for(event.items_key, "val_loss")


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "data2vec2"])
def test_an_evaluation_probes_once(
    words: Path, wav2vec2_config: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"train": str(words), "valid": str(words), "min_s": 0.25, "probe": str(words)}
    if kind == "hubert":
        config = pretraining(words, data=data)
        recipe: Any = HubertRecipe(
            config, datasets=Datasets(config), targets=MadeUpTargets(config.loss.clusters)
        )
    else:
        own = wav2vec2_config(data={**data, "max_s": 1.0})
        config = own if kind == "wav2vec2" else config_of(words, probe=str(words))
        recipe = open_recipe(config)
    model, device = recipe.build_model(), torch.device("cpu")
    if isinstance(recipe, KeepsState):
        recipe.start_state(model, device)
    probed: list[str] = []
    whole = probing.probe_encoder

    def counted(*arguments: Any, **more: Any) -> Any:
        probed.append(kind)
        return whole(*arguments, **more)

    monkeypatch.setattr(probing, "probe_encoder", counted)
    found = Validator(recipe, config, device=device, ema=None).run(model)
    assert probed == [kind]
    assert 0 <= found.metrics[PROBE] <= 1
    assert found.items_key.count(" ") == 1


def test_the_probe_touches_no_training(words: Path, trained: Any, tmp_path: Path) -> None:
    config = config_of(words)
    train(config, tmp_path)
    ends = [max((place / "checkpoints").glob("last-*")) for place in (trained[0], tmp_path)]
    one, other = (open_encoder(place).model.state_dict() for place in ends)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_the_untrained_network_is_that_of_the_seed_and_leaves_randomness_alone(words: Path) -> None:
    config = config_of(words)
    wave = np.random.default_rng(0).normal(size=4_000).astype(np.float32)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (random_encoder(config, seed).features([wave])[2][0] for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert (one == two).all()
    assert np.abs(one - other).max() > 1e-3


def test_probes_are_fitted_on_one_thread(
    words: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads of products this small wait for each other: eight times the time on a busy machine."""
    threads: list[int] = []

    def measured(collector: Collector, layer: int) -> Any:
        threads.extend(
            pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"
        )
        return measure(collector, layer)

    measure = Collector.measure
    monkeypatch.setattr(Collector, "measure", measured)
    labelled = limited(read_labelled(words, setting="data.probe"), {"train": 40, "test": 20})
    options = Options(layers=(1,), measures=("word_segments",))
    with threadpool_limits(limits=2, user_api="blas"):
        probe_encoder(
            open_encoder(trained[0]), labelled, options=options, progress=lambda step: None
        )
    assert set(threads) == {1}


def test_what_cannot_be_probed_is_refused_before_it_is_queued(words: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"data.probe: .* has no files named <speaker>/<label>_<take>"
    ):
        check_data(config_of(words, probe=str(tmp_path / "empty")).data)
    check_data(config_of(words, probe=str(words)).data)


def test_rules_that_read_the_score_need_the_recordings(words: Path) -> None:
    values = config_of(words).to_dict()
    values["stop_when"] |= {"metric": PROBE, "patience": "4 updates"}
    with pytest.raises(ConfigError, match=r"measured with data\.probe only; set data\.probe"):
        load_config(values)
    values["data"]["probe"] = str(words)
    load_config(values)


def test_four_layers_at_most_are_probed_in_an_evaluation() -> None:
    found = [spread_layers(count) for count in (1, 2, 4, 12)]
    assert found == [(1,), (1, 2), (1, 2, 3, 4), (3, 6, 9, 12)]


@pytest.mark.slow
def test_the_table_of_a_checkpoint(words: Path, trained: Any) -> None:
    job = ProbeJob((Model("net", trained[0], variant="net", seed=0),), words, clusters=4)
    steps: list[Any] = []
    result = run_probe(job, device="cpu", emit=steps.append)
    assert [item.variant for item in result.encoders] == ["net", "random, net", "MFCC"]
    assert [len(item.layers) for item in result.encoders] == [3, 3, 1]
    assert set(result.measures()) >= {"left_out_segments", "word_mean", "abx_within", "pnmi"}
    mfcc = result.encoders[2].chosen_score("word_mean")
    assert mfcc is not None
    assert mfcc.value > 0.9
    assert {step.what for step in steps} == {"features", "probes"}
    assert {item.reference for item in result.comparisons} == {"random, net", "MFCC"}
    with pytest.raises(ValueError, match="net has no layer 9; expected 0 to 2"):
        run_probe(ProbeJob(job.models, words, layers=(9,)), device="cpu", emit=steps.append)


@pytest.mark.slow
def test_features_are_those_of_the_encoder(words: Path, trained: Any, tmp_path: Path) -> None:
    file = words / "ann" / "low_00.wav"
    job = {
        "model": str(trained[0]), "layer": 2, "device": "cpu", "files": [str(file)],
        "out": str(tmp_path / "out"),
    }  # fmt: skip
    answers = list(answers_of(FEATURES, job))
    assert answers[-1] == {"done": True}
    path = tmp_path / "out" / "low_00.npy"
    assert path.stat().st_mode & 0o777 == 0o600
    samples_T, _ = soundfile.read(file, dtype="float32")
    (expected_LD,) = open_encoder(trained[0]).features([samples_T])[2]
    np.testing.assert_allclose(np.load(path), expected_LD, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="already exists"):
        list(answers_of(FEATURES, job))
