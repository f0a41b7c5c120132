"""Writes the weights of a run as torchaudio or transformers load them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from engine.checkpoints.files import MODEL, CheckpointError, Manifest, read_manifest
from engine.checkpoints.find import config_of, find_checkpoint
from engine.config.schema import RunConfig
from engine.exchange.spelling import CODEBOOK, HEAD, Kind, spelt_there
from engine.text.tokens import CharTokenizer, from_bytes
from models.self_supervised.settings import HubertConfig, WaveformEncoderSettings
from models.speech_configs import CtcEncoderConfig

WEIGHTS, CONFIG, PREPROCESSOR, VOCABULARY = (
    "model.safetensors", "config.json", "preprocessor_config.json", "vocab.json",
)  # fmt: skip
_ENCODER = "encoder."
_IN_TORCHAUDIO = ("feature_extractor.", "encoder.", HEAD)
# What the libraries call the space between words.
_SPACE = "|"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        loads: the lines of Python that load it.
        left_out: names of weights that the library has no place for.
    """

    folder: Path
    loads: str
    left_out: tuple[str, ...]


def export_model(checkpoint: Path, *, library: str, out: Path) -> Exported:
    """Write weights and config of a checkpoint for a library into a folder.

    Args:
        checkpoint: of a HuBERT or wav2vec 2.0 run, or of a CTC run on a waveform encoder.
        library: torchaudio or transformers.
        out: created; must be empty.

    Raises:
        CheckpointError: when there is no such checkpoint, or the library has no such model.
        ValueError: when the folder is not empty.
    """
    manifest = read_manifest(find_checkpoint(checkpoint))
    config = config_of(manifest)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} already exists; choose a new or an empty folder")
    tensors = _named_as_here(manifest, config)
    kind: Kind = "hubert" if isinstance(config.model, HubertConfig) else "wav2vec2"
    write = _torchaudio if library == "torchaudio" else _transformers
    given, used, documents, loads = write(config, tensors, kind=kind, out=out)
    documents |= _documents(config, manifest, library=library)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / WEIGHTS, save(given, metadata={"format": "pt"}))
    for name, values in documents.items():
        _write(out / name, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
    return Exported(out, loads, left_out=tuple(name for name in tensors if name not in used))


def _named_as_here(manifest: Manifest, config: RunConfig) -> dict[str, Tensor]:
    """Return the weights by the names of an encoder, without those of what holds it.

    Raises:
        CheckpointError: for a model that neither library has.
    """
    model = config.model
    is_conformer = getattr(model, "encoder", "transformer") != "transformer"
    known = model.kind in ("hubert", "wav2vec2", CtcEncoderConfig().kind)
    if not known or is_conformer:
        what = "a Conformer encoder" if is_conformer else f"model.kind = {model.kind!r}"
        raise CheckpointError(
            f"{manifest.folder} has {what}, which neither library loads; export a run of hubert, wav2vec2 "
            "or ctc_encoder"
        )
    weights = manifest.tensors(MODEL)
    if isinstance(model, HubertConfig):
        return weights
    extra = {"mel_mean", "mel_std", "vocabulary"}
    return {
        name.removeprefix(_ENCODER): tensor for name, tensor in weights.items() if name not in extra
    }


def _torchaudio(
    config: RunConfig, tensors: Mapping[str, Tensor], *, kind: Kind, out: Path
) -> tuple[dict[str, Tensor], set[str], dict[str, Any], str]:
    """Return weights, config and the lines that load them; HuBERT as the pre-training model."""
    model = config.model
    assert isinstance(model, WaveformEncoderSettings)
    arguments: dict[str, Any] = {
        "extractor_mode": model.extractor_norm,
        "extractor_conv_layer_config": [
            list(layer)
            for layer in zip(
                model.conv_channels, model.conv_kernels, model.conv_strides, strict=True
            )
        ],
        "extractor_conv_bias": model.conv_bias,
        "encoder_embed_dim": model.dim,
        "encoder_projection_dropout": model.projection_dropout,
        "encoder_pos_conv_kernel": model.pos_conv_kernel,
        "encoder_pos_conv_groups": model.pos_conv_groups,
        "encoder_num_layers": model.layers,
        "encoder_num_heads": model.heads,
        "encoder_attention_dropout": model.attention_dropout,
        "encoder_ff_interm_features": model.ffn,
        "encoder_ff_interm_dropout": model.activation_dropout,
        "encoder_dropout": model.dropout,
        "encoder_layer_norm_first": model.layer_norm_first,
        "encoder_layer_drop": model.layer_drop,
    }
    factory, encoder = "wav2vec2_model", ""
    if isinstance(model, HubertConfig):
        factory, encoder = "hubert_pretrain_model", "wav2vec2."
        arguments |= _pre_training(tensors, model)
    else:
        head = tensors.get(f"{HEAD}weight")
        arguments["aux_num_out"] = None if head is None else len(head)
        # Masks and predictions are parts of its pre-training model only.
        tensors = {name: tensors[name] for name in tensors if name.startswith(_IN_TORCHAUDIO)}
    given, used = _spelt(tensors, "torchaudio", kind=kind, encoder=encoder)
    lines = (
        "import json, torchaudio\n"
        "from safetensors.torch import load_file\n"
        f"config = json.load(open({str(out / CONFIG)!r}))\n"
        "model = getattr(torchaudio.models, config['factory'])(**config['arguments'])\n"
        f"model.load_state_dict(load_file({str(out / WEIGHTS)!r}))"
    )
    return given, used, {CONFIG: {"factory": factory, "arguments": arguments}}, lines


def _pre_training(tensors: Mapping[str, Tensor], model: HubertConfig) -> dict[str, Any]:
    """Return the arguments that torchaudio's HuBERT takes beside those of its encoder."""
    masks = {
        f"{what}{name}": value
        for what in ("mask_", "mask_channel_")
        for name, value in (
            ("prob", 0.8 if what == "mask_" else 0.0), ("selection", "static"), ("other", 0.0),
            ("length", 10), ("min_space", 1),
        )
    }  # fmt: skip
    return {
        **masks,
        "no_mask_overlap": False,
        "no_mask_channel_overlap": False,
        "skip_masked": False,
        "skip_nomask": False,
        "num_classes": len(tensors["label_embeddings"]),
        "final_dim": model.final_dim,
        "feature_grad_mult": model.feature_grad_scale if 0 < model.feature_grad_scale < 1 else None,
    }


def _transformers(
    config: RunConfig, tensors: Mapping[str, Tensor], *, kind: Kind, out: Path
) -> tuple[dict[str, Tensor], set[str], dict[str, Any], str]:
    """Return weights, config and the lines that load them."""
    model = config.model
    assert isinstance(model, WaveformEncoderSettings)
    values: dict[str, Any] = {
        "model_type": kind,
        "feat_extract_norm": model.extractor_norm.removesuffix("_norm"),
        "conv_dim": list(model.conv_channels),
        "conv_kernel": list(model.conv_kernels),
        "conv_stride": list(model.conv_strides),
        "num_feat_extract_layers": len(model.conv_channels),
        "conv_bias": model.conv_bias,
        "hidden_size": model.dim,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.ffn,
        "do_stable_layer_norm": model.layer_norm_first,
        "num_conv_pos_embeddings": model.pos_conv_kernel,
        "num_conv_pos_embedding_groups": model.pos_conv_groups,
        "feat_proj_dropout": model.projection_dropout,
        "hidden_dropout": model.dropout,
        "attention_dropout": model.attention_dropout,
        "activation_dropout": model.activation_dropout,
        "layerdrop": model.layer_drop,
    }
    encoder = ""
    given_extra: dict[str, Tensor] = {}
    sizes = model.model_dump()
    match config.model.kind:
        case "hubert":
            name = "HubertModel"
        case "wav2vec2":
            name, encoder = "Wav2Vec2ForPreTraining", "wav2vec2."
            codebook_GVD = tensors[CODEBOOK]
            given_extra = {CODEBOOK: codebook_GVD.reshape(1, -1, codebook_GVD.shape[2])}
            values |= {
                "num_codevector_groups": sizes["code_groups"],
                "num_codevectors_per_group": sizes["code_entries"],
                "codevector_dim": sizes["code_dim"],
                "proj_codevector_dim": sizes["final_dim"],
                "feat_quantizer_dropout": sizes["feature_dropout"],
            }
        case _:
            name, encoder = "Wav2Vec2ForCTC", "wav2vec2."
            values |= {"vocab_size": len(tensors[f"{HEAD}weight"]), "pad_token_id": 0}
    values["architectures"] = [name]
    given, used = _spelt({**tensors, **given_extra}, "transformers", kind=kind, encoder=encoder)
    lines = f"from transformers import {name}\nmodel = {name}.from_pretrained({str(out)!r})"
    return given, used, {CONFIG: values}, lines


def _spelt(
    tensors: Mapping[str, Tensor], library: Any, *, kind: Kind, encoder: str
) -> tuple[dict[str, Tensor], set[str]]:
    """Return weights by the names of a library, and which of them it has a place for.

    `encoder` stands before the names of those of the encoder.
    """
    given, used = {}, set()
    for name, tensor in tensors.items():
        there = spelt_there(name, library, kind=kind)
        if there is not None:
            inside = name.startswith(("feature_extractor.", "encoder.", "mask_embedding"))
            prefix = encoder if inside and "_generator." not in there else ""
            given[f"{prefix}{there}"] = tensor.to(torch.float32).contiguous()
            used.add(name)
    return given, used


def _documents(config: RunConfig, manifest: Manifest, *, library: str) -> dict[str, Any]:
    """Return how waveforms are prepared, and the characters of a CTC model."""
    normalises = bool(getattr(config.data, "normalize_waveform", False))
    documents: dict[str, Any] = {
        PREPROCESSOR: {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": config.data.rate_hz,
            "do_normalize": normalises,
            "padding_value": 0.0,
            "return_attention_mask": True,
        }
    }
    if isinstance(config.model, CtcEncoderConfig):
        tokenizer = from_bytes(bytes(manifest.tensors(MODEL)["vocabulary"].tolist()))
        if isinstance(tokenizer, CharTokenizer):
            names = ["<pad>", *tokenizer.characters]
            documents[VOCABULARY] = {
                _SPACE if name == " " else name: number for number, name in enumerate(names)
            }
    return documents


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
