"""A trained speech recogniser applied to audio of any length and rate.

Owns where long audio is cut, and how parts become batches; each recipe brings its own search. Letters:
T samples, L frames, F numbers of a frame, B batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from engine.checkpoints.files import MODEL, Manifest
from engine.config.speech import SpeechData
from engine.data.files.audio_files import AudioInfo
from engine.data.files.rates import check_rates, resampled_length
from engine.data.files.resampling import read_resampled
from engine.data.files.source import with_channels
from engine.recipes.speech.front_end import FrontEnd
from engine.text.tokens import Tokenizer, from_bytes

# Parts that are encoded together.
_BATCH = 8
# A cut lies in the quietest stretch of this length, in the last third of a part.
_QUIET_S = 0.2
_SEARCHED = 1 / 3


@dataclass(frozen=True, slots=True)
class Stretch:
    """The part of a file to transcribe: samples `start` to `end`, at the rate of the model."""

    info: AudioInfo
    start: int
    end: int


class Transcriber(ABC):
    """Turns audio into text.

    Attributes:
        data: the settings of the speech it was trained on.
    """

    def __init__(
        self,
        data: SpeechData,
        front_end: FrontEnd,
        *,
        tokenizer: Tokenizer,
        device: torch.device,
    ) -> None:
        self.data = data
        self._tokenizer = tokenizer
        self._device = device
        self._front_end = front_end

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._device

    @abstractmethod
    def tokens(
        self, feat_BLF: Tensor, lengths_B: Tensor, *, durations_s: Sequence[float], beam: int
    ) -> list[list[int]]:
        """Return the tokens of each part of a batch."""

    def stream(self, stretch: Stretch) -> Iterator[tuple[float, str]]:
        """Transcribe in streaming mode.

        Yields:
            Seconds of audio consumed, and the text so far, each time it grew; it is never revised.

        Raises:
            ValueError: for a model that needs whole utterances.
        """
        raise ValueError(
            "this model needs the whole utterance and can't stream; use an Emformer transducer"
        )

    def whole(self, info: AudioInfo) -> Stretch:
        """Return all of a file.

        Raises:
            DataError: when its rate can't be converted.
        """
        check_rates(info.rate_hz, self.data.rate_hz, setting=str(info.path))
        return Stretch(
            info, 0, end=resampled_length(info.frames, info.rate_hz, to_hz=self.data.rate_hz)
        )

    def between(self, info: AudioInfo, start_s: float, *, duration_s: float) -> Stretch:
        """Return a part of a file, in seconds."""
        everything = self.whole(info)
        start = min(round(start_s * self.data.rate_hz), everything.end - 1)
        end = min(round((start_s + duration_s) * self.data.rate_hz), everything.end)
        return Stretch(info, start, end=max(end, start + 1))

    def texts(
        self, stretches: Sequence[Stretch], *, beam: int, longest_s: float
    ) -> Iterator[tuple[str, int]]:
        """Transcribe, and yield the text of each stretch and the number of parts it was read in.

        Args:
            stretches: what to transcribe.
            beam: beam size; 1: greedy search.
            longest_s: maximum length of a part; longer audio is cut in quiet places.
        """
        yield from self._texts((self.parts(stretch, longest_s) for stretch in stretches), beam=beam)

    def texts_of(
        self, waves: Iterable[np.ndarray], *, beam: int, longest_s: float
    ) -> Iterator[tuple[str, int]]:
        """Do as `texts` for waveforms in memory: (T,) float32 at the rate of the model, T at least 1."""
        yield from self._texts((self._cut(wave_T, longest_s) for wave_T in waves), beam=beam)

    def _texts(
        self, parts_of_each: Iterable[Iterator[np.ndarray]], *, beam: int
    ) -> Iterator[tuple[str, int]]:
        waiting: list[int] = []
        samples: list[np.ndarray] = []
        done: list[str] = []
        for some in parts_of_each:
            parts = list(some)
            waiting.append(len(parts))
            samples.extend(parts)
            while len(samples) >= _BATCH:
                done.extend(self._decode(samples[:_BATCH], beam))
                del samples[:_BATCH]
            while waiting and len(done) >= waiting[0]:
                yield _joined(done, waiting.pop(0))
        if samples:
            done.extend(self._decode(samples, beam))
        for count in waiting:
            yield _joined(done, count)

    def parts(self, stretch: Stretch, longest_s: float) -> Iterator[np.ndarray]:
        """Read a stretch in parts of (T,) float32, cut where it is quietest."""
        rate_hz = self.data.rate_hz
        start = stretch.start
        longest = max(1, round(min(longest_s * rate_hz, stretch.end - start)))
        while start < stretch.end:
            frames = min(longest, stretch.end - start)
            read_CT = read_resampled(stretch.info, start, frames=frames, rate_hz=rate_hz)
            samples_T = with_channels(read_CT, 1)[0]
            if start + frames < stretch.end:
                samples_T = samples_T[: quiet_place(samples_T, rate_hz)]
            yield samples_T
            start += len(samples_T)

    def _cut(self, wave_T: np.ndarray, longest_s: float) -> Iterator[np.ndarray]:
        """Cut a waveform as `parts` does."""
        longest = max(1, round(longest_s * self.data.rate_hz))
        while len(wave_T) > longest:
            end = quiet_place(wave_T[:longest], self.data.rate_hz)
            yield wave_T[:end]
            wave_T = wave_T[end:]
        yield wave_T

    @torch.inference_mode()
    def _decode(self, parts: Sequence[np.ndarray], beam: int) -> list[str]:
        """Return the text of each part of a batch."""
        feats = [self._front_end(samples_T) for samples_T in parts]
        durations_s = [len(samples_T) / self.data.rate_hz for samples_T in parts]
        feat_BLF = pad_sequence(feats, batch_first=True).to(self._device)
        lengths_B = torch.tensor([len(feat) for feat in feats], device=self._device)
        found = self.tokens(feat_BLF, lengths_B, durations_s=durations_s, beam=beam)
        return [self._tokenizer.decode(tokens) for tokens in found]


def tokenizer_of(manifest: Manifest) -> Tokenizer:
    """Return the tokenizer that travels with the weights of a recogniser."""
    return from_bytes(bytes(manifest.tensors(MODEL)["vocabulary"].tolist()))


def quiet_place(samples_T: np.ndarray, rate_hz: int) -> int:
    """Return where to cut: the middle of the quietest stretch in the last third of some samples."""
    window = max(1, min(round(_QUIET_S * rate_hz), len(samples_T) // 4))
    first = round(len(samples_T) * (1 - _SEARCHED))
    energy = np.cumsum(np.square(samples_T[first:], dtype=np.float64))
    if len(energy) <= window:
        return len(samples_T)
    quietest = int(np.argmin(energy[window:] - energy[:-window]))
    return first + quietest + 1 + window // 2


def _joined(done: list[str], count: int) -> tuple[str, int]:
    """Take the texts of the first `count` parts out of `done`, as one."""
    parts = done[:count]
    del done[:count]
    return " ".join(text for text in parts if text), count
