"""A trained transducer applied to audio of any length and rate.

Owns how a checkpoint becomes a transcriber, and where long audio is cut. Letters: T samples, L frames,
B batch, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from engine.audio.log_mel import LogMel
from engine.checkpoints.files import MODEL, read_manifest
from engine.checkpoints.find import config_of, fill, find_checkpoint, require_recipe
from engine.config.speech import SpeechData
from engine.data.files.audio_files import AudioInfo
from engine.data.files.rates import check_rates, resampled_length
from engine.data.files.resampling import read_resampled
from engine.data.files.source import with_channels
from engine.recipes.transducer.decoding import GreedyDecoder, beam_search, greedy, most_tokens
from engine.text.tokens import Tokenizer, from_bytes
from models.speech_configs import TransducerConfig
from models.transducer import Transducer, build_transducer

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


class Transcriber:
    """Turns audio into text.

    Attributes:
        data: the settings of the speech it was trained on.
    """

    def __init__(
        self, data: SpeechData, model: Transducer, *, tokenizer: Tokenizer, device: torch.device
    ) -> None:
        self.data = data
        self._model = model.to(device).eval()
        self._tokenizer = tokenizer
        self._device = device
        self._log_mel = LogMel(data)

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
        waiting: list[int] = []
        samples: list[np.ndarray] = []
        done: list[str] = []
        for stretch in stretches:
            parts = list(self.parts(stretch, longest_s))
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

    @torch.inference_mode()
    def stream(self, stretch: Stretch) -> Iterator[tuple[float, str]]:
        """Transcribe in streaming mode, with an Emformer only.

        Yields:
            Seconds of audio consumed, and the text so far, each time it grew; it is never revised.

        Raises:
            ValueError: for a model that needs whole utterances.
        """
        (samples_T,) = self.parts(stretch, float("inf"))
        seconds = len(samples_T) / self.data.rate_hz
        decoder = GreedyDecoder(self._model, [most_tokens(seconds)], device=self._device)
        count = 0
        feat_1LF = self._log_mel(samples_T).unsqueeze(0).to(self._device)
        for frames, enc_1TD in self._model.stream(feat_1LF):
            decoder.hear(enc_1TD, [enc_1TD.shape[1]])
            if len(decoder.tokens[0]) > count:
                count = len(decoder.tokens[0])
                heard_s = min(seconds, self._log_mel.seconds_to(frames))
                yield heard_s, self._tokenizer.decode(decoder.tokens[0])

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

    @torch.inference_mode()
    def _decode(self, parts: Sequence[np.ndarray], beam: int) -> list[str]:
        """Return the text of each part of a batch."""
        feats = [self._log_mel(samples_T) for samples_T in parts]
        most = [most_tokens(len(samples_T) / self.data.rate_hz) for samples_T in parts]
        feat_BLF = pad_sequence(feats, batch_first=True).to(self._device)
        lengths_B = torch.tensor([len(feat) for feat in feats], device=self._device)
        enc_BTD, enc_lengths_B = self._model.encode(feat_BLF, lengths_B)
        lengths = enc_lengths_B.tolist()
        if beam <= 1:
            tokens_of_parts = greedy(self._model, enc_BTD, lengths=lengths, most=most)
        else:
            tokens_of_parts = [
                beam_search(self._model, enc_TD[:length], beam=beam, most=limit)[0].tokens
                for enc_TD, length, limit in zip(enc_BTD, lengths, most, strict=True)
            ]
        return [self._tokenizer.decode(tokens) for tokens in tokens_of_parts]


def load_transcriber(path: Path, device: torch.device) -> Transcriber:
    """Return the transcriber of a checkpoint; no other file is needed.

    Raises:
        CheckpointError: when there is no checkpoint, it is damaged, or not of a transducer.
    """
    manifest = read_manifest(find_checkpoint(path))
    config = config_of(manifest)
    require_recipe(manifest, config, recipe="transducer")
    assert isinstance(config.data, SpeechData)
    assert isinstance(config.model, TransducerConfig)
    vocabulary = bytes(manifest.tensors(MODEL)["vocabulary"].tolist())
    tokenizer = from_bytes(vocabulary)
    model = build_transducer(
        config.model,
        num_mels=config.data.num_mels,
        num_tokens=tokenizer.num_tokens,
        vocabulary=vocabulary,
    )
    fill(model, manifest)
    return Transcriber(config.data, model, tokenizer=tokenizer, device=device)


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
