"""The voice that a text is spoken in: of audio files, of a training speaker, or kept in a file.

Letters: C reference vectors, D channels, T samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engine.data.files.audio_files import AudioInfo, probe
from engine.data.files.rates import check_rates, resampled_length
from engine.data.files.resampling import read_resampled
from engine.data.files.source import with_channels
from engine.recipes.voice.speaking import TrainedVoice
from models.private_files import write_private

_VECTORS = "vectors"
_FORMAT = "sepdash voice 1"
_MOST_NAMES = 12


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What a model speaks by.

    Attributes:
        vectors_1CD: reference vectors, float32.
        about: whose they are, for people.
        speaker: the training speaker; None where it is none.
        waves: the recordings, (T,) each at the rate of the codec, as far as they are at hand.
    """

    vectors_1CD: Tensor
    about: str
    speaker: str | None = None
    waves: Sequence[np.ndarray] = ()


def of_speaker(voice: TrainedVoice, speaker: str | None) -> Conditioning:
    """Return the voice of a training speaker; None: the first by name.

    Raises:
        ValueError: when the checkpoint has no such speaker.
    """
    names = list(voice.voices.clips)
    if not names:
        raise ValueError(
            "this checkpoint holds no clips of its training speakers; name recordings with --voice CLIP"
        )
    if speaker is None:
        chosen = names[0]
        about = f"training speaker {_named(chosen)}"
        if len(names) > 1:
            about += f", the first of {len(names)} (--speaker: {_listed(names)})"
        return Conditioning(voice.vectors_of_speaker(chosen), about, chosen)
    if speaker not in voice.voices.clips:
        close = get_close_matches(speaker, names, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"no training speaker {speaker!r}{hint or ';'} this checkpoint has {_listed(names)}"
        )
    about = f"training speaker {_named(speaker)}"
    return Conditioning(voice.vectors_of_speaker(speaker), about, speaker)


def of_clips(voice: TrainedVoice, paths: Sequence[Path]) -> Conditioning:
    """Return the voice of recordings, of which the middle is used.

    Raises:
        DataError: naming a file that is missing, no audio, or silent.
        ValueError: when there are more than the model takes.
    """
    most = voice.vectors_per_item
    if most and len(paths) > most:
        raise ValueError(
            f"this model takes at most {most} reference clips (data.references with "
            f"model.reference_vectors = each), not {len(paths)}"
        )
    waves = [_middle(voice, probe(path)) for path in paths]
    if most:  # as in training, where a speaker has fewer
        waves = [waves[number % len(waves)] for number in range(most)]
    names = ", ".join(path.name for path in paths)
    return Conditioning(voice.vectors_of(waves), f"the voice of {names}", waves=waves)


def write_voice(path: Path, conditioning: Conditioning, *, voice: TrainedVoice) -> None:
    """Keep a voice in a file that only its user can read, bound to the weights of the model.

    Raises:
        OSError: when it can't be written.
    """
    about = {"format": _FORMAT, "model": voice.hash, "about": conditioning.about}
    tensors = {_VECTORS: conditioning.vectors_1CD.detach().float().cpu().contiguous()}
    write_private(path, save(tensors, metadata={"sepdash": json.dumps(about)}))


def read_voice(path: Path, *, voice: TrainedVoice) -> Conditioning:
    """Return the voice that `write_voice` kept.

    Raises:
        ValueError: when the file is damaged, or was saved with other weights.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["sepdash"])
            vectors_1CD = file.get_tensor(_VECTORS)
        format_, model, whose = (str(about[key]) for key in ("format", "model", "about"))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a saved voice: {error}; save it again") from None
    if format_ != _FORMAT:
        raise ValueError(
            f"{path} has the format {format_!r}, not {_FORMAT!r}; save the voice again"
        )
    if model != voice.hash:
        raise ValueError(
            f"{path} was saved with other weights ({model}, here {voice.hash}), whose vectors mean something else "
            f"to this model; save it again from its recordings ({whose}) with --voice CLIP --save-voice NAME"
        )
    if vectors_1CD.dim() != 3 or not torch.isfinite(vectors_1CD).all():
        raise ValueError(f"{path} is damaged; save the voice again")
    device = voice.network.text_embedding.weight.device
    return Conditioning(vectors_1CD.to(device), f"{whose}, saved as {path.stem}")


def _middle(voice: TrainedVoice, info: AudioInfo) -> np.ndarray:
    """Read so much of the middle of a recording as a clip takes, at the rate of the codec, (T,)."""
    rate_hz, least = voice.codec.facts.rate_hz, voice.data.min_s
    if info.frames < least * info.rate_hz:
        raise ValueError(
            f"{info.path}: lasts {info.frames / info.rate_hz:.3g} s, less than any recording that the model was "
            f"trained on ({least:g} s, data.min_s); name a longer one"
        )
    check_rates(info.rate_hz, rate_hz, setting="--voice")
    total = resampled_length(info.frames, info.rate_hz, to_hz=rate_hz)
    frames = max(1, min(total, round(voice.data.reference_s * rate_hz)))
    read_CT = read_resampled(info, (total - frames) // 2, frames=frames, rate_hz=rate_hz)
    wave_T: np.ndarray = with_channels(read_CT, 1)[0]
    if not np.isfinite(wave_T).all():
        raise ValueError(
            f"{info.path}: contains NaN or infinite values; record or convert it again"
        )
    if not wave_T.any():
        raise ValueError(f"{info.path}: its middle is silent; name a recording with speech there")
    return wave_T


def _named(speaker: str) -> str:
    return repr(speaker) if speaker else "without a name"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(_named(name) for name in names[:_MOST_NAMES]) + more
