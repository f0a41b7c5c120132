"""How libraries name the weights of HuBERT and wav2vec 2.0, and what they are called here.

Names here are those of torchaudio's encoder. A table lists pairs (name there, name here), in which `{i}`
is a number and `{p}` the rest of a name, so that each is read both ways. Free of torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

Library = Literal["torchaudio", "transformers", "fairseq"]
Kind = Literal["hubert", "wav2vec2"]
Pairs = tuple[tuple[str, str], ...]

CODEBOOK = "quantiser.codebook"
# The head of a model that was fine-tuned by CTC.
HEAD = "head."

_PLACEHOLDERS = {"{i}": r"(\d+)", "{p}": r"(.+)"}
# Weight norm as a hook, which older versions of torch wrote, and as a parametrisation.
_WEIGHT_NORM = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}

_QUANTISER: Pairs = (
    ("quantizer.weight_proj.{p}", "quantiser.to_logits.{p}"),
    ("project_q.{p}", "project_codes.{p}"),
)
_TORCHAUDIO: Pairs = (
    ("feature_extractor.{p}", "feature_extractor.{p}"),
    ("encoder.{p}", "encoder.{p}"),
    ("aux.{p}", "head.{p}"),
    ("mask_generator.mask_embedding", "mask_embedding"),
    ("logit_generator.label_embeddings", "label_embeddings"),
    ("logit_generator.final_proj.{p}", "final_proj.{p}"),
)
_TRANSFORMERS: Pairs = (
    ("feature_extractor.{p}", "feature_extractor.{p}"),
    ("feature_projection.{p}", "encoder.feature_projection.{p}"),
    ("encoder.{p}", "encoder.transformer.{p}"),
    ("masked_spec_embed", "mask_embedding"),
    ("lm_head.{p}", "head.{p}"),
    ("quantizer.codevectors", CODEBOOK),
    ("project_hid.{p}", "project_context.{p}"),
    *_QUANTISER,
)
_FAIRSEQ: Pairs = (
    ("feature_extractor.conv_layers.0.2.{p}", "feature_extractor.conv_layers.0.layer_norm.{p}"),
    ("feature_extractor.conv_layers.{i}.0.{p}", "feature_extractor.conv_layers.{i}.conv.{p}"),
    (
        "feature_extractor.conv_layers.{i}.2.1.{p}",
        "feature_extractor.conv_layers.{i}.layer_norm.{p}",
    ),
    ("post_extract_proj.{p}", "encoder.feature_projection.projection.{p}"),
    ("layer_norm.{p}", "encoder.feature_projection.layer_norm.{p}"),
    ("encoder.pos_conv.0.{p}", "encoder.transformer.pos_conv_embed.conv.{p}"),
    ("encoder.layer_norm.{p}", "encoder.transformer.layer_norm.{p}"),
    (
        "encoder.layers.{i}.self_attn_layer_norm.{p}",
        "encoder.transformer.layers.{i}.layer_norm.{p}",
    ),
    ("encoder.layers.{i}.self_attn.{p}", "encoder.transformer.layers.{i}.attention.{p}"),
    (
        "encoder.layers.{i}.fc1.{p}",
        "encoder.transformer.layers.{i}.feed_forward.intermediate_dense.{p}",
    ),
    (
        "encoder.layers.{i}.fc2.{p}",
        "encoder.transformer.layers.{i}.feed_forward.output_dense.{p}",
    ),
    (
        "encoder.layers.{i}.final_layer_norm.{p}",
        "encoder.transformer.layers.{i}.final_layer_norm.{p}",
    ),
    ("mask_emb", "mask_embedding"),
    ("label_embs_concat", "label_embeddings"),
    ("proj.{p}", "head.{p}"),
    ("quantizer.vars", CODEBOOK),
    *_QUANTISER,
)
# One name of fairseq means another part in each model.
_FAIRSEQ_FINAL: Mapping[Kind, Pairs] = {
    "hubert": (("final_proj.{p}", "final_proj.{p}"),),
    "wav2vec2": (("final_proj.{p}", "project_context.{p}"),),
}
# What stands before the names of an encoder inside a larger model, the longest first.
_PREFIXES: Mapping[Library, tuple[str, ...]] = {
    "torchaudio": ("wav2vec2.", "model."),
    "transformers": ("hubert.", "wav2vec2."),
    "fairseq": ("w2v_encoder.w2v_model.", "w2v_model.", "w2v_encoder."),
}


@dataclass(frozen=True, slots=True)
class Spelling:
    """Names of a file in the spelling of here.

    Attributes:
        names: name in the file -> name here.
        unknown: names in the file that mean nothing here.
    """

    names: dict[str, str]
    unknown: tuple[str, ...]


def library_of(names: Iterable[str]) -> Library | None:
    """Return which library writes such names; None where no encoder is among them."""
    known = set(names)
    if any("post_extract_proj." in name for name in known):
        return "fairseq"
    if any(name.endswith("encoder.feature_projection.projection.weight") for name in known):
        return "torchaudio"
    if any(name.endswith("feature_projection.projection.weight") for name in known):
        return "transformers"
    return None


def kind_of(names: Iterable[str]) -> Kind | None:
    """Return which model has such names, in any spelling; None where both have."""
    known = set(names)
    if any("quantizer." in name or "quantiser." in name for name in known):
        return "wav2vec2"
    marks = ("label_emb", "logit_generator.")
    if any(name.startswith("hubert.") or any(mark in name for mark in marks) for name in known):
        return "hubert"
    return None


def spelt_here(names: Iterable[str], library: Library, *, kind: Kind) -> Spelling:
    """Return the names of a library's file in the spelling of here."""
    found: dict[str, str] = {}
    unknown = []
    for name in names:
        short = name
        for prefix in _PREFIXES[library]:
            short = short.removeprefix(prefix)
        for old, new in _WEIGHT_NORM.items():
            if short.endswith(old):
                short = short.removesuffix(old) + new
        here = _translated(short, _pairs(library, kind))
        if here is None:
            unknown.append(name)
        else:
            found[name] = here
    return Spelling(found, tuple(unknown))


def spelt_there(name: str, library: Library, *, kind: Kind) -> str | None:
    """Return a name of here as a library writes it; None where the library has no such part."""
    return _translated(name, tuple((here, there) for there, here in _pairs(library, kind)))


def _pairs(library: Library, kind: Kind) -> Pairs:
    match library:
        case "torchaudio":
            return _TORCHAUDIO
        case "transformers":
            return _TRANSFORMERS
    return (*_FAIRSEQ, *_FAIRSEQ_FINAL[kind])


def _translated(name: str, pairs: Pairs) -> str | None:
    for source, target in pairs:
        match = _pattern(source).fullmatch(name)
        if match is not None:
            parts = iter(match.groups())
            return re.sub(r"\{[ip]\}", lambda _: next(parts), target)  # noqa: B023 used at once
    return None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template)
    for mark, pattern in _PLACEHOLDERS.items():
        text = text.replace(re.escape(mark), pattern)
    return re.compile(text)
