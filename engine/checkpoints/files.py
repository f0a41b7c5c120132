"""A checkpoint on disk: a directory that is complete or not there.

Owns the format: safetensors files, `state.json` and `manifest.json` with sizes and SHA-256 hashes.
A directory is written under a temporary name, every file fsynced, then renamed, and its parent
fsynced. Nothing is pickled. `engine.checkpoints.find` defines what the tensors mean.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from engine.checkpoints.layout import MANIFEST, content_name

FORMAT = 1
STATE = "state.json"
MODEL = "model.safetensors"
TRAINING = "training.safetensors"

_MOST_BYTES = 256_000_000  # of state.json or manifest.json
_LIBRARIES = ("torch", "numpy", "safetensors")


class CheckpointError(ValueError):
    """A checkpoint that can't be written or read."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a checkpoint; `values` is the content of `manifest.json`."""

    folder: Path
    values: dict[str, Any]

    @property
    def updates(self) -> int:
        """Updates completed when it was saved."""
        return int(self.values["counters"]["updates"])

    @property
    def size_bytes(self) -> int:
        """Size of the files it lists."""
        return sum(int(entry["size_bytes"]) for entry in self.values["files"].values())

    @property
    def content(self) -> str:
        """Sixteen hex digits that name the content of its files; a copy elsewhere has the same."""
        return content_name(self.values)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read one of its safetensors files, on the CPU.

        Raises:
            CheckpointError: when it is not listed, or no such file.
        """
        if name not in self.values["files"]:
            raise CheckpointError(f"{self.folder} has no {name}")
        try:
            return load_file(self.folder / name)
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{self.folder / name} is damaged: {error}") from None

    def state(self) -> dict[str, Any]:
        """Read `state.json`.

        Raises:
            CheckpointError: when it is no JSON object.
        """
        try:
            values = json.loads(_text_of(self.folder / STATE))
        except (ValueError, OSError, RecursionError) as error:
            raise CheckpointError(f"{self.folder / STATE} is damaged: {error}") from None
        if not isinstance(values, dict):
            raise CheckpointError(f"{self.folder / STATE} is damaged: expected a JSON object")
        return values


def write_checkpoint(
    folder: Path,
    about: Mapping[str, Any],
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    documents: Mapping[str, Mapping[str, Any]] | None = None,
) -> Manifest:
    """Write the directory `folder`, replacing an existing one.

    Args:
        folder: destination; a missing parent is created.
        about: manifest entries besides format, versions, time and files.
        tensors: file name -> tensors by name, on the CPU, contiguous.
        documents: file name -> content of a file of JSON.

    Raises:
        CheckpointError: when the disk is full or not writable; no partial directory remains, and the
            previous content of `folder` is unchanged.
    """
    aside = folder.with_name(f"{folder.name}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        contents = {name: save(dict(group)) for name, group in tensors.items()}
        contents |= {name: _to_json(values) for name, values in (documents or {}).items()}
        manifest = Manifest(folder, _manifest_values(about, contents))
        contents[MANIFEST] = _to_json(_signed(manifest.values))
        for name, data in contents.items():
            _write_file(aside / name, data)
        _fsync_folder(aside)
        _put_in_place(aside, folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(_explain(folder, error)) from error
    return manifest


def read_manifest(folder: Path, *, verify: bool = True) -> Manifest:
    """Read and check a checkpoint.

    Args:
        folder: its directory.
        verify: also compare the hash of every file (otherwise only sizes).

    Raises:
        CheckpointError: describing the damage.
    """
    try:
        values = json.loads(_text_of(folder / MANIFEST))
        signature = values.pop("signature")
        intact = signature == _signed(values)["signature"]
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a checkpoint: {MANIFEST} is missing") from None
    except (ValueError, KeyError, AttributeError, TypeError, OSError, RecursionError) as error:
        raise CheckpointError(f"{folder / MANIFEST} is damaged: {error!r}") from None
    if not intact:
        raise CheckpointError(f"{folder / MANIFEST} is damaged: its signature does not match")
    if problem := _malformed(values):
        raise CheckpointError(f"{folder / MANIFEST} is damaged: {problem}")
    if values["format"] != FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {values['format']}, but this version reads {FORMAT}; "
            "use the version of sepdash that wrote it"
        )
    for name, entry in values["files"].items():
        _check_file(folder / name, entry, verify=verify)
    return Manifest(folder, values)


def _text_of(path: Path) -> str:
    """Return the text of a file of values; a link to a device has no end."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode) or state.st_size > _MOST_BYTES:
        raise ValueError(f"not a file, or larger than {_MOST_BYTES:,} bytes")
    return path.read_text(encoding="utf-8")


def _malformed(values: Mapping[str, Any]) -> str:
    """Say what of a manifest is not as it is written: everybody can sign one."""
    files = values.get("files")
    if not isinstance(values.get("format"), int) or not isinstance(files, dict):
        return "format or files are missing"
    for name, entry in files.items():
        if Path(name).name != name or name in ("", ".", ".."):
            return f"{name!r:.60} is no name of a file"
        if not isinstance(entry, dict) or type(entry.get("size_bytes")) is not int:
            return f"the size of {name!r:.60} is missing"
        if not isinstance(entry.get("sha256"), str):
            return f"the hash of {name!r:.60} is missing"
    for key in ("config", "packages", "metrics"):
        if not isinstance(values.get(key, {}), dict):
            return f"{key} must be an object"
    counters = values.get("counters", {})
    if not isinstance(counters, dict) or not all(
        isinstance(count, int | float) and 0 <= count < 2**63 for count in counters.values()
    ):
        return "counters must be numbers"
    return ""


def tidy(parent: Path) -> None:
    """Clean up after a process that was killed while it saved."""
    if not parent.is_dir():
        return
    for aside in parent.glob("*.tmp"):
        shutil.rmtree(aside, ignore_errors=True)
    for old in parent.glob("*.old"):
        place = old.with_suffix("")
        if place.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(place)


def _manifest_values(about: Mapping[str, Any], contents: Mapping[str, bytes]) -> dict[str, Any]:
    versions = {name: version(name) for name in _LIBRARIES}
    return {
        "format": FORMAT,
        **about,
        "created_at": time.time(),
        "versions": {"python": platform.python_version(), **versions},
        "files": {
            name: {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in contents.items()
        },
    }


def _signed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, "signature": hashlib.sha256(_to_json(values)).hexdigest()}


def _to_json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, indent=1).encode()


def _check_file(path: Path, entry: Mapping[str, Any], *, verify: bool) -> None:
    try:
        state = path.stat()
        size = state.st_size
        if not stat.S_ISREG(state.st_mode):
            raise CheckpointError(f"{path} is damaged: it is not a file")
        if size != entry["size_bytes"]:
            raise CheckpointError(
                f"{path} is damaged: {size} bytes, expected {entry['size_bytes']}"
            )
        if verify:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != entry["sha256"]:
                raise CheckpointError(f"{path} is damaged: its SHA-256 hash does not match")
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error}") from None


def _write_file(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def _put_in_place(aside: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old")
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        aside.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    _fsync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no disk space left to save {folder}: free some space, then resume the run; "
            "earlier checkpoints are intact"
        )
    return f"can't save {folder}: {error}"
