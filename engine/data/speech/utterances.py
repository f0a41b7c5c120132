"""Utterances with transcripts as a dataset: which ones a split keeps, and the audio of each.

Letters: N utterances, T samples.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from os.path import relpath
from pathlib import Path

import numpy as np

from engine.batching.batch import Split
from engine.config.errors import DataError, Problem
from engine.config.schema import RunConfig
from engine.config.utterances import UtteranceData
from engine.data.files.audio_files import AudioInfo
from engine.data.files.rates import check_all_rates, resampled_length
from engine.data.files.resampling import read_resampled
from engine.data.files.source import with_channels
from engine.data.speech.kept_lengths import LeftOut, in_range
from engine.data.speech.transcripts import checked_transcripts


def open_utterances(config: RunConfig, split: Split) -> SpeechDataset:
    """Return the utterances of a split of a run.

    Raises:
        DataError: as `SpeechDataset` does.
    """
    assert isinstance(config.data, UtteranceData)
    return SpeechDataset(config.data, split)


class SpeechDataset:
    """The utterances of a split in a fixed order: the rows of a manifest may be shuffled at will.

    Training keeps those of `data.min_s` to `data.max_s`, validation all unless `data.limits_validation`. Can be sent to a worker
    process; holds no open file.

    Attributes:
        utterances: N of them, by path and start.
        left_out: what training skips.

    Raises:
        DataError: with every bad row; when no utterance is kept.
    """

    def __init__(self, data: UtteranceData, split: Split) -> None:
        setting = f"data.{split}"
        path = data.train if split == "train" else data.valid
        transcripts = checked_transcripts(path, data, setting=setting)
        check_all_rates(transcripts.infos.values(), data.rate_hz, setting=setting)
        kept = transcripts.utterances
        if split == "train" or data.limits_validation:
            kept = in_range(kept, data, all_of_them=split == "valid")
        self.left_out = LeftOut.of(transcripts.utterances, data) if split == "train" else LeftOut()
        if not kept:
            left_out = LeftOut.of(transcripts.utterances, data)
            what = "training" if split == "train" else "validation"
            raise DataError([Problem(setting, f"{path}: no usable {what} utterances, {left_out}")])
        self.utterances = sorted(kept, key=lambda item: (item.path, item.start_s, item.duration_s))
        self._folder = path if path.is_dir() else path.parent
        self._infos: dict[Path, AudioInfo] = {
            item.path: transcripts.infos[item.path] for item in self.utterances
        }
        self._rate_hz = data.rate_hz

    def __len__(self) -> int:
        """Return N."""
        return len(self.utterances)

    def subset(self, indices: Sequence[int]) -> SpeechDataset:
        """Return a dataset of some of the utterances, in the order given."""
        some = copy.copy(self)
        some.__dict__.pop("manifest", None)
        some.utterances = [self.utterances[index] for index in indices]
        return some

    @property
    def texts(self) -> list[str]:
        """The N normalised texts."""
        return [item.text for item in self.utterances]

    def durations_s(self) -> np.ndarray:
        """Return (N,) float64, the length of each utterance in seconds."""
        return np.array([item.duration_s for item in self.utterances], dtype=np.float64)

    @cached_property
    def manifest(self) -> str:
        """Sixteen hex digits over names, places, lengths, rates and texts, in any order of rows."""
        digest = sha256()
        for item in self.utterances:
            info = self._infos[item.path]
            name = Path(relpath(item.path, self._folder)).as_posix()
            place = f"{item.start_s:.6f} {item.duration_s:.6f} {info.frames} {info.rate_hz}"
            digest.update(f"{name} {place} {item.text}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def num_samples(self, index: int) -> int:
        """Return T, the length of an utterance at the model's rate."""
        start, end = self._range(index)
        return end - start

    def key(self, index: int) -> str:
        """Return a name of an utterance: path seen from the manifest, first and last sample."""
        start, end = self._range(index)
        name = Path(relpath(self.utterances[index].path, self._folder)).as_posix()
        return f"{name}:{start}-{end}"

    def files(self, index: int) -> list[str]:
        """Return the path of the file that an utterance is read from."""
        return [str(self.utterances[index].path)]

    def audio(self, index: int) -> np.ndarray:
        """Read one utterance by seeking: float32 (T,) at `data.rate_hz`, its channels averaged.

        Raises:
            DataError: when the file became unreadable.
        """
        start, end = self._range(index)
        info = self._infos[self.utterances[index].path]
        read_CT = read_resampled(info, start, frames=end - start, rate_hz=self._rate_hz)
        samples_T: np.ndarray = with_channels(read_CT, 1)[0]
        return samples_T

    def _range(self, index: int) -> tuple[int, int]:
        """Return the first sample and the one after the last, at the model's rate."""
        item = self.utterances[index]
        info = self._infos[item.path]
        length = resampled_length(info.frames, info.rate_hz, to_hz=self._rate_hz)
        start = min(round(item.start_s * self._rate_hz), length - 1)
        end = min(round((item.start_s + item.duration_s) * self._rate_hz), length)
        return start, max(end, start + 1)
