"""The one walk of folders: links, loops, what can't be read, what is never data, and a mount that is gone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import folders
from models.folders import LIMIT_VARIABLE, NoAnswer, answered, kind_of, walk


def tree(root: Path, *names: str) -> Path:
    """Make empty files, and folders for names that end with a slash."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.touch()
    return root


def names_of(root: Path, *, depth: int | None = None) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root, depth=depth).files]


def test_files_are_in_the_order_of_the_parts_of_their_paths(tmp_path: Path) -> None:
    tree(tmp_path, "a.wav", "a/z.wav", "a-b/c.wav", "B.wav", "a/é.wav", "a/b/c.wav")
    assert names_of(tmp_path) == ["B.wav", "a/b/c.wav", "a/z.wav", "a/é.wav", "a-b/c.wav", "a.wav"]
    assert list(walk(tmp_path).files) == sorted(walk(tmp_path).files)


def test_what_is_never_data_is_left_out_wherever_it_lies(tmp_path: Path) -> None:
    never = (
        "__MACOSX", "@eaDir", "lost+found", ".Trashes", "$RECYCLE.BIN", "$Recycle.Bin", "#recycle", "@Recycle",
        "System Volume Information", ".git", ".Spotlight-V100", "#snapshot", "@tmp",
    )  # fmt: skip
    tree(tmp_path, "a.wav", "._a.wav", "s/._b.wav", "s/.DS_Store", "s/b.wav")
    for name in never:
        tree(tmp_path, f"{name}/x.wav", f"s/{name}/deep/x.wav")
    assert names_of(tmp_path) == ["a.wav", "s/b.wav"]
    # A person who names such a folder means it.
    assert names_of(tmp_path / "__MACOSX") == ["x.wav"]


def test_depth_counts_folders_from_the_root(tmp_path: Path) -> None:
    tree(tmp_path, "a.wav", "1/b.wav", "1/2/c.wav")
    tree(tmp_path / "elsewhere", "d.wav", "3/e.wav")
    (tmp_path / "1" / "link").symlink_to(tmp_path / "elsewhere")
    assert names_of(tmp_path, depth=1) == ["a.wav"]
    assert names_of(tmp_path, depth=2) == ["1/b.wav", "a.wav", "elsewhere/d.wav"]
    assert [path.name for path in walk(tmp_path, depth=1).own_folders] == ["1", "elsewhere"]


def test_links_are_followed_and_loops_and_doubles_are_told(tmp_path: Path) -> None:
    other = tree(tmp_path / "other", "a.wav", "deep/b.wav")
    root = tree(tmp_path / "root", "real/c.wav")
    (root / "bob").symlink_to(other)
    (root / "again").symlink_to(root / "real")
    (root / "real" / "up").symlink_to(root)
    (root / "out").symlink_to(tmp_path)
    (root / "self").symlink_to(root / "self")
    (root / "gone.wav").symlink_to(root / "nowhere.wav")
    (root / "one.wav").symlink_to(other / "a.wav")
    found = walk(root)
    assert [path.relative_to(root).as_posix() for path in found.files] == [
        "bob/a.wav", "bob/deep/b.wav", "gone.wav", "one.wav", "real/c.wav", "self",
    ]  # fmt: skip
    assert not found.problems
    assert found.notes == (
        f"{root}/again: a link to {root}/real, which is read already; not read twice",
        f"{root}/out: a link to a folder that it lies in; not followed",
        f"{root}/real/up: a link to a folder that it lies in; not followed",
    )


def test_links_that_lead_through_each_other_end(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one", "a.wav"), tree(tmp_path / "two", "b.wav")
    (one / "two").symlink_to(two)
    (two / "one").symlink_to(one)
    assert names_of(one) == ["a.wav", "two/b.wav"]
    # 2^30 paths, 31 folders.
    place = tmp_path / "d0"
    for level in range(30):
        tree(tmp_path / f"d{level + 1}", "x.wav")
        place = tree(tmp_path / f"d{level}", "y.wav")
        for name in "lr":
            (place / name).symlink_to(tmp_path / f"d{level + 1}")
    started = time.monotonic()
    assert len(walk(tmp_path / "d0").files) == 31 + 29
    assert time.monotonic() - started < 5.0


def test_a_folder_that_cant_be_read_is_a_problem_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, "a.wav", "shut/b.wav", "open/c.wav")
    deny(monkeypatch, tmp_path / "shut")
    found = walk(tmp_path)
    assert [path.name for path in found.files] == ["a.wav", "c.wav"]
    assert found.problems == (f"{tmp_path}/shut: this folder can't be read (Permission denied)",)


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be unreadable, also for the superuser, who may read any."""
    real = os.scandir

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)  # type: ignore[return-value]

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read any folder")
def test_permissions_count(tmp_path: Path) -> None:
    tree(tmp_path, "shut/b.wav").joinpath("shut").chmod(0)
    try:
        assert "Permission denied" in walk(tmp_path).problems[0]
    finally:
        (tmp_path / "shut").chmod(0o700)


def test_names_in_any_bytes_are_found(tmp_path: Path) -> None:
    for name in (b"caf\xe9.wav", b"new\nline.wav", b"\x1b[31m.wav", "日本.wav".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    assert len(walk(tmp_path).files) == 4
    assert all(path.exists() for path in walk(tmp_path).files)


@pytest.fixture
def dead_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose listing never answers, until the test is over; 0.2 s are waited."""
    mount = tree(tmp_path, "a.wav", "mount/x.wav") / "mount"
    real, gone = os.scandir, threading.Event()

    def scandir(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) == mount:
            gone.wait()
        return real(path)  # type: ignore[return-value]

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setenv(LIMIT_VARIABLE, "0.2")
    yield mount
    gone.set()
    for thread in threading.enumerate():
        if thread.name == "folder walk":
            thread.join()


def test_a_mount_that_is_gone_ends_in_one_line(dead_mount: Path) -> None:
    started = time.monotonic()
    found = walk(dead_mount.parent)
    assert time.monotonic() - started < 5.0
    (problem,) = found.problems
    assert problem.startswith(f"{dead_mount}: no answer from its file system for 0.2 s")
    assert not found.files
    # Whoever asks next does not wait as long again.
    started = time.monotonic()
    assert walk(dead_mount.parent).problems == found.problems
    assert time.monotonic() - started < 0.15


def test_work_that_goes_on_asking_may_take_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "0.3")

    def work(pulse: folders.Pulse) -> str:
        for number in range(20):
            pulse.at(str(number))
            time.sleep(0.05)
        return "done"

    assert answered(work, Path("x")) == "done"


def test_errors_of_the_work_are_those_of_the_caller(tmp_path: Path) -> None:
    def work(_: folders.Pulse) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        answered(work, tmp_path)


def test_kinds_of_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "a", "b/")
    assert [kind_of(tmp_path / name) for name in ("a", "b", "c", "a/d")] == [
        "file",
        "folder",
        "",
        "",
    ]
    assert kind_of(Path("nul\0")) == ""
    over = threading.Event()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: over.wait())
    monkeypatch.setenv(LIMIT_VARIABLE, "0.2")
    with pytest.raises(NoAnswer, match="network mount"):
        kind_of(tmp_path / "a")
    over.set()


@pytest.mark.parametrize("value", ["", "x", "-3", "0"])
def test_a_limit_that_makes_no_sense_is_not_taken(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    assert folders.limit_s() in (60.0, 0.1)
