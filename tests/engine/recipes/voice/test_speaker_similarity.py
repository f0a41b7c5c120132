"""Similarity of speech to a speaker: with a package of drawn weights, which is never imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.audio import speaker_package
from engine.checkpoints.files import read_manifest
from engine.checkpoints.find import config_of
from engine.config.schema import RunConfig
from engine.evaluation.result import Evaluation
from engine.programs.speak import _similarity
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.recipes.voice.conditioning import Conditioning, of_clips, of_speaker
from engine.recipes.voice.speaker_similarity import (
    SpeakerEncoder,
    SpokenSimilarity,
    load_speaker_encoder,
)
from engine.recipes.voice.speaking import load_voice
from engine.recipes.voice.voices_stage import Voices, VoicesStage
from engine.training.trainer import Trainer
from models.voice.settings import VoiceConfig
from tests.engine.recipes.voice.conftest import RATE, _NoStop

CPU = torch.device("cpu")
NAMES = ("speaker_similarity", "speaker_similarity_others", "speaker_similarity_bound")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name with weights that tell tones apart; whoever imports it fails."""
    folder = tmp_path / "site" / "resemblyzer"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    torch.manual_seed(0)
    state = {name: 3 * x for name, x in SpeakerEncoder().state_dict().items()}
    # Quiet power is a small number.
    state["lstm.weight_ih_l0"] *= 1_000
    state |= {"similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
    torch.save({"step": 1, "model_state": state, "optimizer_state": {}}, folder / "pretrained.pt")
    monkeypatch.setattr(speaker_package, "find_spec", lambda name: _spec(folder, name))
    return folder / "pretrained.pt"


def _spec(folder: Path, name: str) -> SimpleNamespace:
    assert name == "resemblyzer"
    return SimpleNamespace(submodule_search_locations=[str(folder)])


def tone(hz: float, seconds: float = 4.0, *, rate: int = RATE) -> np.ndarray:
    time = np.arange(int(seconds * rate)) / rate
    return (0.03 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


@pytest.mark.usefixtures("package")
class TestEmbedding:
    def test_level_rate_and_pauses_do_not_change_it(self) -> None:
        encoder = load_speaker_encoder(CPU)
        assert encoder is not None
        plain_E = encoder.embed(tone(300.0, 2.0), RATE)
        assert np.linalg.norm(plain_E) == pytest.approx(1.0, abs=1e-5)
        quiet_E = encoder.embed(0.1 * tone(300.0, 2.0), RATE)
        high_E = encoder.embed(tone(300.0, 2.0, rate=24_000), 24_000)
        silence = np.zeros(3 * RATE, np.float32)
        with_pauses = np.concatenate([silence, tone(300.0, 2.0), silence])
        for other_E in (quiet_E, high_E):
            assert float(plain_E @ other_E) > 0.99
        paused_E = encoder.embed(with_pauses, RATE)
        other_E = encoder.embed(tone(2_000.0, 2.0), RATE)
        assert float(plain_E @ paused_E) > 0.95
        assert float(plain_E @ other_E) < 0.9

    def test_what_says_nothing_is_like_nobody(self) -> None:
        encoder = load_speaker_encoder(CPU)
        assert encoder is not None
        for wave_T in (
            np.zeros(0, np.float32),
            np.zeros(RATE, np.float32),
            np.full(RATE, np.nan, np.float32),
        ):
            assert not encoder.embed(wave_T, RATE).any()
        assert encoder.embed(tone(300.0, 0.02), RATE).shape == (256,)

    def test_other_weights_are_refused(self, package: Path) -> None:
        torch.save({"model_state": {"linear.weight": torch.zeros(2)}}, package)
        with pytest.raises(
            ValueError, match=r"pretrained.pt does not have the weights of resemblyzer 0.1"
        ):
            load_speaker_encoder(CPU)


class Items:
    """Recordings of two speakers, of which one is in training alone, and one in validation alone."""

    manifest = "0"

    def __init__(self, speakers: str) -> None:
        self.utterances = [SimpleNamespace(speaker=speaker) for speaker in speakers]

    def audio(self, index: int) -> np.ndarray:
        return tone({"a": 300.0, "b": 2_000.0, "c": 900.0}[self.utterances[index].speaker])


@pytest.mark.usefixtures("package")
def test_a_recording_is_like_its_own_speaker_and_less_like_others() -> None:
    sides = {"train": Items("aabb"), "valid": Items("abcc")}
    measure = SpokenSimilarity(sides.__getitem__, RATE)  # type: ignore[arg-type]
    said = {0: tone(300.0), 1: tone(300.0), 2: tone(900.0), 3: np.zeros(0, np.float32)}
    found = measure.added(
        Evaluation({"val_loss": 1.0}, 4, 0, items_key="k"),
        list(said), says=said.__getitem__, could_say=sides["valid"].audio, device=CPU,
    )  # fmt: skip
    same_N, others_N, bound_N = (found.items[name] for name in NAMES)
    # The second is spoken in the voice of the first speaker, the last is silent.
    assert same_N[[0, 2]] == pytest.approx(1.0, abs=0.01)
    assert others_N[1] == pytest.approx(1.0, abs=0.01)
    assert same_N[1] < 0.99 > others_N[0]
    assert (same_N[3], others_N[3]) == (0.0, 0.0)
    assert bound_N == pytest.approx(1.0, abs=0.01)
    assert found.metrics["speaker_similarity"] == pytest.approx(same_N.mean())
    assert found.items_key.split()[0] == "k"


@pytest.mark.usefixtures("package")
def test_a_single_voice_has_no_others_and_a_single_recording_no_voice() -> None:
    sides = {"train": Items("aa"), "valid": Items("ac")}
    measure = SpokenSimilarity(sides.__getitem__, RATE)  # type: ignore[arg-type]
    found = measure.added(
        Evaluation({}, 2, 0),
        [0],
        says=lambda row: tone(300.0),
        could_say=sides["valid"].audio,
        device=CPU,
    )
    assert set(found.metrics) == {NAMES[0], NAMES[2]}
    found = measure.added(
        Evaluation({}, 2, 0),
        [1],
        says=lambda row: tone(900.0),
        could_say=sides["valid"].audio,
        device=CPU,
    )
    assert set(found.metrics) == {NAMES[1]}


def test_without_the_package_nothing_is_measured_and_a_line_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speaker_package, "find_spec", lambda name: None)
    measure = SpokenSimilarity({"train": Items("a"), "valid": Items("a")}.__getitem__, RATE)  # type: ignore[arg-type]
    before = Evaluation({}, 1, 0)
    assert before is measure.added(before, [0], says=tone, could_say=tone, device=CPU)  # type: ignore[arg-type]
    stage = VoicesStage(VoiceConfig(), lengths=lambda split: None, references=lambda: None)  # type: ignore[arg-type, return-value]
    _, (level, text) = stage.notices(Voices(1.0, {}).to_result())
    assert (level, text) == (
        "info",
        "speaker similarity is not measured: it requires the package resemblyzer, which is not installed: pip "
        "install 'sepdash[speakers]'",
    )


@pytest.mark.usefixtures("package")
def test_evaluations_of_a_run_have_it(
    make: Callable[..., RunConfig], codec: Path, tmp_path: Path
) -> None:
    config = make(
        schedule={"length": "2 updates"}, validation={"every": "2 updates", "spoken": 3, "clips": 0}
    )
    recipe = open_recipe(config, opening=Opening(tmp_path, {"codec": codec}))
    Trainer(config, recipe, folder=tmp_path, observers=[], control=_NoStop()).fit()
    metrics = read_manifest(tmp_path / "checkpoints" / "last-000002").values["metrics"]
    for name in NAMES:
        assert 0.0 <= metrics[name] <= 1.0
    assert metrics[NAMES[2]] > 0.0


@pytest.mark.usefixtures("package")
def test_a_trained_voice_measures_what_it_speaks(trained: Path, speech: Path) -> None:
    manifest = read_manifest(trained)
    voice = load_voice(config_of(manifest), manifest, device=CPU)
    similarity, lacking = _similarity(voice, of_speaker(voice, "quiet"))
    assert (similarity is not None, lacking) == (True, "")
    clip = speech / "valid-01.wav"
    similarity, _ = _similarity(voice, of_clips(voice, [clip]))
    assert similarity is not None
    conditioning = of_clips(voice, [clip])
    same, others = similarity.of(conditioning.waves[0])
    assert same == pytest.approx(1.0, abs=1e-5)
    assert 0 <= others <= 1
    saved = Conditioning(conditioning.vectors_1CD, "saved")
    assert _similarity(voice, saved) == (
        None, "speaker similarity is not measured: a saved voice has no recordings",
    )  # fmt: skip


def test_the_package_itself_computes_the_same() -> None:
    package = pytest.importorskip("resemblyzer")
    encoder = load_speaker_encoder(CPU)
    assert encoder is not None
    generator = np.random.default_rng(0)
    wave_T = (tone(300.0, 4.0, rate=16_000) + 0.1 * generator.normal(size=64_000)).astype(
        np.float32
    )
    theirs_E = package.VoiceEncoder("cpu", verbose=False).embed_utterance(wave_T)
    np.testing.assert_allclose(encoder.embed(wave_T, 16_000), theirs_E, atol=1e-5)
