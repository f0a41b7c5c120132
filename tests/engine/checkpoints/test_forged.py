"""Checkpoints that others wrote: anybody can sign a manifest, so every value is checked before it is used."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.checkpoints.files import CheckpointError, read_manifest, write_checkpoint
from engine.checkpoints.find import find_checkpoint, load_model
from engine.config.loading import load_config
from models.registry import build_model

CONFIG = {
    "data": {"kind": "bandwidth", "train": "t", "valid": "v", "rate_hz": 16_000, "input_rates_hz": [8000]},
    "model": {"kind": "audio_unet", "width": 4, "strides": [2, 4], "residual_units": 1},
}  # fmt: skip
ODD = st.sampled_from(
    [None, True, -1, 0, 2**62, 10**9, 1e308, "", "x", "../../x", "/etc/passwd", [], {}, [[]], {"a": {}}, "\0", "\ud83d"]
)  # fmt: skip


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "last-000003"
    config = load_config(CONFIG)
    model = build_model(config.model, channels=1, sources=config.num_sources)
    about = {
        "config": config.to_dict(),
        "counters": {"updates": 3},
        "plan": "p",
        "metrics": {"l1": 1.0},
        "packages": {},
    }
    write_checkpoint(
        folder,
        about,
        tensors={"model.safetensors": dict(model.state_dict())},
        documents={"state.json": {"best": {}}},
    )
    load_model(folder)
    return folder


def forge(real: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy a checkpoint, change its manifest, and sign that."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in real.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    values = json.loads((real / "manifest.json").read_text())
    del values["signature"]
    change(values)
    signed = hashlib.sha256(json.dumps(values, sort_keys=True, indent=1).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**values, "signature": signed}))
    return folder


def places(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside some JSON, containers included."""
    inner = (
        values.items()
        if isinstance(values, dict)
        else enumerate(values)
        if isinstance(values, list)
        else ()
    )
    for key, value in inner:
        yield (*above, key)
        yield from places(value, (*above, key))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_of_a_manifest_is_checked_before_it_is_used(
    data: Any, real: Path, tmp_path: Path
) -> None:
    known = list(places(json.loads((real / "manifest.json").read_text())))
    place = data.draw(st.sampled_from([p for p in known if p != ("signature",)]))
    value = data.draw(ODD)

    def change(values: dict[str, Any]) -> None:
        inner: Any = values
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = copy.deepcopy(value)

    folder = forge(real, tmp_path / "forged", change)
    with suppress(CheckpointError):
        find_checkpoint(folder)
        manifest = read_manifest(folder)
        assert isinstance(manifest.updates, int)
        assert manifest.size_bytes >= 0
        assert len(manifest.content) == 16
        load_model(folder)


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/passwd", "a/b", "..", ""])
def test_files_outside_its_folder_are_not_read(name: str, real: Path, tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["files"][name] = {"size_bytes": 1, "sha256": "0"}

    with pytest.raises(CheckpointError, match="is no name of a file"):
        read_manifest(forge(real, tmp_path / "f", change))


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "model.safetensors"])
def test_devices_and_pipes_are_no_files_of_it(name: str, real: Path, tmp_path: Path) -> None:
    folder = forge(real, tmp_path / "f", lambda values: None)
    for make in (lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        (folder / name).unlink()
        make(folder / name)
        with pytest.raises(CheckpointError):
            read_manifest(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"signature": ' + "1" * 5000 + "}", "[]", "3", "\xff"]
)
def test_what_is_no_manifest_is_a_message(text: str, real: Path, tmp_path: Path) -> None:
    folder = forge(real, tmp_path / "f", lambda values: None)
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="is damaged"):
        read_manifest(folder)


def test_tensors_and_documents_that_are_none_are_a_message(real: Path, tmp_path: Path) -> None:
    folder = tmp_path / "f"
    forge(real, folder, lambda values: None)
    for name, content in (("model.safetensors", b"\xff" * 64), ("state.json", b"[" * 100_000)):
        (folder / name).write_bytes(content)

        def change(values: dict[str, Any], name: str = name, content: bytes = content) -> None:
            digest = hashlib.sha256(content).hexdigest()
            values["files"][name] = {"size_bytes": len(content), "sha256": digest}

        values = json.loads((real / "manifest.json").read_text())
        del values["signature"]
        change(values)
        signed = hashlib.sha256(json.dumps(values, sort_keys=True, indent=1).encode()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({**values, "signature": signed}))
        manifest = read_manifest(folder, verify=False)
        with pytest.raises(CheckpointError, match="is damaged"):
            manifest.state() if name == "state.json" else manifest.tensors(name)
        (folder / name).write_bytes((real / name).read_bytes())
