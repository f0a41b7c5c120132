"""Claims about recordings that become training data: cut, transcribed by a trained model, learnt as phonemes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from engine.checkpoints.files import MODEL, read_manifest
from engine.checkpoints.find import find_checkpoint
from engine.config.text_data import TextData
from engine.data.corpus.cutting import cut_recordings
from engine.data.corpus.manifests import write_corpus
from engine.data.corpus.survey import Drawing, Limits, survey_corpus
from engine.data.files.audio_files import probe
from engine.data.speech.transcripts import read_transcripts
from engine.metrics.word_errors import ErrorBreakdown
from engine.programs import transcribe
from engine.recipes.registry import open_recipe
from engine.recipes.speech.transcriber import tokenizer_of
from engine.recipes.speech.transcribing import load_transcriber
from engine.text.tokens import PhonemeTokenizer
from engine.training.trainer import Trainer

PHONEMES = {"low": "lˈoʊ", "mid": "mˈɪd", "top": "tˈɑːp"}


def with_phonemes(tones: Path, folder: Path, name: str) -> Path:
    rows = [json.loads(line) for line in (tones / f"{name}.jsonl").read_text().splitlines()]
    for row in rows:
        phonemes = " ".join(PHONEMES[word] for word in row["text"].split())
        row |= {"path": str(tones / row["path"]), "phonemes": {"en-us": f"{phonemes}."}}
    (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder / f"{name}.jsonl"


@pytest.fixture
def no_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str, language: str) -> str:
        raise AssertionError(f"phonemes of {text!r} were made again")

    monkeypatch.setattr("engine.text.normalise.phonemes_of", fail)


@pytest.mark.usefixtures("no_espeak")
def test_phonemes_of_a_manifest_are_learnt_and_a_checkpoint_knows_its_table(
    ctc_config, tones, tmp_path, stop_after
) -> None:
    manifests = {name: str(with_phonemes(tones, tmp_path, name)) for name in ("train", "valid")}
    config = ctc_config(
        data={"tokens": "phonemes", **manifests}, schedule={"length": "2 updates"},
        validation={"every": "2 updates"}, checkpoint={"every": "2 updates"},
    )  # fmt: skip
    recipe = open_recipe(config)
    assert recipe.sizes("train")[:, 1].min() >= len("lˈoʊ") - 1
    Trainer(config, recipe, folder=tmp_path / "run", observers=[], control=stop_after(999)).fit()

    manifest = read_manifest(find_checkpoint(tmp_path / "run"))
    assert "vocabulary" in manifest.tensors(MODEL)
    tokenizer = tokenizer_of(manifest)
    assert isinstance(tokenizer, PhonemeTokenizer)
    assert tokenizer.language == "en-us"
    assert tokenizer.characters == " " + "".join(sorted(set("".join(PHONEMES.values()))))
    transcriber = load_transcriber(tmp_path / "run", torch.device("cpu"))
    whole = transcriber.whole(probe(tones / "valid-0.wav"))
    ((text, _),) = transcriber.texts([whole], beam=1, longest_s=9)
    assert set(text) <= set(tokenizer.characters)
    heard = read_transcripts(Path(manifests["train"]), transcriber.data).utterances[0]
    assert heard.text == " ".join(PHONEMES[word] for word in heard.written.split())


@pytest.mark.usefixtures("no_espeak")
def test_a_trained_model_fills_in_the_texts_of_a_long_recording(
    ctc_config, tones, tmp_path, stop_after
) -> None:
    config = ctc_config(
        batch={"items": 12, "micro_batch": 12}, schedule={"length": "150 updates", "kind": "cosine"},
        validation={"every": "150 updates"}, checkpoint={"every": "150 updates"},
        data={"time_masks": 0, "freq_masks": 0, "valid": str(tones / "train.jsonl")},
        ema={"enabled": False},
    )  # fmt: skip
    Trainer(
        config, open_recipe(config), folder=tmp_path / "run", observers=[], control=stop_after(999)
    ).fit()
    rows = [json.loads(line) for line in (tones / "train.jsonl").read_text().splitlines()]
    draw = np.random.default_rng(5)
    parts = [1e-3 * draw.standard_normal(4_000)]
    for row in rows:
        parts += [soundfile.read(tones / row["path"])[0], 1e-3 * draw.standard_normal(4_000)]
    (tmp_path / "talks").mkdir()
    soundfile.write(tmp_path / "talks" / "talk.wav", np.concatenate(parts), 8_000)

    pieces = tmp_path / "anna"
    cut_recordings(
        [probe(tmp_path / "talks" / "talk.wav")], pieces, min_s=0.2, max_s=1.5, pause_s=0.3
    )
    texts = pieces / "texts.jsonl"
    options = ["--device", "cpu", "--out", str(texts)]
    assert transcribe.main([str(tmp_path / "run"), str(pieces / "wavs"), *options]) == 0
    data = TextData(kind="speech", train=texts, valid=texts)
    corpus = survey_corpus(
        [texts], data, limits=Limits(0.2, 2, max_chars=50), drawing=Drawing(0.1), speaker="anna"
    )
    write_corpus(corpus, tmp_path / "out", data=data, about={})

    heard = [json.loads(line) for line in texts.read_text().splitlines()]
    words = ErrorBreakdown("words")
    words.add(" ".join(row["text"] for row in rows), " ".join(row["text"] for row in heard))
    assert words.total.rate <= 0.3
    assert {clip.speaker for clip in (*corpus.train, *corpus.valid)} == {"anna"}
    assert len(corpus.train) >= 5
