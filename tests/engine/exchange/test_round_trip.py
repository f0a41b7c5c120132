"""Claims about import and export: the libraries compute the same, and what comes back is what left."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints.files import MODEL, read_manifest, write_checkpoint
from engine.checkpoints.find import config_of as config_in
from engine.exchange.exporting import export_model
from engine.exchange.importing import ImportOptions, import_model
from engine.exchange.sizes import Hints
from engine.exchange.spelling import library_of, spelt_there
from engine.recipes.registry import open_recipe
from tests.engine.exchange.conftest import BASE, LARGE, TINY, config_of, network_of

SIZES = {"base": BASE, "large": LARGE}
STRIDES = Hints((20, 4, 4), 2, None)


def network(folder):
    manifest = read_manifest(folder)
    model = network_of(config_in(manifest))
    model.load_state_dict(manifest.tensors(MODEL))
    return model.eval()


def encoder(model):
    return model if hasattr(model, "final_proj") else model.encoder


@pytest.fixture
def wave():
    torch.manual_seed(0)
    return torch.randn(2, 8_000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_torchaudio_computes_the_same(trained, tmp_path, wave, kind, size):
    import torchaudio.models

    folder = trained(kind, SIZES[size])
    export_model(folder, library="torchaudio", out=tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = getattr(torchaudio.models, config["factory"])(**config["arguments"])
    theirs.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    theirs.eval()
    model = network(folder)
    inner = theirs.wav2vec2 if kind == "hubert" else theirs
    with torch.no_grad():
        features, _ = inner.extract_features(wave)
        ours = encoder(model).layer_features(wave)
    assert len(features) == TINY["layers"]
    for layer, expected in zip(ours[1:], features, strict=True):
        torch.testing.assert_close(layer, expected, atol=1e-5, rtol=1e-5)
    if kind == "hubert":
        generator = theirs.logit_generator
        assert torch.equal(generator.label_embeddings, model.label_embeddings)
        assert torch.equal(theirs.mask_generator.mask_embedding, model.mask_embedding)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_transformers_computes_the_same(trained, tmp_path, wave, kind, size):
    import transformers

    folder = trained(kind, SIZES[size])
    done = export_model(folder, library="transformers", out=tmp_path / "out")
    name = "HubertModel" if kind == "hubert" else "Wav2Vec2ForPreTraining"
    theirs, info = getattr(transformers, name).from_pretrained(
        tmp_path / "out", output_loading_info=True, local_files_only=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    theirs.eval()
    model = network(folder)
    inner = theirs if kind == "hubert" else theirs.wav2vec2
    with torch.no_grad():
        found = inner(wave, output_hidden_states=True)
        ours, _ = encoder(model)(wave)
        layers = encoder(model).layer_features(wave)
    torch.testing.assert_close(ours, found.last_hidden_state, atol=1e-5, rtol=1e-5)
    # The last one of theirs is behind the layer norm that some sizes have at the end.
    for layer, expected in zip(layers[:-1], found.hidden_states[:-1], strict=True):
        torch.testing.assert_close(layer, expected, atol=1e-5, rtol=1e-5)
    if kind == "wav2vec2":
        with torch.no_grad():
            codes = theirs.project_q(
                theirs.quantizer.codevectors.reshape(2, 5, 4)[:, 0].reshape(-1)
            )
            mine = model.project_codes(model.quantiser.codebook[:, 0].reshape(-1))
        torch.testing.assert_close(mine, codes)
        assert done.left_out == ()
    else:
        assert "label_embeddings" in done.left_out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
@pytest.mark.parametrize("library", ["torchaudio", "transformers"])
def test_what_comes_back_is_what_left(trained, tmp_path, kind, size, library):
    folder = trained(kind, SIZES[size])
    done = export_model(folder, library=library, out=tmp_path / "out")
    source = tmp_path / "out"
    if library == "torchaudio":
        source = source / "model.safetensors"
    back = import_model(
        source, out=tmp_path / "back",
        options=ImportOptions(kind=kind, hints=STRIDES, new_parts=True, clusters=7),
    )  # fmt: skip
    one, two = read_manifest(folder), read_manifest(tmp_path / "back")
    before, after = one.tensors(MODEL), two.tensors(MODEL)
    assert before.keys() == after.keys()
    kept = before.keys() - set(back.new)
    assert {name.split(".")[0] for name in back.new} == {
        name.split(".")[0] for name in done.left_out
    }
    assert all(torch.equal(before[name], after[name]) for name in kept)
    first, second = config_in(one), config_in(two)
    for name in (*TINY, *SIZES[size]):
        if name != "final_dim" or "final_proj.weight" in kept:
            assert getattr(first.model, name) == getattr(second.model, name), name
    assert first.data.normalize_waveform == second.data.normalize_waveform


def as_fairseq(folder, kind, *, hooks):
    """Return the weights of a checkpoint as fairseq names them; `hooks`: the older weight norm."""
    weights = read_manifest(folder).tensors(MODEL)
    named = {}
    for name, tensor in weights.items():
        if kind == "wav2vec2" and name.startswith("encoder."):
            name = name.removeprefix("encoder.")
        there = spelt_there(name, "fairseq", kind=kind)
        assert there is not None, name
        if hooks:
            there = there.replace("parametrizations.weight.original0", "weight_g")
            there = there.replace("parametrizations.weight.original1", "weight_v")
        if name == "quantiser.codebook":
            tensor = tensor.reshape(1, -1, tensor.shape[2])
        named[there] = tensor
    return named


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_state_dicts_of_fairseq_are_read(trained, tmp_path, kind, size, hooks):
    folder = trained(kind, SIZES[size])
    named = as_fairseq(folder, kind, hooks=hooks)
    assert library_of(named) == "fairseq"
    config = {
        "model": {
            "_name": kind, "encoder_attention_heads": 2,
            "layer_norm_first": SIZES[size]["layer_norm_first"],
            "conv_feature_layers": "[(8, 20, 20)] + [(12,4,4)] + [(16, 4, 4)] * 1",
        }
    }  # fmt: skip
    torch.save({"model": named, "cfg": config, "args": None}, tmp_path / "model.pt")
    done = import_model(tmp_path / "model.pt", out=tmp_path / "back", options=ImportOptions())
    assert (done.new, done.unused) == ((), ())
    before = read_manifest(folder).tensors(MODEL)
    after = read_manifest(tmp_path / "back").tensors(MODEL)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert done.config.model == config_of(kind, SIZES[size]).model


def test_the_older_weight_norm_of_torchaudio_is_read(trained, tmp_path):
    folder = trained("hubert", BASE)
    export_model(folder, library="torchaudio", out=tmp_path / "out")
    tensors = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items()
    }
    torch.save(tensors, tmp_path / "old.pth")
    import_model(tmp_path / "old.pth", out=tmp_path / "back", options=ImportOptions(hints=STRIDES))
    after = read_manifest(tmp_path / "back").tensors(MODEL)
    assert all(
        torch.equal(after[name], tensor)
        for name, tensor in read_manifest(folder).tensors(MODEL).items()
    )


def test_a_fine_tuned_model_gives_its_encoder(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    config = Wav2Vec2Config(
        conv_dim=[8, 8], conv_kernel=[20, 16], conv_stride=[20, 16], num_feat_extract_layers=2,
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, vocab_size=9,
    )  # fmt: skip
    model = Wav2Vec2ForCTC(config)
    model.save_pretrained(tmp_path / "theirs")
    done = import_model(
        tmp_path / "theirs", out=tmp_path / "back", options=ImportOptions(new_parts=True)
    )
    assert set(done.unused) == {"lm_head.weight", "lm_head.bias"}
    wave = torch.randn(1, 4_000)
    with torch.no_grad():
        theirs = model.eval().wav2vec2(wave).last_hidden_state
        ours, _ = network(tmp_path / "back").encoder(wave)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_half_precision_is_widened(trained, tmp_path):
    folder = trained("hubert", LARGE)
    export_model(folder, library="torchaudio", out=tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    save_file({name: t.half() for name, t in tensors.items()}, tmp_path / "half.safetensors")
    import_model(
        tmp_path / "half.safetensors", out=tmp_path / "back", options=ImportOptions(hints=STRIDES)
    )
    after = read_manifest(tmp_path / "back").tensors(MODEL)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}


@pytest.mark.parametrize("norm", ["layer_norm", "group_norm"])
@pytest.mark.parametrize("library", ["torchaudio", "transformers"])
def test_a_ctc_model_is_exported_with_its_head(ctc_config, tmp_path, library, norm):
    import torchaudio.models
    import transformers

    torch.manual_seed(0)
    config = ctc_config("ctc_encoder", model={"extractor_norm": norm})
    model = open_recipe(config).build_model().eval()
    write_checkpoint(
        tmp_path / "ctc", {"config": config.to_dict()}, tensors={MODEL: model.state_dict()}
    )
    out = tmp_path / "out"
    export_model(tmp_path / "ctc", library=library, out=out)
    wave = torch.randn(1, 6_000)
    with torch.no_grad():
        ours, _ = model(wave[..., None], torch.tensor([6_000]))
        if library == "torchaudio":
            values = json.loads((out / "config.json").read_text())
            theirs = getattr(torchaudio.models, values["factory"])(**values["arguments"])
            theirs.load_state_dict(load_file(out / "model.safetensors"))
            logits, _ = theirs.eval()(wave)
        else:
            theirs = transformers.Wav2Vec2ForCTC.from_pretrained(out, local_files_only=True)
            logits = theirs.eval()(wave).logits
    torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)
    names = json.loads((out / "vocab.json").read_text())
    assert names["<pad>"] == 0
    assert names["|"] == 1
    assert len(names) == ours.shape[2]
    prepared = json.loads((out / "preprocessor_config.json").read_text())
    assert (prepared["do_normalize"], prepared["sampling_rate"]) == (True, 8_000)
