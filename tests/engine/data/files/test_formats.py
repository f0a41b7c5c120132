"""Every format that libsndfile writes, intact and damaged: the right length and samples, or one clear line.

`formats.py` beside this test says how files are written and damaged.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from engine.config.errors import DataError
from engine.data.checks.findings import sounds
from engine.data.files.audio_files import AudioInfo, check_ends, probe, read_segment
from engine.data.files.opening import blocks
from tests.engine.data.files.formats import (
    EXTENSIONS,
    WITHOUT_LENGTH,
    Format,
    Sound,
    all_formats,
    cut_and_junk,
    decoded,
    write,
    wrong_lengths,
)

PARTS = ((0, 10), (777, 100), (5_000, 1), (5_001, 3_000), (9_000, 2_000))
FORMATS = all_formats()


def test_the_formats_are_those_of_libsndfile() -> None:
    assert len({(kind.major, kind.subtype) for kind in FORMATS}) > 100
    assert {kind.major for kind in FORMATS} == set(soundfile.available_formats()) - {"RAW"}


# The first of each format at once, and those that are read in another way; all of them take a minute.
_AT_ONCE = {"FLAC", "OGG", "MP3", "PAF", "SDS"}
_FIRST = {kind.major: kind for kind in reversed(FORMATS)}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            id=str(kind),
            marks=[] if kind.major in _AT_ONCE or kind in _FIRST.values() else pytest.mark.slow,
        )
        for kind in FORMATS
    ],
)
def test_what_is_read_is_what_is_there_or_the_reason_is_said(kind: Format, tmp_path: Path) -> None:
    path = tmp_path / f"a.{EXTENSIONS[kind.major]}"
    if not write(path, kind):
        pytest.skip("libsndfile does not write it, whatever it lists")
    expected_TC = decoded(path)
    whole = path.read_bytes()
    assert _verdict(path, expected_TC, kind) == f"all {len(expected_TC)} samples"
    wrong: dict[str, str] = {}
    for name, data in (*cut_and_junk(whole), *wrong_lengths(kind, whole)):
        path.write_bytes(data)
        verdict = _verdict(path, expected_TC, kind)
        if not _is_true(verdict, name, kind, number=len(expected_TC)):
            wrong[name] = verdict
    assert not wrong


@pytest.mark.parametrize("kind", _FIRST.values(), ids=str)
def test_a_broken_header_is_one_line(kind: Format, tmp_path: Path) -> None:
    path = tmp_path / f"a.{EXTENSIONS[kind.major]}"
    if not write(path, kind):
        pytest.skip("libsndfile does not write it, whatever it lists")
    whole = path.read_bytes()
    draw = np.random.default_rng(0)
    # Every byte behind the magic as zero and as ones, then three at once.
    damages = [{place: value} for place in range(4, 64) for value in (0, 255)]
    damages += [
        dict(zip(draw.integers(4, 128, 3).tolist(), draw.bytes(3), strict=True)) for _ in range(60)
    ]
    for damage in damages:
        data = bytearray(whole)
        for place, value in damage.items():
            data[place] = value
        path.write_bytes(data)
        try:
            assert probe(path).frames >= 0
        except DataError as error:
            (problem,) = error.problems
            assert re.fullmatch(rf"{re.escape(str(path))}: [^\n]+", problem.message), damage


def _verdict(path: Path, expected_TC: np.ndarray, kind: Format) -> str:
    """Say what a run, a check before it and a survey make of a file."""
    try:
        info = probe(path)
        check_ends([info], setting="")
        got_TC = read_segment(info, 0, frames=info.frames).T
    except DataError as error:
        (problem,) = error.problems
        assert re.fullmatch(rf"{re.escape(str(path))}: [^\n]+", problem.message)
        return f"error: {problem.message}"
    number = min(len(got_TC), len(expected_TC))
    if not np.array_equal(got_TC[:number], expected_TC[:number]):
        return "other samples"
    for start, frames in (*PARTS, (info.frames - 7, 7)):
        if 0 <= start <= start + frames <= info.frames:
            part_TC = read_segment(info, start, frames=frames).T
            if not np.array_equal(part_TC, got_TC[start : start + frames]):
                return f"another part at {start}"
    block_TC = np.concatenate([block[:] for block in blocks(path, size=5_000)])
    if not np.array_equal(block_TC, got_TC):
        return "other samples in blocks"
    kinds = {finding.kind for finding in sounds([info], content=True, progress=None)}
    assert kinds == ({"header"} if info.note else set())
    amount = "all" if len(got_TC) == len(expected_TC) else "other"
    return f"{amount} {len(got_TC)} samples{', told' if info.note else ''}"


def _is_true(verdict: str, name: str, kind: Format, *, number: int) -> bool:
    if verdict.startswith("error: "):
        return True
    if kind.major in WITHOUT_LENGTH:
        # Nothing tells the end of these but the end of the file.
        return verdict.startswith(("all ", "other ")) and verdict.split()[1].isdigit()
    if verdict.startswith(f"all {number} samples"):
        return True
    # Less than there was: only with a word.
    may_be_less = name.startswith("cut") or name in ("length less", "length half")
    return may_be_less and bool(re.fullmatch(r"other \d+ samples, told", verdict))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_parts_of_mp3_are_those_of_the_whole_file(
    rate_hz: int, mode: str, channels: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mp3"
    draw = np.random.default_rng(rate_hz + channels)
    time_s = np.arange(8 * rate_hz)[:, None] / rate_hz
    # Loud and silent by turns: that fills and empties the bit reservoir.
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s) * (np.sin(3 * time_s) > 0)
    samples_TC = tone + 0.02 * draw.standard_normal((len(time_s), channels)) * (np.sin(time_s) > 0)
    soundfile.write(
        path,
        samples_TC,
        rate_hz,
        subtype="MPEG_LAYER_III",
        bitrate_mode=mode,
        compression_level=0.6,
    )
    with Sound(str(path)) as file:
        whole_TC = file.read(file.frames + 10_000, dtype="float32", always_2d=True)
    info = probe(path)
    assert info.frames == len(whole_TC)
    capfd.readouterr()
    for start in (0, 1, 575, 1_152, info.frames - 900, *draw.integers(0, info.frames - 900, 30)):
        part_CT = read_segment(info, int(start), frames=900)
        np.testing.assert_array_equal(part_CT.T, whole_TC[start : start + 900])
    assert not capfd.readouterr().err, "libmpg123 complains about parts"


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
def test_parts_of_ogg_are_those_of_the_whole_file(
    rate_hz: int, subtype: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.ogg"
    draw = np.random.default_rng(rate_hz)
    with soundfile.SoundFile(path, "w", rate_hz, 1, format="OGG", subtype=subtype) as file:
        for _ in range(12):
            file.write(0.1 * draw.standard_normal(rate_hz))
    with Sound(str(path)) as file:
        whole_T = file.read(13 * rate_hz, dtype="float32")
    info = probe(path)
    for start in (0, 100, info.frames - 500, *draw.integers(0, info.frames - 500, 30)):
        np.testing.assert_array_equal(
            read_segment(info, int(start), frames=500)[0], whole_T[start : start + 500]
        )


@pytest.mark.parametrize("length", ["wrapped", "unknown"])
def test_a_wav_beyond_4_gb_is_read_to_its_end(length: str, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.full(1_000, 0.25), 48_000, subtype="PCM_16")
    head = bytearray(path.read_bytes()[:44])
    number = 2**32 + 2_000_000
    head[40:44] = struct.pack("<I", number % 2**32 if length == "wrapped" else 2**32 - 1)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(44 + number)  # zeros that take no space
        file.seek(-2_000, os.SEEK_END)
        file.write(np.full(1_000, 8_192, "<i2").tobytes())
    info = probe(path)
    assert info.frames == number // 2
    assert ("header can't give its length" in info.note) == (length == "wrapped")
    end_CT = read_segment(info, info.frames - 1_500, frames=1_500)
    np.testing.assert_array_equal(end_CT[0, 500:], np.full(1_000, 0.25, np.float32))
    assert not end_CT[0, :500].any()


def test_frames_of_mp3_count_and_not_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    draw = np.random.default_rng(0)
    soundfile.write(
        path,
        0.1 * draw.standard_normal(80_000),
        16_000,
        bitrate_mode="CONSTANT",
        compression_level=0.9,
    )
    whole = path.read_bytes()
    length = probe(path).frames
    path.write_bytes(b"ID3\x04\0\0\0\0\1\0" + bytes(128) + whole + b"TAG" + bytes(125))
    assert probe(path) == AudioInfo(path, length, rate_hz=16_000, channels=1)
    assert not probe(path).note
    path.write_bytes(whole[:-50])
    cut = probe(path)
    assert cut.frames == length - 576
    assert "its last frame is cut off" in cut.note
    middle = len(whole) // 216 * 108
    path.write_bytes(whole[:middle] + b"\0garbage" * 100 + whole[middle:])
    assert probe(path).frames == length
    assert "800 bytes in it are not audio" in probe(path).note


@given(st.binary(max_size=400))
def test_any_bytes_at_the_end_of_a_flac_file_are_looked_through(tail: bytes) -> None:
    """Frames hold by chance what a header of another one begins with."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.flac")
        soundfile.write(path, np.full(300, 0.25), 8_000)
        path.write_bytes(path.read_bytes() + b"\xff\xf8" + tail)
        assert probe(path).frames == 300


@pytest.mark.parametrize("make", ["fifo", "socket", "folder"])
def test_special_files_are_named_and_not_opened(make: str, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    if make == "fifo":
        os.mkfifo(path)
    elif make == "folder":
        path.mkdir()
    else:
        os.mknod(path, 0o140600)
    with pytest.raises(DataError, match=r"x\.wav: is a .*not a file"):
        probe(path)


def test_a_name_in_any_bytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "a.wav", np.full(500, 0.25), 8_000)
    (tmp_path / "a.wav").rename(path)
    info = probe(path)
    assert read_segment(info, 0, frames=500).max() == np.float32(0.25)
    path.write_bytes(b"RIFF")
    with pytest.raises(DataError) as caught:
        probe(path)
    str(caught.value).encode()
    assert r"caf\xe9.wav: can't be read as audio" in str(caught.value)
