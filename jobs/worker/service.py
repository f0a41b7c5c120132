"""A worker as a systemd service of its user: the unit file, and what else there is to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jobs.home import Home
from jobs.worker.supervisor import STALL_S
from models.private_files import write_private
from models.user_paths import expanded

_UNIT = """\
# Written by `sepdash worker --install`. Remove: systemctl --user disable --now {name}; rm {path}
[Unit]
Description=sepdash worker on {device}: trains the queued runs of {home}

[Service]
ExecStart={command}
# On stop, the worker asks its run to save a checkpoint; after a restart the run resumes from it.
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec=180
Restart=on-failure
RestartSec=10

[Install]
WantedBy=default.target
"""


class ServiceError(ValueError):
    """The unit can't be written."""


def unit_path(device: str) -> Path:
    """Return where the unit of a worker on `device` lies."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    end = "" if device == "auto" else f"-{device.replace(':', '-')}"
    return expanded(folder).absolute() / "systemd" / "user" / f"sepdash-worker{end}.service"


def unit_text(home: Home, device: str, *, stall_s: float = STALL_S) -> str:
    """Return the unit of a worker.

    Raises:
        ServiceError: for a home whose name systemd can't read.
    """
    words = [sys.executable, "-P", "-m", "tui.main", "--home", str(home.root), "worker"]
    words += ["--device", device, "--stall-after", f"{stall_s:g}"]
    if any(not character.isprintable() for word in words for character in word):
        raise ServiceError(
            f"{home.root!s:.200}: a unit can't name this folder; choose another --home"
        )
    path = unit_path(device)
    return _UNIT.format(
        name=path.stem, path=path, device=device, home=_escaped(str(home.root)),
        command=" ".join(map(_quoted, words)),
    )  # fmt: skip


def install(home: Home, device: str, *, stall_s: float = STALL_S) -> list[str]:
    """Write the unit of a worker, and return what was done and what is to be done, line by line.

    Raises:
        ServiceError: where a unit of that name exists that says something else.
        OSError: when it can't be written.
    """
    path, text = unit_path(device), unit_text(home, device, stall_s=stall_s)
    if path.exists() and path.read_text(errors="replace") != text:
        raise ServiceError(
            f"{path} exists and is different; move it away, then run `sepdash worker --install` again"
        )
    write_private(path, text)
    return [
        f"wrote {path}:",
        "",
        *(f"    {line}".rstrip() for line in text.splitlines()),
        "",
        "Nothing was started. To start it now and at each boot:",
        "  systemctl --user daemon-reload",
        f"  systemctl --user enable --now {path.stem}",
        "  loginctl enable-linger      # keeps it running after you log out",
        f"Its output: journalctl --user -u {path.stem} -f",
    ]


def _quoted(word: str) -> str:
    """Return a word of a command line of systemd, which has quotes, escapes, `%` and `$` of its own."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
