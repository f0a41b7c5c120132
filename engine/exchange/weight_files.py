"""Reads files of weights that others wrote, without running anything that is in them.

Owns the refusals: every file that is damaged, or holds more than tensors, has one line that says what it
is and what to do.
"""

from __future__ import annotations

import json
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engine.clustering.centroid_files import JOBLIB, first_line, pickle_refusal

_SAFETENSORS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".th")
# Where training programs keep the weights inside what they save.
_INSIDE = ("model", "state_dict", "model_state_dict")
# What a damaged archive, or a text with another ending, makes torch or zipfile raise.
_DAMAGE = (
    RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError,
    struct.error, MemoryError,
)  # fmt: skip


# How torch names the function or class that a pickle would call.
_OFFENDER = re.compile(r"GLOBAL ([\w.]{1,80})")


class WeightsError(ValueError):
    """A file of weights that can't be used."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a file holds.

    Attributes:
        path: the file, or the folder of several.
        tensors: by the names of the library that wrote them.
        config: what the library says of the model, in its own words; empty where it says nothing.
    """

    path: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any] = field(default_factory=dict)


def read_weights(path: Path) -> Weights:
    """Read a file of weights, or a folder of transformers.

    Raises:
        WeightsError: when it is damaged, of another format, or holds Python objects.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; expected a file of weights, or a folder")
    if path.suffix == ".safetensors":
        return Weights(path, _read_safetensors(path), _read_config(path.parent / _CONFIG))
    if path.suffix in JOBLIB:
        raise WeightsError(pickle_refusal(path))
    if path.suffix in _TORCH:
        return _read_torch(path)
    raise WeightsError(
        f"{path}: unknown kind of file; expected .safetensors, {', '.join(_TORCH)}, or a folder with "
        f"{_SAFETENSORS}"
    )


def _read_folder(folder: Path) -> Weights:
    config = _read_config(folder / _CONFIG)
    if (folder / _INDEX).is_file():
        index = _read_config(folder / _INDEX).get("weight_map")
        names = sorted({str(name) for name in index.values()}) if isinstance(index, dict) else []
        if not names or any(Path(name).name != name for name in names):
            raise WeightsError(f"{folder / _INDEX} lists no files of this folder")
        tensors: dict[str, Tensor] = {}
        for name in names:
            tensors |= _read_safetensors(folder / name)
        return Weights(folder, tensors, config)
    if (folder / _SAFETENSORS).is_file():
        return Weights(folder, _read_safetensors(folder / _SAFETENSORS), config)
    raise WeightsError(
        f"{folder} has no {_SAFETENSORS}; with transformers, save_pretrained(FOLDER) writes one"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path} is damaged or no safetensors file: {first_line(error)}"
        ) from None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {first_line(error)}") from None
    return values if isinstance(values, dict) else {}


def read_tensor(path: Path) -> Tensor:
    """Read a file of torch.save that holds one tensor.

    Raises:
        WeightsError: when it is damaged, or holds anything else.
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist; expected a file with a tensor")
    content = _load(path)
    if not isinstance(content, Tensor):
        raise WeightsError(f"{path} holds more than one tensor, or none")
    return content


def _load(path: Path) -> Any:
    """Read what torch.save wrote; its restricted reader builds tensors and plain values only."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "unsupported" in str(error).lower() and _is_saved_by_torch(path):
            raise _holds_objects(path, str(error)) from None
        raise WeightsError(f"{path} is damaged or was not saved by torch") from None
    except _DAMAGE:
        raise WeightsError(f"{path} is damaged or was not saved by torch") from None


def _read_torch(path: Path) -> Weights:
    content = _load(path)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds no named tensors")
    config = content.get("cfg") or content.get("args") or {}
    inside = next(
        (content[name] for name in _INSIDE if isinstance(content.get(name), Mapping)), content
    )
    tensors = {str(name): tensor for name, tensor in inside.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no named tensors")
    return Weights(path, tensors, dict(config) if isinstance(config, Mapping) else {})


def _is_saved_by_torch(path: Path) -> bool:
    """Return whether a file begins like an archive, or like a pickle, which older versions wrote."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def _holds_objects(path: Path, error: str) -> WeightsError:
    found = _OFFENDER.search(error)
    named = f" ({found[1]})" if found else ""
    return WeightsError(
        f"{path} holds Python objects besides tensors{named}; it was not read, since that can run any code. If "
        "you trust it, write its weights to a file of their own:\n"
        "  import torch\n"
        f"  torch.save(torch.load({str(path)!r}, weights_only=False)['model'], 'weights.pt')"
    )
