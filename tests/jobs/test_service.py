"""A worker as a service, and one that outlives its terminal; without systemd."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import submit
from jobs.home import Home
from jobs.machine.processes import process_token
from jobs.store.reader import StoreReader
from jobs.worker import detached
from jobs.worker.detached import start_detached
from jobs.worker.service import ServiceError, install, unit_path, unit_text
from tests.waiting import until


@pytest.fixture(autouse=True)
def config_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where units of this user go."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config"


def command_of(text: str) -> list[str]:
    """Return the words that systemd starts, by its rules for quotes, `%` and `$`."""
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    words = shlex.split(line.removeprefix("ExecStart="))
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


@pytest.mark.parametrize("name", ["home", "my home", 'odd "home"', "100% $HOME", "back\\slash"])
def test_the_unit_starts_this_sepdash_on_this_home(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name)
    words = command_of(unit_text(home, "cuda:1"))
    assert words == [
        sys.executable, "-P", "-m", "tui.main", "--home", str(home.root), "worker", "--device", "cuda:1",
        "--stall-after", "1800",
    ]  # fmt: skip


def test_it_is_written_once_and_says_what_to_do(tmp_path: Path, config_folder: Path) -> None:
    home = Home(tmp_path / "home")
    said = install(home, "auto")
    path = config_folder / "systemd" / "user" / "sepdash-worker.service"
    assert path.read_text() == unit_text(home, "auto")
    assert said[0] == f"wrote {path}:"
    assert "  systemctl --user enable --now sepdash-worker" in said
    assert install(home, "auto") == said
    assert unit_path("cuda:1").name == "sepdash-worker-cuda-1.service"
    with pytest.raises(ServiceError, match="is different"):
        install(Home(tmp_path / "another"), "auto")
    assert path.read_text() == unit_text(home, "auto")


def test_a_folder_that_a_unit_can_not_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="can't name this folder"):
        install(Home(tmp_path / "a\nExecStartPre=x"), "auto")
    assert not unit_path("auto").exists()


def test_a_detached_worker_is_in_a_session_of_its_own(
    home: Home, make_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "START_S", 120.0)
    submit.enqueue(home, make_config())
    submit.stop(home, 1)
    said = start_detached(home, device="cpu")
    assert said.startswith("worker started")
    with StoreReader(home.store) as reader:
        (worker,) = reader.workers()
        try:
            assert os.getsid(worker.pid) == worker.pid != os.getsid(0)
            assert Path(f"/proc/{worker.pid}/fd/1").resolve() == home.root / "worker.log"
            with pytest.raises(OSError, match=r"exited immediately: .*is using the device 'cpu'"):
                start_detached(home, device="cpu")
        finally:
            os.kill(worker.pid, signal.SIGTERM)
            until(lambda: not process_token(worker.pid), "the worker has ended")
        assert reader.workers() == []
