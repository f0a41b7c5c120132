"""Makes a checkpoint of weights that another library trained.

Letters: K clusters, D numbers of a frame, G codebooks, V entries of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.checkpoints.layout import IMPORTED
from engine.checkpoints.recipe_files import RecipeParts
from engine.clustering.centroid_files import read_centroids
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.exchange.imported import write_imported
from engine.exchange.sizes import Hints, encoder_settings, hints_of
from engine.exchange.spelling import CODEBOOK, HEAD, Kind, Library, kind_of, library_of, spelt_here
from engine.exchange.weight_files import Weights, WeightsError, read_weights
from engine.recipes.self_supervised.kmeans_model import STAGE, imported_kmeans
from models.entry_points import load_target

_FINAL_DIM = 256
# fairseq numbers its clusters after four tokens of text.
_FAIRSEQ_TOKENS = 4
_MOST_NAMED = 6
_NETWORKS = {
    "hubert": "models.self_supervised.hubert:Hubert",
    "wav2vec2": "models.self_supervised.wav2vec2:Wav2Vec2",
}


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a person says of a file.

    Attributes:
        kind: which model it is; None: what its names say.
        hints: what shapes don't tell.
        normalize_waveform: whether waveforms were normalised; None: with layer norm they were.
        rate_hz: sampling rate.
        new_parts: make anew what the file lacks besides the encoder.
        clusters: K of a prediction that is made anew.
        centroids: a k-means model to go with it.
    """

    kind: Kind | None = None
    hints: Hints = field(default_factory=Hints)
    normalize_waveform: bool | None = None
    rate_hz: int = 16_000
    new_parts: bool = False
    clusters: int | None = None
    centroids: Path | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What was made of a file.

    Attributes:
        folder: the checkpoint.
        config: of the model, as if a run had trained it.
        library: that wrote the file.
        num_loaded: tensors taken over.
        new: names of those made anew.
        unused: names in the file that were not taken.
        notes: what else a person should know.
    """

    folder: Path
    config: RunConfig
    library: Library
    num_loaded: int
    new: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...] = ()


def import_model(source: Path | Weights, *, out: Path, options: ImportOptions) -> Imported:
    """Take weights, or read them from a file, and write a checkpoint that runs can start from.

    Raises:
        WeightsError: when the file can't be used, naming what is wrong or missing.
        CentroidsError: when the file of centroids can't be used.
        ValueError: when the folder already exists.
    """
    if out.exists():
        raise ValueError(f"{out} already exists; choose a new folder")
    centroids_KD = None if options.centroids is None else read_centroids(options.centroids)
    weights = read_weights(source) if isinstance(source, Path) else source
    path = weights.path
    library = library_of(weights.tensors)
    if library is None:
        raise WeightsError(
            f"{path} has no encoder of HuBERT or wav2vec 2.0 as torchaudio, transformers or fairseq write it, and no "
            f"autoregressive model or DVAE of TorToiSe (its first tensor: {_named(list(weights.tensors)[:1])})"
        )
    kind = options.kind or kind_of(weights.tensors) or _kind_in(weights.config)
    if kind is None:
        raise WeightsError(
            f"{path} does not say whether it is HuBERT or wav2vec 2.0; give --kind hubert or --kind wav2vec2"
        )
    spelling = spelt_here(weights.tensors, library, kind=kind)
    tensors = {here: weights.tensors[name] for name, here in spelling.names.items()}
    hints = options.hints.or_else(hints_of(weights.config, library))
    notes: list[str] = []
    if kind == "hubert":
        _match_clusters(tensors, centroids_KD, library=library, notes=notes)
    config = _config(
        kind, tensors, settings=encoder_settings(tensors, hints), options=options, path=path,
        centroids_KD=centroids_KD,
    )  # fmt: skip
    model, new = _filled(config, tensors, options=options, path=path)
    heads = [name for name, here in spelling.names.items() if here.startswith(HEAD)]
    parts = _recipe_parts(centroids_KD, options)
    write_imported(out, config, model=model, parts=parts)
    return Imported(
        out,
        config,
        library=library,
        num_loaded=len(model.state_dict()) - len(new),
        new=tuple(new),
        unused=(*heads, *spelling.unknown),
        notes=tuple(notes),
    )


def _kind_in(config: Mapping[str, Any]) -> Kind | None:
    """Return the kind that a library's config names."""
    inner = config.get("model", config)
    name = inner.get("_name") or inner.get("model_type") if isinstance(inner, Mapping) else None
    for kind in ("hubert", "wav2vec2"):
        if str(name).startswith(kind):
            return kind
    return None


def _match_clusters(
    tensors: dict[str, Tensor],
    centroids_KD: np.ndarray | None,
    *,
    library: Library,
    notes: list[str],
) -> None:
    """Make embeddings and centroids one set of clusters.

    Raises:
        WeightsError: when they are of different numbers.
    """
    labels = tensors.get("label_embeddings")
    if labels is None or centroids_KD is None or len(labels) == len(centroids_KD):
        return
    if library == "fairseq" and len(labels) == len(centroids_KD) + _FAIRSEQ_TOKENS:
        tensors["label_embeddings"] = labels[_FAIRSEQ_TOKENS:]
        notes.append(
            f"the first {_FAIRSEQ_TOKENS} label embeddings, which fairseq keeps for tokens of text, were "
            "left out"
        )
        return
    raise WeightsError(
        f"the file has embeddings of {len(labels)} clusters, but the k-means model has {len(centroids_KD)}; "
        "give the one that the model was trained with"
    )


def _config(
    kind: Kind,
    tensors: dict[str, Tensor],
    *,
    settings: dict[str, Any],
    options: ImportOptions,
    path: Path,
    centroids_KD: np.ndarray | None,
) -> RunConfig:
    """Return the config of a run that would have trained this model."""
    normalises = options.normalize_waveform
    has_layer_norm = settings["extractor_norm"] == "layer_norm"
    data = {
        "kind": "unlabelled", "train": IMPORTED, "valid": IMPORTED, "rate_hz": options.rate_hz,
        "normalize_waveform": has_layer_norm if normalises is None else normalises,
    }  # fmt: skip
    loss: dict[str, Any] = {"kind": kind}
    if kind == "hubert":
        labels, final = tensors.get("label_embeddings"), tensors.get("final_proj.weight")
        clusters = len(labels) if labels is not None else options.clusters
        if clusters is None and centroids_KD is not None:
            clusters = len(centroids_KD)
        if clusters is None:
            raise WeightsError(
                f"{path} has no label embeddings; add --new-parts --clusters K to make those of K clusters "
                "anew"
            )
        loss["clusters"] = clusters
        settings["final_dim"] = _FINAL_DIM if final is None else len(final)
    elif CODEBOOK in tensors:
        settings |= _code_settings(tensors, path)
    return load_config({"data": data, "model": {"kind": kind, **settings}, "loss": loss})


def _code_settings(tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    """Return the settings of the codebooks, which become (G, V, D); libraries keep (1, G V, D)."""
    logits, project = tensors.get("quantiser.to_logits.weight"), tensors.get("project_codes.weight")
    codebook = tensors[CODEBOOK]
    whole = logits is not None and project is not None and codebook.dim() == 3
    if not whole or project is None or project.shape[1] % codebook.shape[2]:
        raise WeightsError(f"{path}: the parts of its quantiser don't belong together")
    groups = project.shape[1] // codebook.shape[2]
    entries = codebook.shape[0] * codebook.shape[1] // groups
    tensors[CODEBOOK] = codebook.reshape(groups, entries, codebook.shape[2])
    return {
        "code_groups": groups,
        "code_entries": entries,
        "code_dim": project.shape[1],
        "final_dim": project.shape[0],
    }


def _filled(
    config: RunConfig, tensors: Mapping[str, Tensor], *, options: ImportOptions, path: Path
) -> tuple[nn.Module, list[str]]:
    """Return the network with the weights of a file, and the names of those it lacks.

    Raises:
        WeightsError: when the encoder is incomplete, other parts are missing and may not be made anew, or
            anything has another shape or is not finite.
    """
    torch.manual_seed(config.seed)
    kind = config.model.kind
    more = {"clusters": config.to_dict()["loss"]["clusters"]} if kind == "hubert" else {}
    model: nn.Module = load_target(_NETWORKS[kind])(config.model, **more)
    # wav2vec 2.0 keeps its encoder as a part; HuBERT is one.
    inside = "" if kind == "hubert" else "encoder."
    fresh = model.state_dict()
    given = {
        f"{inside}{name}" if name.startswith(("feature_extractor.", "encoder.")) else name: tensor
        for name, tensor in tensors.items()
    }
    missing = sorted(fresh.keys() - given)
    of_encoder = [
        name for name in missing if "feature_extractor." in name or ".transformer." in name
    ]
    if of_encoder:
        raise WeightsError(f"{path} lacks parts of the encoder: {_named(of_encoder)}")
    if missing and not options.new_parts:
        raise WeightsError(
            f"{path} lacks {_named(missing)}; add --new-parts to make them anew (the encoder is complete)"
        )
    for name in fresh.keys() & given.keys():
        tensor = given[name]
        if tensor.shape != fresh[name].shape:
            raise WeightsError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(fresh[name].shape)}"
            )
        if not tensor.isfinite().all():
            raise WeightsError(f"{path}: {name} has values that are not finite")
        fresh[name].copy_(tensor)
    return model, missing


def _recipe_parts(centroids_KD: np.ndarray | None, options: ImportOptions) -> RecipeParts:
    if centroids_KD is None:
        return RecipeParts()
    assert options.centroids is not None
    kmeans = imported_kmeans(centroids_KD, options.centroids)
    return RecipeParts(None, {STAGE: kmeans.to_result()})


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
