"""The reference clips of items: which utterances of a speaker they are cut from, and where.

Training draws them anew in every epoch; those of validation are the same in every run. Letters: N items, R
clips, F mel bands, L frames, T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from engine.audio.mel_spectrogram import MelSpectrogram
from engine.batching.batch import Split
from engine.batching.items import ItemDraw
from engine.config.voice import VoiceData
from engine.data.speech.utterances import SpeechDataset
from engine.item_random import item_generator

_MOST_VOICES = 64


class References:
    """Draws and reads reference clips; can be sent to a reader process.

    Args:
        data: how many, and how long.
        open_items: opens the items of a split.
        transform: from audio to log-mel frames, that of the codec.
        seed: of the run.
    """

    def __init__(
        self,
        data: VoiceData,
        open_items: Callable[[Split], SpeechDataset],
        *,
        transform: MelSpectrogram,
        seed: int,
    ) -> None:
        self._data, self._open_items = data, open_items
        self._transform, self._seed = transform, seed

    @property
    def num_frames(self) -> int:
        """Return L."""
        return self._transform.frames_of(self._samples)

    def mel(self, split: Split, draw: ItemDraw) -> Tensor:
        """Return (R, F, L) log-mel frames of the clips of an item."""
        # Validation clips are the same whatever the seed of the run, so that runs can be compared.
        seed = self._seed if split == "train" else 0
        generator = item_generator(seed, draw.epoch, draw.index, f"{split}-reference")
        side, others = self.candidates(split, draw.index)
        number = self._data.references
        chosen = generator.choice(others, size=number, replace=number > len(others))
        return self._clips(side, chosen.tolist(), generator=generator)

    def candidates(self, split: Split, index: int) -> tuple[Split, list[int]]:
        """Return the utterances of an item's speaker that clips can be cut from, and their split.

        Never the item itself, unless its speaker has no other: then first those of training.
        """
        speaker = self._open_items(split).utterances[index].speaker
        others = [k for k in self._by_speaker(split).get(speaker, ()) if k != index]
        if not others and split == "valid" and (known := self._by_speaker("train").get(speaker)):
            return "train", list(known)
        return split, others or [index]

    def voices(self) -> dict[str, Tensor]:
        """Return (R, F, L) of training speakers, for speech without a clip: speaker -> frames."""
        voices = {}
        for number, speaker in enumerate(sorted(self._by_speaker("train"))[:_MOST_VOICES]):
            generator = item_generator(0, 0, number, "voice")
            own = self._by_speaker("train")[speaker]
            count = self._data.references
            chosen = generator.choice(own, size=count, replace=count > len(own))
            voices[speaker] = self._clips("train", chosen.tolist(), generator=generator)
        return voices

    def _clips(
        self, split: Split, chosen: Sequence[int], *, generator: np.random.Generator
    ) -> Tensor:
        items, clips = self._open_items(split), []
        for index in chosen:
            wave_T = items.audio(index)
            start = int(generator.integers(max(0, len(wave_T) - self._samples) + 1))
            clips.append(_cut(wave_T, self._samples, start=start))
        return self._transform.log_mel(torch.from_numpy(np.stack(clips)))

    def _by_speaker(self, split: Split) -> dict[str, list[int]]:
        return self._train_speakers if split == "train" else self._valid_speakers

    @cached_property
    def _train_speakers(self) -> dict[str, list[int]]:
        return _grouped(self._open_items("train"))

    @cached_property
    def _valid_speakers(self) -> dict[str, list[int]]:
        return _grouped(self._open_items("valid"))

    @property
    def _samples(self) -> int:
        return _num_samples(self._data, self._transform)


def frames_of(waves: Sequence[np.ndarray], data: VoiceData, *, transform: MelSpectrogram) -> Tensor:
    """Return log-mel frames (R, F, L) of the middles of recordings at the rate of the codec, float32 (T,) each."""
    samples = _num_samples(data, transform)
    clips = [_cut(wave_T, samples, start=max(0, len(wave_T) - samples) // 2) for wave_T in waves]
    return transform.log_mel(torch.from_numpy(np.stack(clips)))


def _num_samples(data: VoiceData, transform: MelSpectrogram) -> int:
    return round(data.reference_s * transform.rate_hz)


def _cut(wave_T: np.ndarray, samples: int, *, start: int) -> np.ndarray:
    """Return so many samples from a place on; a recording that is shorter is repeated."""
    return np.resize(wave_T[start : start + samples], samples)


def _grouped(items: SpeechDataset) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, item in enumerate(items.utterances):
        groups.setdefault(item.speaker, []).append(index)
    return groups
