"""How much speech sounds like a speaker: the cosine of voice embeddings by the network of resemblyzer.

The embedding is that of Wan et al., "Generalized end-to-end loss for speaker verification" (2018), as the package
resemblyzer trained it: three LSTM layers over 40 mel bands of windows of 1.6 s, averaged. Its weights are read, none of
its code is run. Embeddings have no negative number, so that unlike voices have 0.4 or 0.5 rather than 0: a value is to
be read beside that of other speakers. Letters: T samples, B windows, L frames, F mel bands, E numbers, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor, nn

from engine.audio.silence import frame_samples, levels_db, runs_of_sound, silence_limit_db
from engine.audio.speaker_package import weights_file
from engine.batching.batch import Split
from engine.data.files.resampling import resample
from engine.data.speech.utterances import SpeechDataset
from engine.evaluation.result import Evaluation
from engine.metrics.items_keys import with_own
from engine.metrics.voice import SIMILARITY, SIMILARITY_BOUND, SIMILARITY_OTHERS

_RATE_HZ, _HOP = 16_000, 160
_BANDS, _WIDTH, _LAYERS = 40, 256, 3
# Windows of 1.6 s, 1.3 a second; the last one counts where three quarters of it are filled.
_WINDOW, _STEP, _LEAST_FILLED = 160, 77, 0.75
_LEVEL_DB = -30.0
# Frames of 10 ms that are kept on both sides of a pause.
_PAUSE_KEPT = 9
_MOST_CLIPS, _MOST_SPEAKERS = 6, 16


class SpeakerEncoder(nn.Module):
    """Maps recordings to embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, _WIDTH, _LAYERS, batch_first=True)
        self.linear = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, mel_BLF: Tensor) -> Tensor:
        """Return (B, E) of length 1."""
        _, (hidden, _) = self.lstm(mel_BLF)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)

    @torch.no_grad()
    def embed(self, wave_T: np.ndarray, rate_hz: int) -> np.ndarray:
        """Return (E,) of length 1 of a recording, float32; zeros where there is nothing to hear."""
        if not np.isfinite(wave_T).all() or not wave_T.any():
            return np.zeros(_WIDTH, np.float32)
        samples_1T = np.ascontiguousarray(wave_T[None], dtype=np.float32)
        heard_T = resample(samples_1T, rate_hz, to_hz=_RATE_HZ)[0]
        wave = torch.from_numpy(_without_pauses(heard_T))
        if not len(wave):
            return np.zeros(_WIDTH, np.float32)
        level = wave.square().mean().sqrt()
        wave = wave * torch.clamp(10 ** (_LEVEL_DB / 20) / level, min=1.0)
        embedding_E = self(_windows(wave).to(self.linear.weight.device)).mean(dim=0)
        result: np.ndarray = nn.functional.normalize(embedding_E, dim=0).cpu().numpy()
        return result


def load_speaker_encoder(device: torch.device) -> SpeakerEncoder | None:
    """Return the network with the weights of the package; None where it is not installed.

    Raises:
        ValueError: when the package holds other weights.
    """
    path = weights_file()
    if path is None:
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        encoder = SpeakerEncoder()
        # Two numbers that only its training needed are left.
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    except Exception as error:  # noqa: BLE001 a file of another package, read at a boundary
        raise ValueError(
            f"{path} does not have the weights of resemblyzer 0.1 ({type(error).__name__}); install resemblyzer>=0.1.4,<0.2"
        ) from None
    return encoder.to(device).eval()


def similarities(
    own_E: np.ndarray, voices: Mapping[str, np.ndarray], *, speaker: str
) -> tuple[float, float]:
    """Return the cosine with a speaker's voice, and the mean of those with all others; NaN where there is none."""
    others = [float(own_E @ voice_E) for name, voice_E in voices.items() if name != speaker]
    same = float(own_E @ voices[speaker]) if speaker in voices else float("nan")
    return same, float(np.mean(others)) if others else float("nan")


class VoiceSimilarity:
    """Measures speech beside the voice it is spoken in, and beside the other training speakers of a checkpoint.

    Args:
        encoder: the network.
        rate_hz: of the audio.
        own: recordings of the voice.
        others: recordings of other speakers, by name.
    """

    def __init__(
        self,
        encoder: SpeakerEncoder,
        rate_hz: int,
        *,
        own: Sequence[np.ndarray],
        others: Mapping[str, Sequence[np.ndarray]],
    ) -> None:
        self._encoder, self._rate_hz = encoder, rate_hz
        # No speaker has the empty name and a further one.
        self._voices = {f" {name}": self._voice(clips) for name, clips in others.items()}
        self._voices[""] = self._voice(own)

    def of(self, wave_T: np.ndarray) -> tuple[float, float]:
        """Return the similarity to the voice, and the mean of those to the others, NaN where there is none."""
        return similarities(self._encoder.embed(wave_T, self._rate_hz), self._voices, speaker="")

    def _voice(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        return self._encoder.embed(np.concatenate(list(clips)), self._rate_hz)


class SpokenSimilarity:
    """Measures what a run speaks in its evaluations; does nothing where the package is not installed.

    Args:
        open_items: opens the items of a split.
        rate_hz: of their audio.
    """

    def __init__(self, open_items: Callable[[Split], SpeechDataset], rate_hz: int) -> None:
        self._open_items, self._rate_hz = open_items, rate_hz
        self._encoder: SpeakerEncoder | None = None
        self._bound: dict[int, float] = {}
        self._voices: dict[tuple[str, int], np.ndarray | None] = {}

    def __getstate__(self) -> dict[str, object]:
        """Pickle for a reader process, which measures nothing: without the network."""
        return {**self.__dict__, "_encoder": None}

    def added(
        self,
        evaluation: Evaluation,
        rows: Sequence[int],
        *,
        says: Callable[[int], np.ndarray],
        could_say: Callable[[int], np.ndarray],
        device: torch.device,
    ) -> Evaluation:
        """Return an evaluation with the similarities of some validation rows.

        Args:
            evaluation: of everything else.
            rows: which were spoken.
            says: what was spoken for a row, (T,).
            could_say: what the codec makes of its recording, (T,).
            device: where embeddings are computed.
        """
        if not rows or weights_file() is None:
            return evaluation
        if self._encoder is None:
            self._encoder = load_speaker_encoder(device)
        assert self._encoder is not None
        found = [self._of_row(row, says=says, could_say=could_say) for row in rows]
        names = (SIMILARITY, SIMILARITY_OTHERS, SIMILARITY_BOUND)
        items = dict(zip(names, np.array(found, dtype=np.float64).T, strict=True))
        items = {name: value_N for name, value_N in items.items() if not np.isnan(value_N).all()}
        key = evaluation.items_key
        for name in items:
            key = with_own(key, name, own=self._key(rows))
        means = {name: float(np.nanmean(value_N)) for name, value_N in items.items()}
        return replace(
            evaluation,
            metrics={**evaluation.metrics, **means},
            items={**evaluation.items, **items},
            items_key=key,
        )

    def _of_row(
        self, row: int, *, says: Callable[[int], np.ndarray], could_say: Callable[[int], np.ndarray]
    ) -> tuple[float, float, float]:
        assert self._encoder is not None
        speaker = self._open_items("valid").utterances[row].speaker
        own_E = self._voice(speaker, row)
        voices = {
            name: voice_E
            for name in self._speakers
            if name != speaker and (voice_E := self._voice(name, -1)) is not None
        }
        if own_E is not None:
            voices[speaker] = own_E
        same, others = similarities(
            self._encoder.embed(says(row), self._rate_hz), voices, speaker=speaker
        )
        if row not in self._bound:
            heard_E = self._encoder.embed(could_say(row), self._rate_hz)
            self._bound[row] = similarities(heard_E, voices, speaker=speaker)[0]
        return same, others, self._bound[row]

    def _voice(self, speaker: str, row: int) -> np.ndarray | None:
        """Return the embedding (E,) of recordings of a speaker, never of the validation row itself; None: no other."""
        split: Split = "train" if speaker in self._speakers else "valid"
        key = (speaker, row if split == "valid" else -1)
        if key not in self._voices:
            assert self._encoder is not None
            items = self._open_items(split)
            own = [k for k, item in enumerate(items.utterances) if item.speaker == speaker]
            own = [k for k in own if split == "train" or k != row][
                :: max(1, len(own) // _MOST_CLIPS)
            ]
            clips = [items.audio(k) for k in own[:_MOST_CLIPS]]
            self._voices[key] = (
                self._encoder.embed(np.concatenate(clips), self._rate_hz) if clips else None
            )
        return self._voices[key]

    @cached_property
    def _speakers(self) -> list[str]:
        """Training speakers, at most so many, those of validation first."""
        known = {item.speaker for item in self._open_items("train").utterances}
        heard = {item.speaker for item in self._open_items("valid").utterances} & known
        return [*sorted(heard), *sorted(known - heard)][: max(_MOST_SPEAKERS, len(heard))]

    def _key(self, rows: Sequence[int]) -> str:
        """Sixteen hex digits over what is measured, and beside which voices."""
        about = [self._open_items("valid").manifest, self._open_items("train").manifest, list(rows)]
        return sha256(repr(about).encode()).hexdigest()[:16]


def _windows(wave: Tensor) -> Tensor:
    """Return the mel frames (B, L, F) of the windows of a recording at 16 kHz."""
    frames = len(wave) // _HOP + 1
    starts = list(range(0, max(1, frames - _WINDOW + _STEP + 1), _STEP))
    filled = (len(wave) - starts[-1] * _HOP) / (_WINDOW * _HOP)
    if len(starts) > 1 and filled < _LEAST_FILLED:
        starts.pop()
    room = (starts[-1] + _WINDOW) * _HOP
    mel_LF = _transform()(nn.functional.pad(wave, (0, max(0, room - len(wave))))).T
    return torch.stack([mel_LF[start : start + _WINDOW] for start in starts])


@cache
def _transform() -> nn.Module:
    from torchaudio.transforms import MelSpectrogram

    transform: nn.Module = MelSpectrogram(
        _RATE_HZ, n_fft=400, hop_length=_HOP, n_mels=_BANDS, f_max=_RATE_HZ / 2, power=2,
        norm="slaney", mel_scale="slaney", pad_mode="constant",
    )  # fmt: skip
    return transform


def _without_pauses(wave_T: np.ndarray) -> np.ndarray:
    """Return a recording at 16 kHz with its pauses shortened."""
    levels_L = levels_db(wave_T[None], _RATE_HZ)
    if not len(levels_L):
        return wave_T
    spans_N2 = runs_of_sound(levels_L, silence_limit_db(levels_L), min_pause=2 * _PAUSE_KEPT)
    size = frame_samples(_RATE_HZ)
    parts = [
        wave_T[max(0, start - _PAUSE_KEPT) * size : (end + _PAUSE_KEPT) * size]
        for start, end in spans_N2.tolist()
    ]
    return np.concatenate(parts) if parts else wave_T[:0]
