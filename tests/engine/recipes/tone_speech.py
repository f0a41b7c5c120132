"""A language in which a letter is 0.1 s of a tone, and a recogniser of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.config.speech import SpeechData
from engine.recipes.speech.transcriber import Transcriber
from engine.text.tokens import CharTokenizer

LETTERS = {"a": 400, "b": 700, "c": 1_100, "d": 1_600, "e": 2_200, " ": 3_000}
LETTER_S = 0.1


def say(text: str, rate_hz: int) -> np.ndarray:
    """Return a text as tones, (T,) float32."""
    time_T = np.arange(round(LETTER_S * rate_hz)) / rate_hz
    tones = [0.3 * np.sin(2 * np.pi * LETTERS[letter] * time_T) for letter in text]
    return np.concatenate([*tones, np.zeros(0)]).astype(np.float32)


class Samples:
    """A front end that leaves samples as they are."""

    num_features = 1

    def __call__(self, samples_T: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(samples_T))[:, None]

    def frames_in(self, duration_s: float) -> int:
        return round(duration_s * 8_000)

    def seconds_to(self, frames: int) -> float:
        return frames / 8_000


class ToneTranscriber(Transcriber):
    """Writes the letter of the strongest tone of every tenth of a second; silence is no letter."""

    def __init__(self) -> None:
        data = SpeechData(train=Path("none"), valid=Path("none"), rate_hz=8_000)
        letters = "".join(LETTERS)
        super().__init__(
            data, Samples(), tokenizer=CharTokenizer(letters), device=torch.device("cpu")
        )
        self.batches: list[int] = []

    def tokens(
        self, feat_BLF: Tensor, lengths_B: Tensor, *, durations_s: Sequence[float], beam: int
    ) -> list[list[int]]:
        self.batches.append(len(feat_BLF))
        step = round(LETTER_S * 8_000)
        found = []
        for feat_LF, length in zip(feat_BLF, lengths_B.tolist(), strict=True):
            samples_T = feat_LF[:length, 0].numpy()
            count = round(length / step)
            pieces = [samples_T[k * step : (k + 1) * step] for k in range(count)]
            found.append([letter for piece in pieces if (letter := _letter(piece))])
        return found


def _letter(samples_T: np.ndarray) -> int:
    if np.abs(samples_T).max(initial=0.0) < 1e-3:
        return 0
    power = np.abs(np.fft.rfft(samples_T * np.hanning(len(samples_T)), 8_000))
    hz = int(power.argmax())
    near = min(LETTERS.values(), key=lambda tone: abs(tone - hz))
    return 1 + list(LETTERS.values()).index(near)
