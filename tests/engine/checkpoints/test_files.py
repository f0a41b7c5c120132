"""A checkpoint is complete or not there: full disks, kills, flipped bits, newer formats."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from engine.checkpoints import files as checkpoint_files
from engine.checkpoints.files import CheckpointError, read_manifest, tidy, write_checkpoint
from engine.checkpoints.find import find_checkpoint, load_model, newest_intact
from engine.checkpoints.writer import CheckpointWriter, Save, SnapshotBuffers

ABOUT = {"kind": "last", "counters": {"updates": 3}}


def _write(folder: Path, value: float = 1.0) -> None:
    tensors = {"model.safetensors": {"weight": torch.full((4,), value)}}
    write_checkpoint(folder, ABOUT, tensors=tensors, documents={"state.json": {"best": {}}})


def _weight(folder: Path) -> float:
    return float(read_manifest(folder).tensors("model.safetensors")["weight"][0])


def test_what_is_written_is_read_back(tmp_path):
    _write(tmp_path / "last-000003")
    manifest = read_manifest(tmp_path / "last-000003")
    assert (manifest.updates, manifest.state()) == (3, {"best": {}})
    assert torch.equal(manifest.tensors("model.safetensors")["weight"], torch.ones(4))
    files = {path.name: path.stat() for path in manifest.folder.iterdir()}
    assert set(files) == {"manifest.json", "model.safetensors", "state.json"}
    assert all(stat.st_mode & 0o777 == 0o600 for stat in files.values())


def test_every_file_and_folder_is_synced_before_and_after_the_rename(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
    )
    _write(tmp_path / "last-000003")
    names = [str(Path(path).relative_to(tmp_path)) for path in synced]
    aside = "last-000003.tmp"
    assert set(names[:-2]) == {
        f"{aside}/model.safetensors", f"{aside}/state.json", f"{aside}/manifest.json"
    }  # fmt: skip
    assert names[-2:] == [aside, "."]


@pytest.mark.parametrize("fails_at", range(1, 6))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failed_save_leaves_the_old_one(tmp_path, monkeypatch, fails_at, code):
    _write(tmp_path / "best-si_sdr", 1.0)
    calls = 0

    def full(descriptor):
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    expected = "no disk space left to save" if code == errno.ENOSPC else "can't save"
    with pytest.raises(CheckpointError, match=expected):
        _write(tmp_path / "best-si_sdr", 2.0)
    tidy(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["best-si_sdr"]
    # From the rename on (the fifth sync is that of the parent) the new one is in place.
    assert _weight(tmp_path / "best-si_sdr") == (2.0 if fails_at == 5 else 1.0)


def test_tidy_after_a_kill(tmp_path):
    _write(tmp_path / "best-si_sdr")
    (tmp_path / "best-si_sdr").rename(tmp_path / "best-si_sdr.old")
    _write(tmp_path / "last-000003")
    (tmp_path / "last-000006.tmp").mkdir()
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-si_sdr", "last-000003"]
    tidy(tmp_path / "missing")


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "manifest.json"])
def test_any_flipped_bit_is_noticed(tmp_path, name):
    _write(tmp_path / "last-000003")
    path = tmp_path / "last-000003" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_manifest(tmp_path / "last-000003")


@pytest.mark.parametrize("text", ["", "null", "[1]", "3", '"x"', "{}", '{"signature": 1}'])
def test_a_manifest_that_is_another_value_of_json_is_damaged(tmp_path, text):
    _write(tmp_path / "last-000003")
    (tmp_path / "last-000003" / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_manifest(tmp_path / "last-000003")


def test_a_cut_or_missing_file_is_noticed(tmp_path):
    _write(tmp_path / "last-000003")
    path = tmp_path / "last-000003" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"is damaged: \d+ bytes, expected \d+"):
        read_manifest(path.parent, verify=False)
    path.unlink()
    with pytest.raises(CheckpointError, match="can't be read"):
        read_manifest(path.parent)


def test_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_files, "FORMAT", 2)
    _write(tmp_path / "last-000003")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 2, but this version reads 1"):
        read_manifest(tmp_path / "last-000003")


def test_newest_intact_sets_the_broken_aside(tmp_path):
    for name in ("last-000999", "last-001000", "last-1000000"):
        _write(tmp_path / name)
    (tmp_path / "last-1000000" / "manifest.json").write_text("{")
    manifest, problems = newest_intact(tmp_path)
    assert manifest is not None
    assert manifest.folder.name == "last-001000"
    assert len(problems) == 1
    assert (tmp_path / "last-1000000.broken").is_dir()
    assert newest_intact(tmp_path / "missing") == (None, [])


def test_writer_keeps_the_newest_and_hands_errors_back(tmp_path, monkeypatch):
    with CheckpointWriter(tmp_path, keep_last=2) as writer:
        for number in range(4):
            writer.submit([Save(f"last-{number:06d}", ABOUT, tensors={"model.safetensors": {}})])
            assert [m.folder.name for m in writer.wait()] == [f"last-{number:06d}"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["last-000002", "last-000003"]
        assert writer.poll() == writer.wait() == []

        def full(descriptor):
            raise OSError(errno.ENOSPC, "full")

        monkeypatch.setattr(os, "fsync", full)
        writer.submit([Save("last-000009", ABOUT, tensors={"model.safetensors": {}})])
        with pytest.raises(CheckpointError, match="no disk space left"):
            writer.wait()


def test_snapshot_is_a_copy_in_kept_memory():
    buffers = SnapshotBuffers()
    weight = torch.ones(3)
    first = buffers.take({"weight": weight})["weight"]
    weight.zero_()
    assert first.tolist() == [1, 1, 1]
    second = buffers.take({"weight": weight})["weight"]
    assert second.data_ptr() == first.data_ptr()
    assert second.tolist() == [0, 0, 0]


def test_load_model_says_what_is_wrong(tmp_path):
    with pytest.raises(CheckpointError, match="contains no checkpoint"):
        load_model(tmp_path)
    _write(tmp_path / "last-000003")
    path = tmp_path / "last-000003" / "manifest.json"
    values = json.loads(path.read_text())
    assert find_checkpoint(tmp_path).name == "last-000003"
    del values["signature"]
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_model(tmp_path)


def test_best_is_preferred_to_last(tmp_path):
    for name in ("last-000003", "best-val_loss", "best-si_sdr"):
        _write(tmp_path / "checkpoints" / name)
    assert find_checkpoint(tmp_path).name == "best-si_sdr"
    assert find_checkpoint(tmp_path / "checkpoints" / "last-000003").name == "last-000003"
