"""Plays sounds through a program of this machine, without a shell.

The program is given a file whose name is the same for every sound, so that the list of processes does not
tell which one is played.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from jobs.listening.audio import duration_s

# In order of preference: what plays to the sound server comes first. The name of the file follows.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "pw-play": (),
    "paplay": (),
    "afplay": (),
    "aplay": ("-q",),
    "ffplay": ("-nodisp", "-autoexit", "-loglevel", "error", "-i"),
}
SOUNDDEVICE = "sounddevice"
_FILE = "sound.wav"
_END_S = 2.0
_SHORTEST_SHARE = 0.7


class PlayerError(ValueError):
    """Sound can't be played."""


class Player(Protocol):
    """Plays one sound at a time; a new one ends the one before."""

    def play(self, wav: bytes) -> None:
        """Start to play a WAV file; raises PlayerError."""

    def stop(self) -> None:
        """End the sound, if any."""

    @property
    def playing(self) -> bool:
        """Whether a sound is being played; raises PlayerError when the player failed."""


def open_player(name: str | None = None) -> ProgramPlayer | DevicePlayer:
    """Return a player: the named one, or the first that this machine has.

    Raises:
        PlayerError: when there is none.
    """
    known = [*COMMANDS, SOUNDDEVICE]
    for candidate in known if name is None else [name]:
        path = shutil.which(candidate)
        if candidate in COMMANDS and path is not None:
            return ProgramPlayer([path, *COMMANDS[candidate]])
        if candidate == SOUNDDEVICE and importlib.util.find_spec(SOUNDDEVICE):
            return DevicePlayer()
    if name is not None:
        raise PlayerError(
            f"the player {name!r} is not installed; leave out --player, or use --browser"
        )
    raise PlayerError(
        f"no audio player found ({', '.join(COMMANDS)}, or the extra sepdash[sound]); install one, or use --browser"
    )


class ProgramPlayer:
    """Plays through a program, as a context manager."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="sepdash-listen-")
        self._duration_s = self._since = 0.0
        self._errors = Path(self._folder.name) / "errors.txt"

    def __enter__(self) -> ProgramPlayer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._folder.cleanup()

    def play(self, wav: bytes) -> None:
        """Start to play a WAV file."""
        self.stop()
        file = Path(self._folder.name) / _FILE
        file.write_bytes(wav)
        self._duration_s = duration_s(wav)
        command = [*self._command, str(file)]
        try:
            with self._errors.open("wb") as errors:
                self._since = time.monotonic()
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
        except OSError as error:
            raise PlayerError(f"{command[0]} can't be started: {error.strerror}") from None

    def stop(self) -> None:
        """End the sound, if any."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def playing(self) -> bool:
        """Whether a sound is being played."""
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        self._process = None
        played_s = time.monotonic() - self._since
        # ffplay without a sound card ends at once, with exit code 0.
        if code or played_s < self._duration_s * _SHORTEST_SHARE:
            lines = self._errors.read_text(errors="replace").split("\n")
            said = next(
                (line.strip() for line in lines if line.strip()), f"it ended after {played_s:.1f} s"
            )
            name = Path(self._command[0]).name
            raise PlayerError(f"{name} failed: {said}; try another --player, or --browser")
        return False


class DevicePlayer:
    """Plays through the package `sounddevice`, as a context manager."""

    def __init__(self, *, load: Callable[[str], Any] = importlib.import_module) -> None:
        try:
            self._device = load(SOUNDDEVICE)
        except OSError as error:
            raise PlayerError(
                f"sounddevice can't be used ({error}); install PortAudio, or use --browser"
            ) from None

    def __enter__(self) -> DevicePlayer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def play(self, wav: bytes) -> None:
        """Start to play a WAV file."""
        import soundfile

        samples_TC, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
        try:
            self._device.play(samples_TC, rate_hz)
        except self._device.PortAudioError as error:
            raise PlayerError(
                f"sounddevice failed: {error}; try another --player, or --browser"
            ) from None

    def stop(self) -> None:
        """End the sound, if any."""
        self._device.stop()

    @property
    def playing(self) -> bool:
        """Whether a sound is being played."""
        try:
            return bool(self._device.get_stream().active)
        except RuntimeError:
            return False
