"""Features in files: names, and how they are written. Letters: L frames, D dimensions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def out_paths(files: Sequence[Path], out: Path) -> list[Path]:
    """Return the file of features of each audio file: its name with .npy, in one folder.

    Raises:
        ValueError: when two audio files have one name, or a file of features is there already.
    """
    paths = [out / f"{file.stem}.npy" for file in files]
    seen: dict[Path, Path] = {}
    for path, file in zip(paths, files, strict=True):
        if path in seen:
            raise ValueError(
                f"{seen[path]} and {file} would both be written to {path}; give them in two calls with "
                "different folders (-o)"
            )
        seen[path] = file
        if path.exists():
            raise ValueError(f"{path} already exists; choose another folder (-o) or remove it")
    return paths


def layer_of(asked: int | None, num_layers: int) -> int:
    """Return the layer to write: the one asked for, or the middle one.

    Raises:
        ValueError: when there is no such layer.
    """
    if asked is None:
        return (num_layers + 1) // 2
    if not 0 <= asked <= num_layers:
        raise ValueError(
            f"--layer {asked}: the model has layers 1 to {num_layers}, and 0 for the input of layer 1"
        )
    return asked


def write_features(path: Path, frames_LD: np.ndarray) -> None:
    """Write (L, D) float32 to a new file of mode 0600, whole or not at all."""
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.save(file, np.ascontiguousarray(frames_LD, dtype=np.float32), allow_pickle=False)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
