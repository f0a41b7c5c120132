"""Where the audio of a file lies, by its container: first byte, number of bytes, and what their header says.

libsndfile takes what is left of a truncated file for all of it, and stops where a wrong size tells it to.
The parsers here read the sizes that the headers declare, so that both can be told. Formats without any
declared size (PAF, PVF, IRCAM, raw) are not here; FLAC, MPEG and Ogg have modules of their own.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A header that is cut, or that a program never came back to, says any of these.
_STREAMED = 0x7FFF_0000
_WRAP = 2**32
# A writer that counts its own header among the audio is off by so much (36, 44, 68, ...).
SLACK = 128
# Zeros after the audio: files that are padded to a sector.
_PADDING = 2**16
_HEAD = 4096
_NEVER = 2**63

Patch = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Field:
    """A number in a header that follows from the number of bytes: (bytes + plus) / unit, as far as it fits."""

    place: int
    layout: str
    plus: int = 0
    unit: int = 1

    def patch(self, number: int) -> Patch:
        """Return place and bytes of the field for a number of bytes."""
        layout = struct.Struct(self.layout)
        most = 2 ** (8 * layout.size - (self.layout[-1] == "q")) - 1
        return self.place, layout.pack(min(most, (number + self.plus) // self.unit))


@dataclass(frozen=True, slots=True)
class Extent:
    """What a header says about the audio of a file.

    Attributes:
        start: first byte of the audio.
        declared: number of bytes by the header; -1 where the format allows it to be unknown.
        fields: the numbers that follow from it.
        width: bytes of the size field; 0 where it can't wrap.
        chunks: how a walk goes on after the audio, as a struct of name and size; empty for formats
            without chunks.
        limited: whether libsndfile keeps to the declared size where more bytes follow.
        block: bytes that can only be decoded together; 1 where each sample stands for itself.
        tail: bytes after the audio that belong to it.
        format_chunk: of a WAV file, so that another header can be made for it.
    """

    start: int
    declared: int
    fields: tuple[Field, ...] = ()
    width: int = 0
    chunks: str = ""
    limited: bool = True
    block: int = 1
    tail: int = 0
    format_chunk: bytes = b""


class Bytes:
    """A file that is read by position; its first bytes are kept."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size
        self._head = os.pread(descriptor, _HEAD, 0)

    def at(self, place: int, number: int) -> bytes:
        """Return up to `number` bytes from `place`."""
        if place + number <= len(self._head):
            return self._head[place : place + number]
        return os.pread(self._descriptor, number, place) if place < self.size else b""


def extent_of(data: Bytes) -> Extent | None:
    """Return where the audio of a file lies; None for formats that declare no size, or a broken header."""
    magic = data.at(0, 32)
    for pattern, parse in _PARSERS:
        if pattern.match(magic):
            try:
                return parse(data)
            except (struct.error, ValueError, IndexError, ArithmeticError):
                return None
    return None


def leftover_after(data: Bytes, extent: Extent) -> int:
    """Return how many bytes after the audio are none of the container's: neither chunks nor zeros."""
    place = extent.start + extent.declared
    if place >= data.size:
        return 0
    if extent.chunks == "voc":
        return 0 if data.at(place, 1) == b"\0" and place + 1 == data.size else data.size - place
    if extent.chunks == "w64":
        place += -extent.declared % 8
        while len(head := data.at(place, 24)) == 24 and _is_name(head[:4]):
            (size,) = struct.unpack("<Q", head[16:])
            if size < 24 or place + size > data.size:
                break
            place += size + (-size) % 8
    elif extent.chunks:
        pad = 1 if "q" in extent.chunks else 2
        place += extent.declared % pad
        start = place
        for name, content, size in _walk(data, start, layout=extent.chunks, pad=pad):
            if not _is_name(name) or size < 0 or content + size > data.size:
                break
            place = content + size + size % pad
    left = data.size - place
    may_be = extent.block == 1 and extent.declared > 0 and left <= _PADDING
    is_padding = may_be and not any(data.at(place, left))
    return 0 if left <= 0 or is_padding else left


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _walk(
    data: Bytes, place: int, *, layout: str, pad: int = 2
) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, place of its content, size) of the chunks of a file."""
    head = struct.Struct(layout)
    while len(found := data.at(place, head.size)) == head.size:
        name, size = head.unpack(found)
        yield name, place + head.size, size
        place += head.size + size + (-size) % pad


def _riff(data: Bytes) -> Extent | None:
    magic = data.at(0, 4)
    order = ">" if magic == b"RIFX" else "<"
    layout, ds64, block, chunk = f"{order}4sI", 0, 1, b""
    for name, place, size in _walk(data, 12, layout=layout):
        if name == b"ds64":
            ds64 = place
        elif name == b"fmt ":
            block = _block_of(data.at(place, 14), order)
            chunk = data.at(place, min(size, 40)) if magic == b"RIFF" else b""
        elif name == b"data":
            if ds64 and size == _WRAP - 1:
                (size,) = struct.unpack("<Q", data.at(ds64 + 8, 8))
                # libsndfile believes the number of samples, too, unless it is 0.
                fields = (Field(ds64 + 8, "<Q"), Field(ds64 + 16, "<Q", unit=_NEVER))
                return Extent(place, _signed(size), fields, chunks=layout)
            if magic in (b"RF64", b"BW64") and not size:
                return None
            fields = (Field(4, f"{order}I", plus=place - 8), Field(place - 4, f"{order}I"))
            return Extent(
                place, _streamed(size), fields, width=4, chunks=layout, block=block,
                format_chunk=chunk,
            )  # fmt: skip
    return None


def rf64_head(format_chunk: bytes, number: int) -> bytes:
    """Return the header of a WAV file of any length (RF64, EBU Tech 3306) before `number` bytes of audio."""
    size = 12 + 8 + 28 + 8 + len(format_chunk) + 8
    return (
        struct.pack("<4sI4s4sIQQQI", b"RF64", _WRAP - 1, b"WAVE", b"ds64", 28, size - 8 + number, number, 0, 0)
        + struct.pack("<4sI", b"fmt ", len(format_chunk)) + format_chunk
        + struct.pack("<4sI", b"data", _WRAP - 1)
    )  # fmt: skip


def _block_of(fmt: bytes, order: str) -> int:
    """Return the bytes of a block by a WAV format chunk: 1 for PCM, floats and A-law, mu-law."""
    tag, block = struct.unpack(f"{order}H10xH", fmt)
    return 1 if tag in (1, 3, 6, 7, 0xFFFE) else max(1, block)


def _wave64(data: Bytes) -> Extent | None:
    place, block = 40, 1
    while len(head := data.at(place, 24)) == 24:
        (size,) = struct.unpack("<Q", head[16:])
        if head[:4] == b"data":
            declared = max(-1, _signed(size) - 24) if size else 0
            fields = (Field(place + 16, "<Q", plus=24),)
            return Extent(place + 24, declared, fields, chunks="w64", limited=False, block=block)
        if size < 24:
            return None
        if head[:4] == b"fmt ":
            block = _block_of(data.at(place + 24, 14), "<")
        place += size + (-size) % 8
    return None


def _aiff(data: Bytes) -> Extent | None:
    for name, place, size in _walk(data, 12, layout=">4sI"):
        if name == b"SSND":
            (offset,) = struct.unpack(">I", data.at(place, 4))
            if offset > data.size:
                return None
            start, declared = place + 8 + offset, _streamed(size)
            if declared > 0:
                declared = max(0, size - 8 - offset)
            fields = (Field(4, ">I", plus=start - 8), Field(place - 4, ">I", plus=8 + offset))
            return Extent(start, declared, fields, width=4, chunks=">4sI")
    return None


def _iff(data: Bytes) -> Extent | None:
    for name, place, size in _walk(data, 12, layout=">4sI"):
        if name == b"BODY":
            fields = (Field(4, ">I", plus=place - 8), Field(place - 4, ">I"))
            return Extent(place, _streamed(size), fields, width=4, chunks=">4sI", limited=False)
    return None


def _au(data: Bytes) -> Extent:
    order = ">" if data.at(0, 4) == b".snd" else "<"
    start, size = struct.unpack(f"{order}II", data.at(4, 8))
    return Extent(start, _streamed(size), (Field(8, f"{order}I"),), width=4, limited=False)


def _caf(data: Bytes) -> Extent | None:
    for name, place, size in _walk(data, 8, layout=">4sq", pad=1):
        if name == b"data":
            declared = -1 if size == -1 else max(0, size - 4)
            return Extent(place + 4, declared, (Field(place - 8, ">q", plus=4),), chunks=">4sq")
        if size < 0:
            return None
    return None


def _sphere(data: Bytes) -> Extent | None:
    start = int(data.at(8, 8))
    header = data.at(0, start)
    found = [re.search(rb"\n" + key + rb" -(?:i|s\d+) (\d+)", header) for key in _SPHERE_KEYS]
    if None in found:
        return None
    count, width, channels = (int(match[1]) for match in found if match)
    return Extent(start, count * width * channels, limited=False)


_SPHERE_KEYS = (rb"sample_count", rb"sample_n_bytes", rb"channel_count")


def _voc(data: Bytes) -> Extent | None:
    (place,) = struct.unpack("<H", data.at(20, 2))
    while len(head := data.at(place, 4)) == 4 and head[0]:
        size = int.from_bytes(head[1:4], "little")
        if skipped := {1: 2, 9: 12}.get(head[0]):
            tail, declared = int(head[0] == 1), max(0, size - skipped)
            return Extent(place + 4 + skipped, declared, chunks="voc", limited=False, tail=tail)
        place += 4 + size
    return None


def _avr(data: Bytes) -> Extent:
    channels, bits = struct.unpack(">HH", data.at(12, 4))
    (frames,) = struct.unpack(">I", data.at(26, 4))
    width, declared = (2 if channels else 1) * max(1, bits // 8), _streamed(frames)
    fields = (Field(26, ">I", unit=width),)
    return Extent(128, max(-1, declared * width), fields, limited=False)


def _mpc2k(data: Bytes) -> Extent:
    (stereo,) = struct.unpack("<B", data.at(21, 1))
    (frames,) = struct.unpack("<I", data.at(30, 4))
    width = 4 if stereo else 2
    return Extent(42, frames * width, limited=False)


def _psion(data: Bytes) -> Extent:
    (frames,) = struct.unpack(">I", data.at(18, 4))
    return Extent(32, frames, (Field(18, ">I"),), limited=False)


def _matlab4(data: Bytes) -> Extent | None:
    order = ">" if data.at(0, 4) == b"\x00\x00\x03\xe8" else "<"
    name_at = 20 + struct.unpack(f"{order}I", data.at(16, 4))[0]
    at = name_at + 8  # one double: the rate
    kind, rows, columns, _, name = struct.unpack(f"{order}5I", data.at(at, 20))
    width = {0: 8, 1: 4, 2: 4, 3: 2}.get(kind // 10 % 10)
    if width is None or name > 64:
        return None
    return Extent(
        at + 20 + name,
        rows * columns * width,
        (Field(at + 8, f"{order}I", unit=width * max(1, rows)),),
    )


def _matlab5(data: Bytes) -> Extent | None:
    order = ">" if data.at(126, 2) == b"MI" else "<"
    place = 128
    while len(head := data.at(place, 8)) == 8:
        kind, size = struct.unpack(f"{order}II", head)
        if kind != 14:
            return None
        at = place + 8 + 32  # past flags and dimensions
        (short,) = struct.unpack(f"{order}I", data.at(at, 4))
        (length,) = struct.unpack(f"{order}I", data.at(at + 4, 4))
        name = data.at(at + 8, length) if short < 2**16 else b""
        at += 8 + (length + -length % 8 if short < 2**16 else 0)
        if name == b"wavedata":
            (declared,) = struct.unpack(f"{order}I", data.at(at + 4, 4))
            return Extent(at + 8, declared, limited=False)
        place += 8 + size
    return None


def _paf(data: Bytes) -> Extent | None:
    order = ">" if data.at(0, 4) == b" paf" else "<"
    kind, channels = struct.unpack(f"{order}II", data.at(16, 8))
    if kind != 1 or not 0 < channels < 1024:
        return None
    # 24 bits: ten samples in 32 bytes. There is no size, but what is left over is no block.
    block, available = 32 * channels, data.size - 2048
    return Extent(2048, available - available % block, limited=False, block=block)


def _sds(data: Bytes) -> Extent | None:
    bits = data.at(6, 1)[0]
    low, middle, high = data.at(10, 3)
    samples = low | middle << 7 | high << 14
    per_packet = 120 // -(-bits // 7)
    return Extent(21, -(-samples // per_packet) * 127, block=127)


def _xi(data: Bytes) -> Extent | None:
    (number,) = struct.unpack("<H", data.at(296, 2))
    (size,) = struct.unpack("<I", data.at(298, 4))
    return Extent(338, size or -1, limited=False) if number == 1 else None


def _signed(size: int) -> int:
    """Return a 64-bit size, -1 where it is all ones or beyond any file."""
    return size if size < 2**62 else -1


def _streamed(size: int) -> int:
    return size if size < _STREAMED else -1 if size >= _WRAP - 2**16 or size <= 2**31 else size


_PARSERS: tuple[tuple[re.Pattern[bytes], Callable[[Bytes], Extent | None]], ...] = (
    (re.compile(rb"(RIFF|RIFX|RF64|BW64)....WAVE", re.DOTALL), _riff),
    (re.compile(rb"riff"), _wave64),
    (re.compile(rb"FORM....AIF[FC]", re.DOTALL), _aiff),
    (re.compile(rb"FORM....(8SVX|16SV)", re.DOTALL), _iff),
    (re.compile(rb"\.snd|dns\."), _au),
    (re.compile(rb"caff"), _caf),
    (re.compile(rb"NIST_1A\n"), _sphere),
    (re.compile(rb"Creative Voice File"), _voc),
    (re.compile(rb"2BIT"), _avr),
    (re.compile(rb"\x01\x04"), _mpc2k),
    (re.compile(rb"ALawSoundFile\*\*"), _psion),
    (re.compile(rb" paf|fap "), _paf),
    (re.compile(rb"\xf0\x7e.\x01", re.DOTALL), _sds),
    (re.compile(rb"MATLAB 5"), _matlab5),
    (re.compile(rb"Extended Instrument: "), _xi),
    (re.compile(rb"\x00\x00\x03\xe8|\x00\x00\x00\x00"), _matlab4),
)
