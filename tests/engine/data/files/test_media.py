"""Audio in containers that the optional PyAV reads: its length, its parts, what is missing of it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from engine.config.errors import DataError
from engine.data.files.audio_files import find_audio, probe, read_segment
from engine.data.files.opening import Unreadable, blocks, measure, read

RATE = 16_000
FRAMES = 3 * RATE + 123
# Name, codec, and whether it gives back every sample.
KINDS = (
    ("a.m4a", "aac", False), ("a.mp4", "aac", False), ("l.m4a", "alac", True), ("w.mov", "pcm_s16le", True),
    ("f.mka", "flac", True), ("v.wv", "wavpack", True), ("x.tta", "tta", True), ("o.webm", "libopus", False),
    ("a.aac", "aac", False), ("d.ac3", "ac3", False),
)  # fmt: skip


@pytest.fixture
def media() -> ModuleType:
    """PyAV."""
    found: ModuleType = pytest.importorskip(
        "av", reason="PyAV is not installed: pip install 'sepdash[media]'"
    )
    return found


def samples(rate_hz: int = RATE) -> np.ndarray:
    """Return 16-bit samples (1, T): a tone under noise that differs everywhere."""
    time = np.arange(FRAMES) / rate_hz
    wave = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.random.default_rng(0).normal(size=FRAMES)
    return (wave * 32_767).astype(np.int16)[None]


def write(media: ModuleType, path: Path, codec: str, *, faststart: bool = False) -> np.ndarray:
    """Encode the samples; return them."""
    rate_hz = 48_000 if codec in ("libopus", "ac3") else RATE
    values_CT = samples(rate_hz)
    options = {"movflags": "faststart"} if faststart else {}
    with media.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono")
        if codec in ("wavpack", "tta"):
            stream.format = {"wavpack": "s16p", "tta": "s16"}[codec]
        for start in range(0, FRAMES, 1_024):
            part_CT = np.ascontiguousarray(values_CT[:, start : start + 1_024])
            frame = media.AudioFrame.from_ndarray(part_CT, format="s16", layout="mono")
            frame.rate, frame.pts = rate_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return values_CT


@pytest.mark.parametrize(("name", "codec", "is_lossless"), KINDS)
def test_length_and_parts_are_those_of_the_whole(
    media: ModuleType, tmp_path: Path, name: str, codec: str, is_lossless: bool
) -> None:
    values_CT = write(media, tmp_path / name, codec)
    assert find_audio(tmp_path) == [tmp_path / name]
    info = probe(tmp_path / name)
    whole_CT = read(tmp_path / name, 0, frames=info.frames)
    assert whole_CT.shape == (1, info.frames)
    assert whole_CT.dtype == np.float32
    if is_lossless:
        assert np.array_equal(whole_CT, values_CT / np.float32(32_768))
    elif name.endswith((".m4a", ".mp4")):
        assert 0 <= info.frames - FRAMES < 1_024, (
            "the last packet is whole, what comes before the first is not audio"
        )
    else:
        # What the encoder added at start and end is not known of these.
        assert 0 <= info.frames - FRAMES <= 3 * 2_048
    if not is_lossless:
        # Of one phase with what was encoded: nothing is shifted but by what is not known.
        shift = info.frames - FRAMES if name.endswith((".aac", ".ac3")) else 0
        scores = [
            np.corrcoef(whole_CT[0, at : at + RATE], values_CT[0, :RATE])[0, 1]
            for at in range(shift + 1)
        ]
        assert max(scores) > 0.9
    for start, frames in ((0, 100), (1, 1), (1_023, 2_049), (RATE, 5_000), (info.frames - 7, 7)):
        part_CT = read_segment(info, start, frames=frames)
        assert np.array_equal(part_CT, whole_CT[:, start : start + frames])
    joined_TC = np.concatenate(list(blocks(tmp_path / name, size=4_999)))
    assert np.array_equal(joined_TC.T, whole_CT)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_what_is_cut_off_is_said(media: ModuleType, tmp_path: Path, share: float) -> None:
    for name, faststart in (("a.m4a", False), ("b.m4a", True)):
        path = tmp_path / name
        write(media, path, "aac", faststart=faststart)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(Unreadable, match=r"truncated|can't be read as audio"):
            measure(path)


@pytest.mark.parametrize("data", [b"", b"no audio" * 99, b"RIFF" + bytes(99)])
def test_what_is_no_audio_is_a_message(media: ModuleType, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.m4a").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.m4a: can't be read as audio"):
        probe(tmp_path / "a.m4a")


def test_without_the_package_they_are_named_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"x")
    assert find_audio(tmp_path) == []
    with pytest.raises(DataError, match=r"needs PyAV: pip install 'sepdash\[media\]'"):
        probe(tmp_path / "a.m4a")
