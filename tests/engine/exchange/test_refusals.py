"""Claims about files that can't be imported: nothing in them runs, and one line says what is wrong."""

from __future__ import annotations

import pickle
import random
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints.files import read_manifest
from engine.clustering.centroid_files import CentroidsError
from engine.exchange.exporting import export_model
from engine.exchange.importing import ImportOptions, import_model
from engine.exchange.sizes import Hints, hints_of
from engine.exchange.weight_files import WeightsError, read_weights
from engine.programs import exchange
from engine.recipes.self_supervised.kmeans_model import read_kmeans
from tests.engine.exchange.conftest import BASE

STRIDES = Hints((20, 4, 4), 2, None)


class Evil:
    """Pickles into a call that makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.fixture
def weights(trained, tmp_path):
    """A file of torchaudio's names."""
    export_model(trained("hubert", BASE), library="torchaudio", out=tmp_path / "out")
    return tmp_path / "out" / "model.safetensors"


def refusal(path, **options):
    with pytest.raises((WeightsError, CentroidsError)) as caught:
        import_model(
            path, out=path.parent / "new", options=ImportOptions(**{"hints": STRIDES, **options})
        )
    assert not (path.parent / "new").exists()
    return str(caught.value)


def test_code_in_a_pickle_is_never_run(tmp_path):
    made = tmp_path / "made"
    # It would make the file, so the test below means something.
    pickle.loads(pickle.dumps(Evil(made)))
    assert made.exists()
    made.unlink()
    torch.save({"model": {"a": torch.zeros(1)}, "cfg": Evil(made)}, tmp_path / "evil.pt")
    text = refusal(tmp_path / "evil.pt")
    assert not made.exists()
    first, *lines = text.splitlines()
    assert "holds Python objects besides tensors (getattr); it was not read" in first
    assert lines[0].strip() == "import torch"
    assert len(lines) == 2
    for name in ("evil.pkl", "evil.joblib", "evil.km"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil(made)))
        assert "joblib.load" in refusal(tmp_path / name)
        assert "joblib.load" in refusal(tmp_path / "evil.pt", centroids=tmp_path / name)
    assert not made.exists()


def test_arguments_of_older_programs_are_objects_too(tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}, "args": Namespace(x=1)}, tmp_path / "old.pt")
    assert "holds Python objects besides tensors (argparse.Namespace)" in refusal(
        tmp_path / "old.pt"
    )


def test_damaged_files_give_one_line(weights, tmp_path):
    torch.save(load_file(weights), tmp_path / "whole.pt")
    rng = random.Random(0)
    for source in (weights, tmp_path / "whole.pt"):
        content = source.read_bytes()
        for number in range(12):
            damaged = bytearray(content[: rng.randrange(len(content))])
            if number % 3 == 0 and damaged:
                damaged[rng.randrange(min(len(damaged), 400))] ^= 0xFF
            path = tmp_path / f"damaged{source.suffix}"
            path.write_bytes(bytes(damaged))
            text = refusal(path)
            assert str(path) in text
            assert len(text.splitlines()) == 1, text
    for name in ("odd.pt", "odd.safetensors", "odd.bin"):
        for content in (b"", b"not weights", b"PK\x03\x04", b"\x80\x02}q\x00."):
            (tmp_path / name).write_bytes(content)
            assert len(refusal(tmp_path / name).splitlines()) == 1
    (tmp_path / "notes.txt").write_text("x")
    assert "unknown kind of file" in refusal(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    assert "has no model.safetensors" in refusal(tmp_path / "empty")


def test_other_models_are_named(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    text = refusal(tmp_path / "other.safetensors")
    assert "has no encoder of HuBERT or wav2vec 2.0" in text
    assert "conv.weight" in text


def changed(weights, tmp_path, change):
    tensors = load_file(weights)
    change(tensors)
    path = tmp_path / "changed.safetensors"
    save_file(tensors, path)
    return path


def test_missing_parts_are_named_and_made_anew_on_request_only(weights, tmp_path):
    def drop(tensors):
        for name in [name for name in tensors if "generator" in name]:
            del tensors[name]

    path = changed(weights, tmp_path, drop)
    assert "has no label embeddings" in refusal(path, kind="hubert")
    text = refusal(path, kind="hubert", clusters=7)
    assert "final_proj.bias, final_proj.weight, label_embeddings, mask_embedding" in text
    assert "add --new-parts" in text
    assert "--kind hubert or --kind wav2vec2" in refusal(path)
    options = ImportOptions(kind="hubert", hints=STRIDES, clusters=7, new_parts=True)
    done = import_model(path, out=tmp_path / "made", options=options)
    assert set(done.new) == {
        "final_proj.bias", "final_proj.weight", "label_embeddings", "mask_embedding",
    }  # fmt: skip


def test_an_incomplete_encoder_is_never_filled_up(weights, tmp_path):
    name = "wav2vec2.encoder.transformer.layers.1.attention.k_proj.bias"
    path = changed(weights, tmp_path, lambda tensors: tensors.pop(name))
    assert "lacks parts of the encoder" in refusal(path, new_parts=True)
    path = changed(weights, tmp_path, lambda t: t.update({name: torch.zeros(3)}))
    assert "has shape (3,), expected (24,)" in refusal(path)
    path = changed(weights, tmp_path, lambda t: t.update({name: torch.full((24,), torch.nan)}))
    assert "values that are not finite" in refusal(path)


def test_what_shapes_do_not_say_is_asked_for(weights):
    assert "give them with --strides" in refusal(weights, hints=Hints(None, 2, None))
    assert "give it with --heads" in refusal(weights, hints=Hints((20, 4, 4), None, None))


def test_a_kmeans_model_travels_in_the_checkpoint(weights, tmp_path):
    centroids = np.random.default_rng(0).normal(size=(7, 24))
    np.save(tmp_path / "km.npy", centroids)
    options = ImportOptions(hints=STRIDES, centroids=tmp_path / "km.npy")
    import_model(weights, out=tmp_path / "made", options=options)
    assert np.array_equal(
        read_kmeans(tmp_path / "made").centroids_KD.numpy(), centroids.astype(np.float32)
    )
    np.save(tmp_path / "other.npy", centroids[:5])
    text = refusal(weights, centroids=tmp_path / "other.npy")
    assert "embeddings of 7 clusters, but the k-means model has 5" in text


def test_the_stack_of_fairseq_is_read_and_not_evaluated():
    published = {
        "model": {"conv_feature_layers": "[(512, 10, 5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2"}
    }
    assert hints_of(published, "fairseq").strides == (5, 2, 2, 2, 2, 2, 2)
    assert hints_of({"conv_feature_layers": "__import__('os')"}, "fairseq").strides is None
    assert hints_of({"conv_stride": "5", "num_attention_heads": True}, "transformers") == Hints()


def test_a_folder_of_several_files_is_read_and_stays_inside(weights, tmp_path):
    import json

    tensors = load_file(weights)
    folder = tmp_path / "sharded"
    folder.mkdir()
    names = sorted(tensors)
    save_file({n: tensors[n] for n in names[:9]}, folder / "a.safetensors")
    save_file({n: tensors[n] for n in names[9:]}, folder / "b.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    assert read_weights(folder).tensors.keys() == tensors.keys()
    index.write_text(json.dumps({"weight_map": {"x": "../out/model.safetensors"}}))
    with pytest.raises(WeightsError, match="lists no files of this folder"):
        read_weights(folder)


def test_the_program_says_what_it_did(weights, trained, tmp_path, capsys):
    made = str(tmp_path / "made")
    options = ["--strides=20,4,4", "--heads=2", "--out", made]
    assert exchange.main(["import", str(weights), *options]) == 0
    told = capsys.readouterr().out
    assert f"wrote {made}: hubert of 3 layers of width 24" in told
    assert "strides 20, 4, 4" in told
    assert exchange.main(["import", str(weights), *options]) == 2
    assert capsys.readouterr().err == f"sepdash: {made} already exists; choose a new folder\n"
    out = str(tmp_path / "again")
    assert exchange.main(["export", made, "--format=transformers", "--out", out]) == 0
    told = capsys.readouterr().out
    assert f"HubertModel.from_pretrained('{out}')" in told
    assert "not part of its model: final_proj" in told
    for path in Path(out).iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert read_manifest(Path(made)).updates == 0
