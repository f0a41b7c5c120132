"""MPEG audio (MP3, MP2) by its frames: how long a file really is, and parts of it that are exact.

mpg123, through libsndfile, estimates the length of a file without a tag, and after a seek its first
frames lack the bytes that earlier ones hold for them (the bit reservoir), and its synthesis sums in another order. Here a
part is decoded from frames that are cut out of the file: some before it, that are thrown away, beginning
at a multiple of `_PERIOD` frames, where the synthesis stands as it does when the whole file is decoded.

Source of the header, side information and the tag: ISO/IEC 11172-3 and 13818-3; the LAME tag specification.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PERIOD = 8
# Frames before a part that must decode in full: the overlap of two blocks, and the filter bank's memory.
_WARM = 4
_RESERVOIR = 511
# What a decoder adds before the first sample (mpg123's GAPLESS_DELAY).
_DECODER_DELAY = 529
_MOST_TAGS = 16
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}  # (version, layer) as in the header: 3 is MPEG 1; 3, 2, 1 are layers I, II, III


@dataclass(frozen=True, slots=True)
class _Stream:
    """What all frames of a file have in common, and the length of each header they may have."""

    version: int
    layer: int
    rate_hz: int
    lengths: dict[int, int]

    @property
    def samples(self) -> int:
        """Samples of a frame in each channel."""
        if self.layer == 3:
            return 384
        return 1152 if self.layer == 2 or self.version == 3 else 576


@dataclass(frozen=True, slots=True)
class Mpeg:
    """The frames of a file.

    Attributes:
        path: the file.
        rate_hz: its rate.
        channels: 1 or 2.
        samples: of a frame, in each channel.
        offsets: (number of frames) first byte of each frame.
        lengths: (number of frames) bytes of each; there may be others between them.
        skip: samples that the encoder and the decoder put before the audio.
        frames: samples of the audio.
        layer: 3 is layer I, 1 is layer III, as in the header.
        missing: bytes that the tag counts and the file lacks.
        note: what is odd about the file; may be empty.
    """

    path: Path
    rate_hz: int
    channels: int
    samples: int
    offsets: Sequence[int]
    lengths: Sequence[int]
    skip: int
    frames: int
    layer: int
    missing: int = 0
    note: str = ""

    def part(self, start: int, frames: int) -> tuple[bytes, int]:
        """Return a stream that holds a part of the audio, and how many of its samples come before it."""
        first = (start + self.skip) // self.samples
        end = min(len(self.offsets), -(-(start + self.skip + frames) // self.samples))
        warm = max(0, first - _WARM)
        begin, held = warm, 0
        while begin > 0 and held < _RESERVOIR:
            begin -= 1
            held += max(0, self.lengths[begin] - 38)
        begin -= begin % _PERIOD
        with self.path.open("rb") as file:
            pieces, here = [], -1
            for place, length in zip(self.offsets[begin:end], self.lengths[begin:end], strict=True):
                if place != here:
                    file.seek(place)
                pieces.append(bytearray(file.read(length)))
                here = place + length
        if self.layer == 1:
            _silence_the_unfounded(pieces)
        before = start + self.skip - begin * self.samples
        if self.layer != 1:
            return b"".join(pieces), before
        # mpg123 leaves out the decoder's delay after a tag; of silence, here.
        quiet = _silent(pieces[0])
        stream = b"".join([*[quiet] * _PERIOD, *pieces])
        tag = _tag_for(pieces[0], len(pieces) + _PERIOD, num_bytes=len(stream))
        return tag + stream, before + _PERIOD * self.samples - _DECODER_DELAY


def is_mpeg(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of MPEG audio, or of a tag before it."""
    return head[:3] == b"ID3" or (
        len(head) > 3 and head[0] == 0xFF and _stream_of(head[:4]) is not None
    )


def read_mpeg(path: Path) -> Mpeg | None:
    """Find the frames of a file; None where it has none.

    Raises:
        OSError: when the file can't be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin, end = _past_tags(data), _before_tags(data)
        place = _next_frame(data, begin, end=end, stream=None)
        if place < 0:
            return None
        stream = _stream_of(data[place : place + 4])
        assert stream is not None
        offsets, lengths, junk = _frames(data, place, end=end, stream=stream)
        head = bytes(data[offsets[0] : offsets[0] + lengths[0]]) if offsets else b""
    if not offsets:
        return None
    tag = _tag_of(head, stream.layer)
    if tag is not None:
        offsets, lengths = offsets[1:], lengths[1:]
    cut = (lengths and offsets[-1] + lengths[-1] > end) and end - offsets[-1]
    if cut:
        offsets, lengths = offsets[:-1], lengths[:-1]
    channels = 1 if head[3] >> 6 == 3 else 2
    return _measured(
        path, stream, channels=channels, found=(offsets, lengths), tag=tag, cut=cut or 0, junk=junk
    )


@dataclass(frozen=True, slots=True)
class _Tag:
    """What a Xing, Info or VBRI frame says; 0 where it doesn't."""

    frames: int
    size_bytes: int
    length: int
    delay: int = -1
    padding: int = 0


def _measured(
    path: Path, stream: _Stream, *, channels: int, found: tuple[list[int], list[int]],
    tag: _Tag | None, cut: int, junk: int,
) -> Mpeg:  # fmt: skip
    offsets, lengths = found
    count, samples = len(offsets), stream.samples
    skip, total, missing, notes = 0, count * samples, 0, []
    if tag is not None:
        present = sum(lengths) + cut + tag.length
        missing = max(0, tag.size_bytes - present)
        if tag.delay >= 0:
            skip = tag.delay + _DECODER_DELAY
            is_whole = count == tag.frames or tag.size_bytes == present
            total -= skip + (max(0, tag.padding - _DECODER_DELAY) if is_whole else 0)
        if tag.frames and count != tag.frames and not missing:
            notes.append(
                f"its header gives {tag.frames} MPEG frames, but it has {count}; all are used"
            )
    if cut and not missing:
        notes.append(f"its last frame is cut off after {cut} bytes and is left out")
    if junk:
        notes.append(f"{junk} bytes in it are not audio and are left out")
    return Mpeg(
        path, stream.rate_hz, channels, samples, offsets, lengths, skip=skip, frames=max(0, total),
        layer=stream.layer, missing=missing, note="; ".join(notes),
    )  # fmt: skip


def _stream_of(header: bytes) -> _Stream | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer, rate = header[1] >> 3 & 3, header[1] >> 1 & 3, header[2] >> 2 & 3
    if version == 1 or not layer or rate == 3 or not 0 < header[2] >> 4 < 15:
        return None
    rate_hz = _RATES_HZ[version][rate]
    kbps = _KBPS[
        min(version, 2) or 2 if version != 3 else 3, layer if version == 3 or layer == 3 else 2
    ]
    lengths: dict[int, int] = {}
    for index, rate_kbps in enumerate(kbps, start=1):
        for padding in (0, 1):
            if layer == 3:
                length = (12_000 * rate_kbps // rate_hz + padding) * 4
            else:
                per = 72_000 if layer == 1 and version != 3 else 144_000
                length = per * rate_kbps // rate_hz + padding
            for free in (0, 1):
                for bare in (0, 1):
                    second = 0xE0 | version << 3 | layer << 1 | bare
                    lengths[second << 8 | index << 4 | rate << 2 | padding << 1 | free] = length
    return _Stream(version, layer, rate_hz, lengths)


def _frames(
    data: mmap.mmap, place: int, *, end: int, stream: _Stream
) -> tuple[list[int], list[int], int]:
    """Return places and lengths of frames, the last of which may be cut, and the bytes between them."""
    offsets: list[int] = []
    lengths: list[int] = []
    junk = 0
    length_of, header = stream.lengths.get, struct.Struct(">xH").unpack_from
    while place + 4 <= end:
        length = length_of(header(data, place)[0]) if data[place] == 0xFF else None
        if length is None:
            found = _next_frame(data, place + 1, end=end, stream=stream)
            junk += (end if found < 0 else found) - place
            if found < 0:
                break
            place = found
            continue
        offsets.append(place)
        lengths.append(length)
        place += length
    return offsets, lengths, junk


def _next_frame(data: mmap.mmap, place: int, *, end: int, stream: _Stream | None) -> int:
    """Return where the next frame begins that another one follows, or the end of the file; -1: nowhere."""
    while (place := data.find(b"\xff", place, end)) >= 0:
        found = _stream_of(data[place : place + 4])
        if found is not None and (
            stream is None
            or (found.version, found.layer, found.rate_hz)
            == (stream.version, stream.layer, stream.rate_hz)
        ):
            length = found.lengths[struct.unpack(">H", data[place + 1 : place + 3])[0]]
            after = place + length
            if after == end:
                return place
            following = _stream_of(data[after : after + 4]) if after + 4 <= end else None
            if following is not None and (
                following.version,
                following.layer,
                following.rate_hz,
            ) == (found.version, found.layer, found.rate_hz):
                return place
        place += 1
    return -1


def _past_tags(data: mmap.mmap) -> int:
    place = 0
    for _ in range(_MOST_TAGS):
        head = data[place : place + 10]
        if len(head) < 10 or head[:3] != b"ID3":
            break
        size = 0
        for byte in head[6:]:
            size = size << 7 | byte & 0x7F
        place += 10 + size + (10 if head[5] & 0x10 else 0)
    return place


def _before_tags(data: mmap.mmap) -> int:
    end = len(data)
    if end >= 128 and data[end - 128 : end - 125] == b"TAG":
        end -= 128
    if end >= 32 and data[end - 32 : end - 24] == b"APETAGEX":
        size, _, flags = struct.unpack("<III", data[end - 20 : end - 8])
        end = max(0, end - size - (32 if flags >> 31 else 0))
    return end


def _side_bytes(header: Sequence[int]) -> int:
    mono, first = header[3] >> 6 == 3, header[1] >> 3 & 3 == 3
    if first:
        return 17 if mono else 32
    return 9 if mono else 17


def _tag_of(frame: bytes, layer: int) -> _Tag | None:
    """Return what a first frame says about the others; None when it is audio."""
    if layer != 1:
        return None
    at = 4 + _side_bytes(frame)
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        size, frames = struct.unpack(">II", frame[46:54])
        return _Tag(frames, size, len(frame))
    at = next((p for p in (at, at + 2) if frame[p : p + 4] in (b"Xing", b"Info")), -1)
    if at < 0:
        return None
    (flags,) = struct.unpack(">I", frame[at + 4 : at + 8])
    place, values = at + 8, {1: 0, 2: 0, 4: 0, 8: 0}
    for flag, length in ((1, 4), (2, 4), (4, 100), (8, 4)):
        if flags & flag:
            values[flag] = int.from_bytes(frame[place : place + 4], "big")
            place += length
    delays = int.from_bytes(frame[place + 21 : place + 24], "big")
    if len(frame) < place + 24:
        return _Tag(values[1], values[2], len(frame))
    return _Tag(values[1], values[2], len(frame), delay=delays >> 12, padding=delays & 0xFFF)


def _silence_the_unfounded(frames: Sequence[bytearray]) -> None:
    """Empty the first frames that need bytes of frames before them; their own bytes stay for others."""
    held = 0
    for frame in frames:
        start = 4 if frame[1] & 1 else 6
        side = _side_bytes(frame)
        bits = 9 if frame[1] >> 3 & 3 == 3 else 8
        needed = int.from_bytes(frame[start : start + 2], "big") >> (16 - bits)
        if needed <= held and held >= _RESERVOIR:
            return
        if needed > held:
            # How far back they reach stays: mpg123 hands these bytes on to the frames after.
            back = needed << (16 - bits)
            frame[start : start + side] = back.to_bytes(2, "big") + bytes(side - 2)
        held += len(frame) - start - side


def _silent(frame: bytearray) -> bytes:
    return bytes([frame[0], frame[1] | 1, frame[2], frame[3]]) + bytes(len(frame) - 4)


def _tag_for(frame: bytearray, num_frames: int, *, num_bytes: int) -> bytes:
    """Return a frame that gives the number of those that follow, so that none is left out."""
    stream = _stream_of(bytes(frame[:4]))
    assert stream is not None
    header = bytearray(frame[:4])
    header[1] |= 1
    header[2] = 14 << 4 | header[2] & 0x0C
    length = stream.lengths[(header[1] << 8) | header[2]]
    head = bytes(header) + bytes(_side_bytes(header))
    tag = head + b"Info" + struct.pack(">III", 3, num_frames, num_bytes + length)
    return tag + bytes(length - len(tag))
