"""Tiny HuBERT and wav2vec 2.0 checkpoints of random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.checkpoints.files import MODEL, write_checkpoint
from engine.config.counters import Counters
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.exchange.importing import _NETWORKS
from models.entry_points import load_target

BASE = {"extractor_norm": "group_norm", "layer_norm_first": False, "conv_bias": False}
LARGE = {"extractor_norm": "layer_norm", "layer_norm_first": True, "conv_bias": True}
TINY = {
    "conv_channels": [8, 12, 16], "conv_kernels": [20, 4, 4], "conv_strides": [20, 4, 4], "layers": 3,
    "dim": 24, "heads": 2, "ffn": 40, "pos_conv_kernel": 6, "pos_conv_groups": 4, "final_dim": 12,
}  # fmt: skip
CODES = {"code_groups": 2, "code_entries": 5, "code_dim": 8}


def config_of(kind: str, size: dict[str, Any]):
    more = CODES if kind == "wav2vec2" else {}
    loss = {"clusters": 7} if kind == "hubert" else {}
    return load_config(
        {
            "data": {
                "kind": "unlabelled", "train": "a", "valid": "b", "rate_hz": 16_000,
                "normalize_waveform": size["extractor_norm"] == "layer_norm",
                "fit": "pad" if size["extractor_norm"] == "layer_norm" else "crop",
            },
            "model": {"kind": kind, **TINY, **size, **more},
            "loss": {"kind": kind, **loss},
        }
    )  # fmt: skip


def network_of(config: RunConfig) -> nn.Module:
    """Return the freshly initialised network of a run."""
    clusters = {"clusters": config.loss.clusters} if config.model.kind == "hubert" else {}
    return load_target(_NETWORKS[config.model.kind])(config.model, **clusters)


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the checkpoint of a kind and size."""

    def write(kind: str, size: dict[str, Any], name: str = "trained") -> Path:
        config = config_of(kind, size)
        torch.manual_seed(3)
        model = network_of(config)
        with torch.no_grad():
            for param in model.parameters():
                param += 0.05 * torch.randn_like(param)
        about = {"config": config.to_dict(), "counters": asdict(Counters()), "metrics": {}}
        folder = tmp_path / name
        write_checkpoint(folder, about, tensors={MODEL: model.state_dict()})
        return folder

    return write
