"""A voice from a folder to speech by phonemes: made once, kept in manifests, known to the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.checkpoints.files import read_manifest
from engine.checkpoints.find import config_of
from engine.data.corpus.manifests import write_corpus
from engine.data.corpus.survey import Drawing, Limits, survey_corpus
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.recipes.voice.speaking import load_voice
from engine.text.tokens import PhonemeTokenizer
from engine.training.trainer import Trainer
from models.voice.generation import Sampling

SIGNS = {"a": "ˈɑ", "b": "b", "c": "ʃ", "d": "ð"}


def phonemes(text: str, language: str) -> str:
    assert language == "de"
    return "".join(SIGNS[letter] for letter in text)


def test_a_voice_learns_kept_phonemes_and_speaks_texts(
    make: Any, speech: Path, codec: Path, tmp_path: Path, monkeypatch: Any, stop_after: Any
) -> None:
    used = "engine.text.normalise.phonemes_of"
    monkeypatch.setattr(used, phonemes)
    settings = {"tokens": "phonemes", "language": "de"}
    data = make(data=settings).data
    corpus = survey_corpus(
        [speech], data, limits=Limits(0.2, 2.0, max_chars=14), drawing=Drawing(0.1)
    )
    out = tmp_path / "manifests"
    write_corpus(corpus, out, data=data, about={})

    monkeypatch.setattr(used, lambda text, language: pytest.fail(f"{text!r} was turned again"))
    paths = {split: str(out / f"{split}.jsonl") for split in ("train", "valid")}
    config = make(
        data={**settings, **paths}, schedule={"length": "2 updates"},
        validation={"every": "2 updates"}, checkpoint={"every": "2 updates"},
    )  # fmt: skip
    run = tmp_path / "run"
    recipe = open_recipe(config, opening=Opening(run, {"codec": codec}))
    Trainer(config, recipe, folder=run, observers=[], control=stop_after(99)).fit()

    manifest = read_manifest(run / "checkpoints" / "last-000002")
    voice = load_voice(config_of(manifest), manifest, device=torch.device("cpu"))
    assert isinstance(voice.tokenizer, PhonemeTokenizer)
    assert voice.tokenizer.language == "de"
    assert set(voice.tokenizer.characters) == {" ", *"".join(SIGNS.values())}
    monkeypatch.setattr(used, phonemes)
    tokens = voice.tokens("abcd")
    assert voice.tokenizer.decode(tokens) == "ˈɑbʃð"
    vectors = voice.vectors_of_speaker("loud")
    (spoken,) = voice.speak([tokens], vectors, seeds=[0], sampling=Sampling())
    assert len(spoken.codes_N) > 0
