"""Players: chosen, started as lists, ended, and heard about when they fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jobs.listening.audio import match, wav
from jobs.listening.players import DevicePlayer, PlayerError, ProgramPlayer, open_player
from tests.waiting import until

_PROGRAM = """#!{python}
import sys, time
from pathlib import Path
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + " " + Path(sys.argv[-1]).read_bytes()[:9].decode(errors="replace") + "\\n")
{then}
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return a function that puts a fake player on the path, the only one there; it logs what it plays."""
    folder, log = tmp_path / "bin", tmp_path / "log.txt"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("jobs.listening.players.SOUNDDEVICE", "no_such_package")

    def make(name: str, then: str = "") -> Path:
        file = folder / name
        file.write_text(_PROGRAM.format(python=sys.executable, log=str(log), then=then))
        file.chmod(0o755)
        return log

    return make


def test_every_sound_has_the_same_name_and_no_shell_is_used(program):
    log = program("ffplay")
    with open_player() as player:
        for sound in (b"one", b"two"):
            player.play(sound)
            until(lambda: not player.playing, "played", within_s=20)
    lines = log.read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["one", "two"]
    assert len({line.rsplit(" ", 1)[0] for line in lines}) == 1
    assert lines[0].startswith("-nodisp -autoexit -loglevel error -i ")
    assert not Path(lines[0].split()[-2]).exists()


def test_a_new_sound_ends_the_one_before_and_leaving_ends_all(program):
    log = program("aplay", "time.sleep(60)")
    with open_player() as player:
        player.play(b"one")
        until(lambda: log.exists() and "one" in log.read_text(), "started", within_s=20)
        assert player.playing
        first = player._process
        player.play(b"two")
        assert first.poll() is not None
        second = player._process
    assert second.poll() is not None
    assert not player.playing


def test_a_failing_player_says_why(program):
    program("paplay", "sys.exit('Connection refused')")
    with open_player() as player:
        player.play(b"one")

        until(lambda: player._process.poll() is not None, "failed", within_s=20)
        with pytest.raises(PlayerError) as error:
            player.playing  # noqa: B018
        assert not player.playing
    assert str(error.value) == (
        "paplay failed: Connection refused; try another --player, or --browser"
    )


def test_a_player_that_ends_at_once_has_not_played(program, material):
    # As ffplay does without a sound card.
    program("ffplay", "print('audio open failed', file=sys.stderr)")
    made = match(material.sides.stimuli[0], excerpt_s=10)
    # Long against the start of a process on a busy machine.
    long_CT = np.tile(made.a_CT, 250)
    with open_player() as player:
        player.play(wav(long_CT, made.rate_hz, noise_key=(1,)))
        until(lambda: player._process.poll() is not None, "ended", within_s=20)
        with pytest.raises(PlayerError, match="ffplay failed: audio open failed; try another"):
            player.playing  # noqa: B018


def test_sound_servers_come_first_and_a_name_is_obeyed(program):
    for name in ("ffplay", "aplay", "paplay"):
        program(name)
    with open_player() as player:
        assert Path(player._command[0]).name == "paplay"
    with open_player("ffplay") as player:
        assert Path(player._command[0]).name == "ffplay"
    for name in ("afplay", "sh", "sounddevice"):
        with pytest.raises(PlayerError, match=f"the player '{name}' is not installed"):
            open_player(name)


def test_no_player_at_all_names_the_browser(program):
    with pytest.raises(PlayerError, match=r"no audio player found \(pw-play, .*or use --browser"):
        open_player()


def test_sounddevice_plays_arrays(material):
    played = []
    device = SimpleNamespace(
        play=lambda samples, rate: played.append((samples.shape, rate)),
        stop=lambda: played.append("stop"),
        get_stream=lambda: SimpleNamespace(active=True),
        PortAudioError=RuntimeError,
    )
    made = match(material.sides.stimuli[0], excerpt_s=10)
    with DevicePlayer(load=lambda name: device) as player:
        player.play(wav(made.a_CT, made.rate_hz, noise_key=(1,)))
        assert player.playing
    assert played == [((3200, 1), 8000), "stop"]


def test_sounddevice_without_portaudio_is_one_clear_message():
    def load(name):
        raise OSError("PortAudio library not found")

    with pytest.raises(PlayerError, match=r"PortAudio library not found.*use --browser"):
        DevicePlayer(load=load)


def test_a_program_that_vanished_is_a_message():
    with (
        ProgramPlayer([os.devnull + "/nothing"]) as player,
        pytest.raises(PlayerError, match="can't be started"),
    ):
        player.play(b"")
