"""Which sampling rates and channel counts a folder of audio may have. Free of torch.

Owns the filter design that resampling uses, what it costs, and the policy of `data.resample`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil, gcd

from engine.config.data import AudioData, BandwidthData
from engine.config.errors import DataError, Problem
from engine.data.files.audio_files import AudioInfo

ZERO_CROSSINGS = 16
ROLLOFF = 0.99
_LARGEST_KERNEL = 2**22


def check_policy(infos: Sequence[AudioInfo], data: AudioData, *, setting: str) -> None:
    """Check the files of one folder against `data.resample` and `data.channels`.

    Raises:
        DataError: for mixed or forbidden rates, rates that can't be converted, more than 2 channels,
            and for bandwidth extension, audio that has no more bandwidth than the narrowest input.
    """
    problems = [
        *rate_problems(infos, data, setting=setting),
        *channel_problems(infos, data, setting=setting),
    ]
    if problems:
        raise DataError(problems)


def resampled_length(frames: int, from_hz: int, *, to_hz: int) -> int:
    """Return how many samples `frames` become: the ceiling of frames x to_hz / from_hz."""
    return -(-frames * to_hz // from_hz)


def filter_margin(from_hz: int, to_hz: int) -> int:
    """Return how many source samples on either side influence one output sample."""
    ratio = from_hz / min(from_hz, to_hz)
    return ceil(ZERO_CROSSINGS * ratio / ROLLOFF) + 1


def check_rates(from_hz: int, to_hz: int, *, setting: str) -> None:
    """Raise an error for a pair of rates whose filter bank would not fit in memory.

    Raises:
        DataError: for rates with (almost) no common divisor, such as 44101 and 48000.
    """
    divisor = gcd(from_hz, to_hz)
    source_block, block = from_hz // divisor, to_hz // divisor
    taps = 2 * filter_margin(from_hz, to_hz) + source_block
    if from_hz != to_hz and block * taps > _LARGEST_KERNEL:
        message = (
            f"can't resample from {from_hz} to {to_hz} Hz: their greatest common divisor is only "
            f"{divisor}; use common rates, such as 16000, 44100 or 48000 Hz"
        )
        raise DataError([Problem(setting, message)])


def check_all_rates(infos: Iterable[AudioInfo], to_hz: int, *, setting: str) -> None:
    """Raise an error for files whose rates can't be converted, with one problem per rate.

    Raises:
        DataError: as `check_rates` does.
    """
    problems: list[Problem] = []
    for rate in dict.fromkeys(info.rate_hz for info in infos):
        try:
            check_rates(rate, to_hz, setting=setting)
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)


def check_detours(data: BandwidthData) -> None:
    """Raise an error for all input rates that can't be reached from the model's rate.

    Raises:
        DataError: as `check_rates` does.
    """
    problems: list[Problem] = []
    for rate in data.input_rates_hz:
        try:
            check_rates(data.rate_hz, rate, setting="data.input_rates_hz")
            check_rates(rate, data.rate_hz, setting="data.input_rates_hz")
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError(problems)


def rate_problems(infos: Sequence[AudioInfo], data: AudioData, *, setting: str) -> list[Problem]:
    """Return how the sampling rates violate the policy, with one problem per kind of violation."""
    counts = Counter(info.rate_hz for info in infos)
    if data.resample != "any" and len(counts) > 1:
        message = (
            f"mixed sampling rates: {_describe(infos, counts)}; expected a single rate; convert the "
            f"files, or set data.resample = 'any' to resample each to {data.rate_hz} Hz"
        )
        return [Problem(setting, message)]
    if data.resample == "never" and data.rate_hz not in counts:
        rate_hz = next(iter(counts))
        message = (
            f"the sampling rate of the files is {rate_hz} Hz, but data.rate_hz = {data.rate_hz} and data.resample = "
            f"'never'; set data.rate_hz = {rate_hz}, or data.resample = 'uniform'"
        )
        return [Problem(setting, message)]
    problems: list[Problem] = []
    problems.extend(_narrow(infos, data, setting=setting))
    for rate in counts:
        try:
            check_rates(rate, data.rate_hz, setting=setting)
        except DataError as error:
            problems.extend(error.problems)
    return problems


def _narrow(infos: Sequence[AudioInfo], data: AudioData, *, setting: str) -> list[Problem]:
    lowest = data.lowest_input_hz
    narrow = [info for info in infos if info.rate_hz <= lowest]
    if not narrow or lowest == data.rate_hz:
        return []
    message = (
        f"{_describe(narrow, Counter(info.rate_hz for info in narrow))} have no more bandwidth than an input of "
        f"{lowest} Hz, so there is nothing to restore; expected a higher rate, ideally {data.rate_hz} "
        "Hz; remove these files, or lower data.input_rates_hz"
    )
    return [Problem(setting, message)]


def _describe(infos: Sequence[AudioInfo], counts: Counter[int]) -> str:
    parts = []
    for rate, number in counts.most_common():
        example = next(info.path for info in infos if info.rate_hz == rate)
        parts.append(
            f"{rate} Hz in {number} file{'s' if number > 1 else ''} (for example {example})"
        )
    return ", ".join(parts)


def channel_problems(infos: Sequence[AudioInfo], data: AudioData, *, setting: str) -> list[Problem]:
    """Return a problem for each file with more channels than the model has."""
    if data.channels == 1:
        return []
    return [
        Problem(
            setting,
            f"{info.path}: has {info.channels} channels; expected mono or stereo for data.channels = "
            f"{data.channels}; downmix it, or set data.channels = 1",
        )
        for info in infos
        if info.channels > data.channels
    ]
