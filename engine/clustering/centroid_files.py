"""Reads the centroids of a k-means model from a `.npy` file, without running anything that is in it.

Owns the refusals: whatever is wrong with such a file has one line that says what, and what to do. Free of
torch, so that a mistake is found when a run is queued. Letters: K clusters, D numbers of a frame.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engine.config.schema import RunConfig
from engine.config.targets import MFCC_DIM, MOST_CLUSTERS, TargetSettings

JOBLIB = (".km", ".joblib", ".pkl", ".pickle")
_MAGIC = b"\x93NUMPY"
# A pickle by itself, and as joblib compresses it: zlib, gzip, bz2, xz, lzma.
_PICKLES = (b"\x80", b"\x78", b"\x1f\x8b", b"BZ", b"\xfd7z", b"]\x00")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class CentroidsError(ValueError):
    """A file of centroids that can't be used."""


def read_centroids(path: Path) -> np.ndarray:
    """Read the centroids of a k-means model, (K, D) float32.

    Raises:
        CentroidsError: when the file is missing, damaged, a pickle, or holds another array.
    """
    try:
        # Of a pipe nobody knows the end.
        if not path.is_file():
            raise CentroidsError(f"{path} does not exist; expected a .npy file of centroids")
        with path.open("rb") as file:
            _check(path, file)
        centroids_KD: np.ndarray = np.load(path, allow_pickle=False)
    except CentroidsError:
        raise
    # What numpy raises depends on where the damage is.
    except (OSError, ValueError, EOFError, SyntaxError, OverflowError, MemoryError) as error:
        raise CentroidsError(
            f"{path} is not a readable .npy file of numbers: {first_line(error)}"
        ) from None
    with np.errstate(over="ignore"):
        centroids_KD = np.ascontiguousarray(centroids_KD, dtype=np.float32)
    if not np.isfinite(centroids_KD).all():
        raise CentroidsError(f"{path} has values that are not finite")
    return centroids_KD


def why_centroids_do_not_fit(config: RunConfig, path: Path) -> str:
    """Return why a file of centroids can't give the targets of a run, from its config alone; empty where it may."""
    loss: object = config.loss
    if not isinstance(loss, TargetSettings):
        return ""
    try:
        clusters, dims = read_centroids(path).shape
    except CentroidsError as error:
        return str(error)
    if clusters != loss.clusters:
        return f"{path} has {clusters} centroids, but loss.clusters = {loss.clusters}; set it to {clusters}"
    if loss.targets_from is None and dims != MFCC_DIM:
        return (
            f"{path} has centroids of {dims} dimensions, but MFCCs have {MFCC_DIM}; set loss.targets_from and "
            "loss.targets_layer to the run and the layer that they were fitted on"
        )
    return ""


def pickle_refusal(path: Path) -> str:
    """Return why a pickle isn't read, with the two lines that convert it."""
    return (
        f"{path} is a pickle, and was not read, since that can run any code. If you trust it, write the "
        "centroids of a k-means model to a file of numbers:\n"
        "  import joblib, numpy\n"
        f"  numpy.save('centroids.npy', joblib.load({str(path)!r}).cluster_centers_)"
    )


def _check(path: Path, file: BinaryIO) -> None:
    """Refuse all that the header and the size of a file tell, before anything is allocated."""
    begins = file.read(len(_MAGIC))
    if path.suffix in JOBLIB or begins.startswith(_PICKLES):
        raise CentroidsError(pickle_refusal(path))
    if begins.startswith(b"PK"):
        raise CentroidsError(
            f"{path} is an archive of arrays (.npz); write the centroids alone with numpy.save"
        )
    if begins != _MAGIC:
        raise CentroidsError(f"{path} is not a readable .npy file of numbers: it is no .npy file")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise CentroidsError(f"{path}: expected one array of numbers (.npy)")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise CentroidsError(
            f"{path} is not a readable .npy file of numbers: it holds Python objects, which are never "
            "loaded; write the centroids with numpy.save as an array of float32"
        )
    if dtype.kind not in "fiu":
        raise CentroidsError(f"{path}: expected one array of numbers (.npy), found {dtype}")
    if len(shape) != 2 or not 2 <= shape[0] <= MOST_CLUSTERS or shape[1] < 1:
        raise CentroidsError(
            f"{path} has shape {'x'.join(map(str, shape)) or 'scalar'}; expected clusters x "
            f"numbers of a frame, at least 2 clusters and at most {MOST_CLUSTERS}"
        )
    wanted, found = prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
    if found != wanted:
        raise CentroidsError(
            f"{path} is damaged: {found} bytes of numbers, expected {wanted}; copy or write it again"
        )


def first_line(error: BaseException) -> str:
    """Return the first line of an error, without characters that control a terminal."""
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    return "".join(filter(str.isprintable, first))[:200]
