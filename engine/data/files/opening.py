"""How an audio file is opened, how long it really is, and how a part of it is read. Owns all use of soundfile.

What a file holds is found once (`measure`), from its container, its frames or by decoding it, wherever the
header can't be trusted; whoever reads it then gets the same length and the same samples. A part equals the
same part of the whole file, bit for bit: formats whose decoder needs what came before are read from far
enough back. Free of torch. Letters: C channels, T samples.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from engine.data.files import media, remarks
from engine.data.files.containers import SLACK, Bytes, Extent, extent_of, leftover_after, rf64_head
from engine.data.files.mpeg import Mpeg, is_mpeg, read_mpeg
from engine.data.files.packets import flac_end, ogg_end
from engine.data.files.views import View, ViewedFile

_UNKNOWN_FRAMES = 2**48
_WRAP = 2**32
_BLOCK = 2**16
_FROM_START, _AT_ONCE = -1, -2
_PLAIN = frozenset(
    {"PCM_S8", "PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
)
# Their decoders lose samples where one read ends and the next begins.
_AT_ONCE_FORMATS = ("PAF", "SDS")
# libsndfile decodes whole blocks of these, whatever is there of the last one.
_BLOCK_BYTES = {"G721_32": 60, "G723_24": 45, "G723_40": 75}
_SEEKABLE = _PLAIN | frozenset(
    {"IMA_ADPCM", "MS_ADPCM", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}
)
# Seconds before a part that are decoded and thrown away; Vorbis misplaces what is in the last page.
_LEAD_S = {"VORBIS": 4, "OPUS": 2}

_PLAINER = {
    "Format not recognised": "not in a known audio format, or its header is damaged",
    "Supported file format but file is malformed": "its header is damaged or cut off",
    "Internal psf_fseek() failed": "its audio ends early",
}


class Unreadable(Exception):
    """A file that can't be used; the message says why, without its name."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a file holds, and how it is read.

    Attributes:
        frames: samples in each channel; 0 for none.
        rate_hz: its rate.
        channels: their number.
        subtype: libsndfile's name of its encoding; empty for MPEG.
        note: what is wrong with the file although it can be used; may be empty.
        lead: samples that are decoded before a part and thrown away; -1: all of them; -2: in one call.
        view: how its bytes are changed before they are decoded; None: not.
        mpeg: whether it is decoded frame by frame (`engine.data.files.mpeg`).
        media: whether it is decoded by the optional PyAV (`engine.data.files.media`).
    """

    frames: int
    rate_hz: int
    channels: int
    subtype: str = ""
    note: str = ""
    lead: int = 0
    view: View | None = None
    mpeg: bool = False
    media: bool = False

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate_hz


def measure(path: Path) -> Measured:
    """Find out what a file holds; kept until the file changes.

    Raises:
        Unreadable: when it is no audio file, is truncated, or can't be read.
    """
    name = os.fsencode(path)
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise Unreadable(
                f"is {remarks.kind_of(state.st_mode)}, not a file; remove it or leave it out"
            )
        if not state.st_size:
            raise Unreadable("can't be read as audio (it is empty, 0 bytes)")
        return _measure(name, state.st_size, changed_ns=state.st_mtime_ns)
    except FileNotFoundError:
        raise Unreadable("can't be read as audio (it does not exist)") from None
    except OSError as error:
        raise Unreadable(f"can't be read as audio ({error.strerror or error})") from None


def read(path: Path, start: int, *, frames: int) -> np.ndarray:
    """Read float32 (C, T) from `start`; T is smaller than `frames` where the file ends early.

    Raises:
        Unreadable: when it can't be read.
    """
    measured = measure(path)
    lead = start if measured.lead < 0 else min(start, measured.lead)
    with _decoding(path, measured, start=start, frames=frames) as (file, before):
        if measured.lead == _AT_ONCE:
            return np.ascontiguousarray(_next(file, start + frames)[start:].T)
        if before:
            _skip(file, before)
        elif start > lead and isinstance(file, _Sound):
            file.seek(start - lead)
        if lead and not measured.mpeg:
            _skip(file, lead)
        return _read_floats(file, frames)


def blocks(path: Path, *, size: int, overlap: int = 0) -> Iterator[np.ndarray]:
    """Yield all of a file as float32 (T, C), `size` samples at a time, neighbours overlapping.

    Raises:
        Unreadable: when it can't be read to its end.
    """
    measured = measure(path)
    with _decoding(path, measured, start=0, frames=measured.frames) as (file, before):
        if before:
            _skip(file, before)
        size = max(size, measured.frames) if measured.lead == _AT_ONCE else size
        left, last_TC = measured.frames, np.zeros((0, measured.channels), np.float32)
        while left:
            wanted = min(left, size - len(last_TC))
            block_TC = _next(file, wanted)
            left -= len(block_TC)
            yield np.concatenate([last_TC, block_TC]) if len(last_TC) else block_TC
            if len(block_TC) < wanted:
                return
            last_TC = block_TC[len(block_TC) - overlap :] if overlap else last_TC


@contextmanager
def _decoding(
    path: Path, measured: Measured, *, start: int, frames: int
) -> Iterator[tuple[_Sound | media.MediaSound, int]]:
    """Open a file for a part; yields it, and how many samples of it come before the part."""
    name = os.fsencode(path)
    try:
        if measured.media:
            with media.MediaSound(path) as sound:
                yield sound, 0
        elif measured.mpeg:
            stream, before = _mpeg_of(path).part(start, frames)
            with _Sound(io.BytesIO(stream)) as file:
                yield file, before
        elif measured.view is not None:
            with Path(path).open("rb") as bare, _Sound(ViewedFile(bare, measured.view)) as file:
                yield file, 0
        else:
            with _Sound(name) as file:
                yield file, 0
    except media.MediaError as error:
        raise Unreadable(str(error)) from None
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise Unreadable(
            f"can't be read ({_reason(error)}); it is truncated or damaged: copy or record it again"
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        text = str(error.error_string).rstrip(".")
        return _PLAINER.get(text, text)
    return str(getattr(error, "strerror", None) or error)


@lru_cache(maxsize=65_536)
def _measure(name: bytes, size: int, *, changed_ns: int) -> Measured:
    path = Path(os.fsdecode(name))
    if path.suffix.lower() in media.EXTENSIONS:
        return _of_media(path)
    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        data = Bytes(descriptor, size)
        head = data.at(0, 12)
        if head[:4] == b"fLaC" or (head[:3] == b"ID3" and flac_end(data) is not None):
            return _of_flac(name, data)
        if is_mpeg(head):
            return _of_mpeg(path)
        if head[:4] == b"OggS":
            return _of_ogg(name, data)
        extent = extent_of(data)
        if extent is not None:
            return _of_extent(name, data, extent=extent)
        return _opened(name, None)
    finally:
        os.close(descriptor)


def _of_media(path: Path) -> Measured:
    if not media.is_installed():
        raise Unreadable(
            f"can't be read as audio (its format needs PyAV: {media.HINT}); install it, or convert to FLAC"
        )
    try:
        found = media.measure_media(path)
    except media.MediaError as error:
        raise Unreadable(str(error)) from None
    return Measured(
        found.frames, found.rate_hz, channels=found.channels, lead=_FROM_START, media=True
    )


def _of_mpeg(path: Path) -> Measured:
    mpeg = _mpeg_of(path)
    if mpeg.missing:
        raise Unreadable(remarks.truncated(mpeg.missing))
    return Measured(mpeg.frames, mpeg.rate_hz, channels=mpeg.channels, note=mpeg.note, mpeg=True)


def _mpeg_of(path: Path) -> Mpeg:
    state = path.stat()
    found = _frames_of(path, state.st_size, changed_ns=state.st_mtime_ns)
    if found is None:
        raise Unreadable("can't be read as audio (it has no MPEG frames)")
    return found


@lru_cache(maxsize=512)
def _frames_of(path: Path, size: int, *, changed_ns: int) -> Mpeg | None:
    return read_mpeg(path)


def _of_flac(name: bytes, data: Bytes) -> Measured:
    end = flac_end(data)
    if end is None or end.agrees:
        return _opened(name, None)
    # The number of samples is in the low 36 bits; 0 is "unknown", so that nothing is left out.
    packed = int.from_bytes(data.at(end.place, 8), "big") & ~(2**36 - 1)
    view = View(data.size, ((end.place, packed.to_bytes(8, "big")),))
    found = _opened(name, view, count=True)
    if found.frames < end.declared:
        raise Unreadable(
            f"truncated or damaged, {end.declared - found.frames} of {end.declared} samples are missing; "
            "copy or record it again"
        )
    if found.frames == end.declared:
        return _opened(name, None)
    if not end.declared:
        return found
    return replace(found, note=remarks.other_length(end.declared / found.rate_hz, found.duration_s))


def _of_ogg(name: bytes, data: Bytes) -> Measured:
    end = ogg_end(data)
    if end is None or not end.end or not end.is_last:
        raise Unreadable(
            "truncated, its last page is missing; copy or record it again, or keep what there is with "
            "`ffmpeg -i OLD -c copy NEW`"
        )
    if not end.is_same:
        raise Unreadable("several streams one after the other; convert it to one")
    junk = data.size - end.end
    if not junk:
        return _opened(name, None)
    found = _opened(name, View(end.end))
    return replace(found, note=remarks.junk(junk)) if junk > SLACK else found


def _of_extent(name: bytes, data: Bytes, *, extent: Extent) -> Measured:
    available, declared = max(0, data.size - extent.start), extent.declared
    if declared < 0:
        # All ones: a program that streams does not know the length.
        return _opened(name, _view(extent, available))
    if declared > available:
        if declared - available > SLACK or not available:
            raise Unreadable(remarks.truncated(declared - available))
        found = _opened(name, _view(extent, available))
        if found.subtype not in _PLAIN:
            raise Unreadable(remarks.truncated(declared - available))
        return replace(found, note=remarks.counts_more(declared - available, found.duration_s))
    left = leftover_after(data, extent)
    if not left and (extent.limited or declared + extent.start == data.size):
        return _opened(name, None)
    if not left:
        return _opened(name, _view(extent, declared))
    if not declared:
        found = _opened(name, _view(extent, available))
        return replace(
            found,
            note=f"its header gives no length; all {remarks.seconds(found.duration_s)} are used",
        )
    if extent.width == 4 and left >= _WRAP - SLACK:
        wraps = (left + SLACK) // _WRAP * _WRAP
        found = _opened(name, _view(extent, min(available, declared + wraps)))
        return replace(
            found,
            note=f"its header can't give its length; all {remarks.seconds(found.duration_s)} are used",
        )
    found = _opened(name, None)
    if not extent.limited:
        declared -= declared % _BLOCK_BYTES.get(found.subtype, extent.block)
        found = _opened(name, _view(extent, declared))
    return replace(found, note=remarks.junk(left))


def _view(extent: Extent, number: int) -> View:
    if number >= _WRAP and extent.width == 4 and extent.chunks:
        if not extent.format_chunk:
            raise Unreadable("longer than its format can say (4 GB); convert it to FLAC")
        head = rf64_head(extent.format_chunk, number)
        return View(len(head) + number, ((0, head),), shift=len(head) - extent.start)
    return View(
        extent.start + number + extent.tail, tuple(field.patch(number) for field in extent.fields)
    )


def _opened(name: bytes, view: View | None, *, count: bool = False) -> Measured:
    """Ask libsndfile about a file; count its samples where it can't know them."""
    try:
        with _sound(name, view) as file:
            frames, subtype, lead = int(file.frames), file.subtype, 0
            if file.format in _AT_ONCE_FORMATS:
                lead = _AT_ONCE
            elif subtype not in _SEEKABLE and file.format != "FLAC":
                lead = _LEAD_S.get(subtype, 0) * file.samplerate or _FROM_START
            if count or lead == _FROM_START or frames >= _UNKNOWN_FRAMES:
                frames = _count(file)
                lead = lead if file.format == "FLAC" else _FROM_START
            return Measured(
                frames, file.samplerate, channels=file.channels, subtype=subtype, lead=lead, view=view
            )  # fmt: skip
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise Unreadable(f"can't be read as audio ({_reason(error)})") from None


@contextmanager
def _sound(name: bytes, view: View | None) -> Iterator[_Sound]:
    if view is None:
        with _Sound(name) as file:
            yield file
        return
    with Path(os.fsdecode(name)).open("rb") as bare, _Sound(ViewedFile(bare, view)) as file:
        yield file


def _count(file: _Sound) -> int:
    total = 0
    try:
        while number := len(_next(file, _BLOCK)):
            total += number
    except (soundfile.LibsndfileError, RuntimeError):
        return total
    return total


def _skip(file: _Sound | media.MediaSound, number: int) -> None:
    while number > 0:
        read = len(_next(file, min(number, _BLOCK)))
        if not read:
            return
        number -= read


def _next(file: _Sound | media.MediaSound, number: int) -> np.ndarray:
    """Read up to `number` samples as float32 (T, C)."""
    samples_TC: np.ndarray = file.read(number, dtype="float32", always_2d=True)
    return samples_TC


def _read_floats(file: _Sound | media.MediaSound, frames: int) -> np.ndarray:
    """Read float32 (C, T). For 16 bits NumPy gives the same floats as libsndfile, twice as fast."""
    if file.subtype != "PCM_16":
        return np.ascontiguousarray(_next(file, frames).T)
    samples_TC = file.read(frames, dtype="int16", always_2d=True)
    samples_CT = np.empty(samples_TC.shape[::-1], np.float32)
    np.multiply(samples_TC.T, np.float32(1 / 32_768), out=samples_CT)
    return samples_CT


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read on from where it is: soundfile seeks after each read, which is not exact."""

    def seekable(self) -> bool:
        """Return False, so that nothing is sought but by `seek`."""
        return False
