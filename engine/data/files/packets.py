"""The ends of FLAC and Ogg files: whether the last frame or page is there, as their headers promise.

Sources: RFC 9639 (FLAC), RFC 3533 (Ogg).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from engine.data.files.containers import Bytes

_TAIL = 2**16
_MOST_PAGE = 65_307
_LAST = 4
# Samples of a FLAC frame by the code in its header; 0 is reserved, 6 and 7 say it elsewhere.
_BLOCKS = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)


@dataclass(frozen=True, slots=True)
class FlacEnd:
    """What the header of a FLAC file says, and whether its last frame agrees.

    Attributes:
        declared: number of samples by the header; 0: unknown.
        agrees: whether a frame near the end of the file ends at that sample.
        place: of the eight bytes of the header with the number.
    """

    declared: int
    agrees: bool
    place: int


@dataclass(frozen=True, slots=True)
class OggEnd:
    """The last whole page of an Ogg file.

    Attributes:
        end: the byte after it; 0 when there is none in reach.
        is_last: whether it says that the stream ends here.
        is_same: whether it belongs to the stream that the file begins with.
    """

    end: int
    is_last: bool
    is_same: bool


def flac_end(data: Bytes) -> FlacEnd | None:
    """Look at header and end of a FLAC file; None when it is none, or its header is damaged."""
    at = _past_id3(data)
    head = data.at(at, 42)
    if len(head) < 42 or head[:4] != b"fLaC" or head[4] & 0x7F != 0:
        return None
    (packed,) = struct.unpack(">Q", head[18:26])
    declared, channels = packed & (2**36 - 1), (packed >> 41 & 7) + 1
    (block,) = struct.unpack(">H", head[10:12])
    for reach in (_TAIL // 4, 4 * _TAIL):
        tail = data.at(max(0, data.size - reach), reach)
        for sync in (b"\xff\xf8", b"\xff\xf9"):
            place = len(tail)
            while (place := tail.rfind(sync, 0, place + 1)) >= 0:
                if _flac_frame_end(tail[place : place + 16], block, channels=channels) == declared:
                    return FlacEnd(declared, True, at + 18)
                place -= 1
    return FlacEnd(declared, False, at + 18)


def _past_id3(data: Bytes) -> int:
    head = data.at(0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def _flac_frame_end(header: bytes, usual_block: int, *, channels: int) -> int:
    """Return the sample after a frame; -1 when the bytes are no header of one."""
    header = header.ljust(16, b"\0")
    if not header[2] >> 4 or header[3] & 1 or (header[3] >> 4) > 10:
        return -1
    if (header[3] >> 4) != channels - 1 and not (channels == 2 and 8 <= header[3] >> 4 <= 10):
        return -1
    length = next((n for n in range(1, 8) if not header[4] << n - 1 & 0x80), 8)
    length = 1 if length == 1 else length - 1
    number = header[4] if length == 1 else header[4] & (0x7F >> length)
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    code, place = header[2] >> 4, 4 + length
    if code == 6:
        block, place = header[place] + 1, place + 1
    elif code == 7:
        block, place = int.from_bytes(header[place : place + 2], "big") + 1, place + 2
    else:
        block = _BLOCKS[code]
    place += {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if place >= len(header) or _crc8(header[:place]) != header[place]:
        return -1
    return number + block if header[1] & 1 else number * usual_block + block


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc


def ogg_end(data: Bytes) -> OggEnd | None:
    """Look for the last whole page of an Ogg file; None when it is no Ogg file."""
    head = data.at(0, 27)
    if head[:4] != b"OggS" or len(head) < 27:
        return None
    first = max(0, data.size - 2 * _MOST_PAGE)
    tail = data.at(first, 2 * _MOST_PAGE)
    place = len(tail)
    while (place := tail.rfind(b"OggS\0", 0, place)) >= 0:
        page = tail[place : place + 27 + 255]
        if len(page) > 27:
            segments = page[27 : 27 + page[26]]
            end = place + 27 + len(segments) + sum(segments)
            if len(segments) == page[26] and end <= len(tail):
                return OggEnd(first + end, bool(page[5] & _LAST), page[14:18] == head[14:18])
    return OggEnd(0, False, True)
