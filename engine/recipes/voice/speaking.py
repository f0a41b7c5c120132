"""Speech of a trained voice: texts to codes, and what a checkpoint needs for it.

Used by evaluations of the recipe and by whoever speaks with a checkpoint. Letters: B texts or candidates, R
clips, F mel bands, L frames, C reference vectors, D channels, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

from engine.checkpoints.files import MODEL, CheckpointError, Manifest
from engine.checkpoints.find import fill, require_recipe
from engine.checkpoints.layout import IMPORTED
from engine.checkpoints.recipe_files import read_recipe_parts
from engine.config.schema import RunConfig
from engine.config.voice import VoiceData
from engine.recipes.codec.trained_codec import STAGE, CodecFacts, TrainedCodec
from engine.recipes.voice.references import frames_of
from engine.recipes.voice.voices_stage import NAME, Voices
from engine.text.normalise import prepared
from engine.text.tokens import Tokenizer, from_bytes
from models.voice.generation import Limits, Sampling, Spoken, code_limit, generate
from models.voice.network import VoiceModel
from models.voice.settings import VoiceConfig

# A code that is repeated for so long is a hang, not a pause.
_STUCK_S = 1.0


def limits_of(
    texts: Sequence[Sequence[int]], *, voices: Voices, facts: CodecFacts, room: int
) -> Limits:
    """Return when each text ends at the latest: by the pace of the training data, and where one code is repeated."""
    most = [
        code_limit(len(text), codes_per_character=voices.codes_per_token, room=room)
        for text in texts
    ]
    return Limits(most, stuck=max(8, ceil(_STUCK_S * facts.codes_per_s)))


@dataclass(frozen=True, slots=True)
class TrainedVoice:
    """A voice model with all that it speaks by; on one device, in evaluation mode.

    Attributes:
        network: the model.
        codec: codes to audio, and audio to frames.
        tokenizer: of texts, as `prepare` returns them.
        voices: the pace, and reference clips of training speakers.
        data: the settings of the texts and clips it was trained on.
        hash: sixteen hex digits of its weights.
        vectors_per_item: reference vectors of each text in training; 0: one, the mean over any number of clips.
    """

    network: VoiceModel
    codec: TrainedCodec
    tokenizer: Tokenizer
    voices: Voices
    data: VoiceData
    hash: str
    vectors_per_item: int

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text as a person writes it.

        Raises:
            DataError: when something that the text needs is not installed.
            ValueError: naming the characters that the model has never seen.
        """
        return self.tokenizer.encode(prepared(text, self.data))

    @torch.no_grad()
    def vectors_of(self, waves: Sequence[np.ndarray]) -> Tensor:
        """Return the reference vectors (1, C, D) of recordings at the rate of the codec, float32 (T,) each."""
        mel_RFL = frames_of(waves, self.data, transform=self.codec.facts.transform)
        return self._vectors(mel_RFL)

    @torch.no_grad()
    def vectors_of_speaker(self, speaker: str) -> Tensor:
        """Return the reference vectors (1, C, D) of a training speaker, of `voices.clips`."""
        return self._vectors(self.voices.clips[speaker])

    def speak(
        self,
        texts: Sequence[Sequence[int]],
        vectors_BCD: Tensor,
        *,
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Spoken]:
        """Speak texts at once, each by the vectors and the seed at its place.

        Raises:
            ValueError: for a text that the model has no room for.
        """
        limits = limits_of(
            texts, voices=self.voices, facts=self.codec.facts, room=self.network.max_codes - 2
        )
        return generate(
            self.network,
            texts,
            vectors_BCD=vectors_BCD,
            seeds=seeds,
            limits=limits,
            sampling=sampling,
        )

    def audio(self, spoken: Spoken) -> np.ndarray:
        """Return (T,) float32 audio of what was spoken."""
        device = self.network.text_embedding.weight.device
        wave_1T = self.codec.audio(spoken.codes_N[None].to(device))
        samples_T: np.ndarray = wave_1T[0].cpu().numpy()
        return samples_T

    def _vectors(self, mel_RFL: Tensor) -> Tensor:
        device = self.network.text_embedding.weight.device
        return self.network.reference_vectors(mel_RFL[None].to(device))


def clip_audio(
    voice: TrainedVoice, *, besides: str | None, most: int = 16
) -> dict[str, list[np.ndarray]]:
    """Return audio of the reference clips that a checkpoint keeps: of a speaker, and of some others, by name."""
    names = [name for name in voice.voices.clips if name == besides]
    names += [name for name in voice.voices.clips if name != besides][:most]
    transform = voice.codec.facts.transform
    return {name: list(transform.waveform(voice.voices.clips[name]).numpy()) for name in names}


def build_network(config: VoiceConfig, *, facts: CodecFacts, tokenizer: Tokenizer) -> VoiceModel:
    """Return the freshly initialised network for a codec and a vocabulary, on the CPU."""
    return VoiceModel(
        config,
        mel_bands=facts.transform.num_mels,
        num_codes=facts.num_codes,
        num_tokens=tokenizer.num_tokens,
        vocabulary=tokenizer.to_bytes(),
    )


def load_voice(config: RunConfig, manifest: Manifest, *, device: torch.device) -> TrainedVoice:
    """Return the voice of a checkpoint; no other file is needed.

    Raises:
        CheckpointError: when the checkpoint is damaged, or not that of a voice that has been trained.
    """
    require_recipe(manifest, config, recipe="voice")
    assert isinstance(config.data, VoiceData)
    assert isinstance(config.model, VoiceConfig)
    if not manifest.values["counters"]["updates"] and manifest.values.get("kind") != IMPORTED:
        raise CheckpointError(
            f"{manifest.folder} was saved before its first update; name a voice that has been trained"
        )
    stages = read_recipe_parts(manifest).stages
    if STAGE not in stages or NAME not in stages:
        raise CheckpointError(
            f"{manifest.folder} has no codec or no voices; name a checkpoint of a voice run"
        )
    try:
        codec = TrainedCodec.of_result(stages[STAGE])
    except ValueError as error:
        raise CheckpointError(f"{manifest.folder}: {error}") from None
    tokenizer = from_bytes(bytes(manifest.tensors(MODEL)["vocabulary"].tolist()))
    network = build_network(config.model, facts=codec.facts, tokenizer=tokenizer)
    fill(network, manifest)
    return TrainedVoice(
        network.to(device).eval(), codec.to(device), tokenizer, Voices.of_result(stages[NAME]),
        data=config.data, hash=manifest.values["files"][MODEL]["sha256"][:16],
        vectors_per_item=config.data.references if config.model.reference_vectors == "each" else 0,
    )  # fmt: skip
