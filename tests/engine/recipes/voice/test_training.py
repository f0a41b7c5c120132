"""The voice in the trainer: resumed exactly, what it learns, and that its checkpoint speaks by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.checkpoints.files import read_manifest
from engine.checkpoints.find import config_of
from engine.config.errors import ConfigError
from engine.events import Evaluated, Noticed
from engine.recipes.base import Opening
from engine.recipes.registry import open_recipe
from engine.recipes.voice.speaking import load_voice
from engine.training.trainer import Trainer
from models.voice.generation import Sampling

CPU = torch.device("cpu")


def fit(config: Any, folder: Any, recorder: Any, *, control: Any, needs: Any) -> None:
    recipe = open_recipe(config, opening=Opening(folder, needs))
    Trainer(config, recipe, folder=folder, observers=[recorder], control=control).fit(
        init_from=needs.get("init_from")
    )


@pytest.mark.parametrize("stop_at", [3, 10])
def test_stopped_and_resumed_is_bit_identical(
    make: Any, codec: Path, tmp_path: Path, new_recorder: Any, stop_after: Any, checkpoint_tensors: Any,
    stop_at: int,
) -> None:  # fmt: skip
    """Weights, moments, codec, voices, curves and what was spoken; a resumed run needs no codec run."""
    config = make(model={"dropout": 0.2})
    whole, parts = new_recorder(), new_recorder()
    fit(config, tmp_path / "whole", whole, control=stop_after(), needs={"codec": codec})
    fit(config, tmp_path / "parts", parts, control=stop_after(stop_at), needs={"codec": codec})
    fit(config, tmp_path / "parts", parts, control=stop_after(), needs={})
    for name in ("loss", "mel_loss", "text_loss", "mel_accuracy", "code_entropy"):
        assert parts.curve(name) == whole.curve(name), name
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000012")
        for name in ("whole", "parts")
    )
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert any("codec.decoder" in name for name in one)
    ends = [recorder.of(Evaluated)[-1].metrics for recorder in (whole, parts)]
    assert ends[0] == ends[1]
    assert {"val_mel_loss", "val_text_loss", "val_mel_top5", "length_ratio", "never_stops"} <= ends[
        0
    ].keys()
    files = [
        sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n / "clips").rglob("*.wav"))
        for n in ("whole", "parts")
    ]
    assert files[0] == files[1]
    assert len({file.parent for file in files[0]}) == 2
    (about,) = (e.message for e in whole.of(Noticed) if "training speakers" in e.message)
    assert about.startswith("3 training speakers; ")


def test_it_learns_more_than_the_histogram_and_its_checkpoint_speaks_by_itself(
    make: Any, codec: Path, tmp_path: Path, recorder: Any, stop_after: Any
) -> None:
    config = make(
        schedule={"length": "150 updates"}, validation={"every": "150 updates"},
        checkpoint={"every": "150 updates"}, optimizer={"lr": 5e-3},
    )  # fmt: skip
    fit(config, tmp_path, recorder, control=stop_after(), needs={"codec": codec})
    first, last = (event.metrics for event in recorder.of(Evaluated))
    assert last["val_mel_loss"] < 0.8 * last["val_code_entropy"]
    assert last["val_mel_loss"] < 0.6 * first["val_mel_loss"]
    assert first["val_mel_accuracy"] < last["val_mel_accuracy"] < last["val_mel_top5"]
    manifest = read_manifest(tmp_path / "checkpoints" / "last-000150")
    voice = load_voice(config_of(manifest), manifest, device=CPU)
    texts = [voice.tokens("abc"), voice.tokens("ddcab")]
    vectors = torch.cat([voice.vectors_of_speaker(name) for name in ("loud", "quiet")])
    spoken = voice.speak(texts, vectors, seeds=[1, 2], sampling=Sampling())
    again = voice.speak(texts[1:], vectors[1:], seeds=[2], sampling=Sampling())
    assert again[0].codes_N.tolist() == spoken[1].codes_N.tolist()
    wave = voice.audio(spoken[1])
    assert len(wave) == len(spoken[1].codes_N) * voice.codec.facts.samples_per_code
    assert np.isfinite(wave).all()
    assert voice.vectors_of([wave, wave[: len(wave) // 3]]).shape == (1, 1, 32)
    with pytest.raises(ValueError, match="contains 'x', not in the vocabulary"):
        voice.tokens("axb")


def test_weights_of_a_voice_take_its_codec_along_and_refuse_another(
    make: Any, codec: Path, other_codec: Path, tmp_path: Path, recorder: Any, stop_after: Any
) -> None:
    fit(make(), tmp_path / "base", recorder, control=stop_after(), needs={"codec": codec})
    base = tmp_path / "base" / "checkpoints" / "last-000012"
    tuned = make(codec=None, init_from=str(base), loss={"text_loss_weight": 0.01})
    fit(tuned, tmp_path / "tuned", recorder, control=stop_after(), needs={"init_from": base})
    manifests = [
        read_manifest(base),
        read_manifest(tmp_path / "tuned" / "checkpoints" / "last-000012"),
    ]
    hashes = {load_voice(config_of(one), one, device=CPU).codec.facts.hash for one in manifests}
    assert len(hashes) == 1
    mixed = make(codec=str(other_codec), init_from=str(base))
    with pytest.raises(ConfigError, match="codes of another codec would come out as noise"):
        fit(
            mixed, tmp_path / "mixed", recorder, control=stop_after(),
            needs={"init_from": base, "codec": other_codec},
        )  # fmt: skip


def test_a_fine_tune_reads_texts_as_its_base_does_and_keeps_its_rows(
    make: Any, codec: Path, speech: Path, tmp_path: Path, new_recorder: Any, stop_after: Any,
    checkpoint_tensors: Any,
) -> None:  # fmt: skip
    """Texts without "a" and with "e": the tokens of the base stay what they are, and one is new."""
    fit(make(), tmp_path / "base", new_recorder(), control=stop_after(), needs={"codec": codec})
    base = tmp_path / "base" / "checkpoints" / "last-000012"
    rows = [json.loads(line) for line in (speech / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row.update(path=str(speech / row["path"]), text=row["text"].replace("a", "e"))
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = make(
        codec=None, init_from=str(base), optimizer={"lr": 1e-12},
        data={split: str(tmp_path / "new.jsonl") for split in ("train", "valid")},
    )  # fmt: skip
    recorder = new_recorder()
    needs = {"init_from": base}
    fit(config, tmp_path / "tuned", recorder, control=stop_after(18), needs=needs)
    fit(config, tmp_path / "tuned", recorder, control=stop_after(), needs={})
    manifest = read_manifest(tmp_path / "tuned" / "checkpoints" / "last-000012")
    voice = load_voice(config_of(manifest), manifest, device=CPU)
    assert voice.tokenizer.names == ["<blank>", " ", "a", "b", "c", "d", "e"]
    old, new = (
        checkpoint_tensors(folder)["model.safetensors:text_embedding.weight"]
        for folder in (base, manifest.folder)
    )
    assert (len(old), len(new)) == (7, 8)
    torch.testing.assert_close(new[:6], old[:6], rtol=0, atol=1e-6)
    torch.testing.assert_close(new[7], old[6], rtol=0, atol=1e-6)
    assert (new[6] - old[6]).abs().max() > 1e-3
