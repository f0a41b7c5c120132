"""A trained transducer applied to audio. Letters: B batch, L frames, F mel bands, D channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from engine.checkpoints.files import Manifest
from engine.checkpoints.find import fill
from engine.config.schema import RunConfig
from engine.config.speech import SpeechData
from engine.recipes.speech.front_end import FrontEnd, front_end_of
from engine.recipes.speech.transcriber import Stretch, Transcriber, tokenizer_of
from engine.recipes.transducer.decoding import GreedyDecoder, beam_search, greedy, most_tokens
from engine.text.tokens import Tokenizer
from models.speech_configs import TransducerConfig
from models.transducer import Transducer, build_transducer


def open_transcriber(
    config: RunConfig, manifest: Manifest, *, device: torch.device
) -> TransducerTranscriber:
    """Return the transcriber of a checkpoint; no other file is needed."""
    assert isinstance(config.data, SpeechData)
    assert isinstance(config.model, TransducerConfig)
    tokenizer = tokenizer_of(manifest)
    front_end = front_end_of(config)
    model = build_transducer(
        config.model,
        num_mels=front_end.num_features,
        num_tokens=tokenizer.num_tokens,
        vocabulary=tokenizer.to_bytes(),
    )
    fill(model, manifest)
    return TransducerTranscriber(
        config.data, front_end, model=model, tokenizer=tokenizer, device=device
    )


class TransducerTranscriber(Transcriber):
    """Turns audio into text by a transducer."""

    def __init__(
        self,
        data: SpeechData,
        front_end: FrontEnd,
        *,
        model: Transducer,
        tokenizer: Tokenizer,
        device: torch.device,
    ) -> None:
        super().__init__(data, front_end, tokenizer=tokenizer, device=device)
        self._model = model.to(device).eval()

    @torch.inference_mode()
    def stream(self, stretch: Stretch) -> Iterator[tuple[float, str]]:
        """Transcribe in streaming mode, with an Emformer only."""
        (samples_T,) = self.parts(stretch, float("inf"))
        seconds = len(samples_T) / self.data.rate_hz
        decoder = GreedyDecoder(self._model, [most_tokens(seconds)], device=self._device)
        count = 0
        feat_1LF = self._front_end(samples_T).unsqueeze(0).to(self._device)
        for frames, enc_1TD in self._model.stream(feat_1LF):
            decoder.hear(enc_1TD, [enc_1TD.shape[1]])
            if len(decoder.tokens[0]) > count:
                count = len(decoder.tokens[0])
                heard_s = min(seconds, self._front_end.seconds_to(frames))
                yield heard_s, self._tokenizer.decode(decoder.tokens[0])

    def tokens(
        self, feat_BLF: Tensor, lengths_B: Tensor, *, durations_s: Sequence[float], beam: int
    ) -> list[list[int]]:
        """Search greedily for all at once, or by a beam one after the other."""
        enc_BTD, enc_lengths_B = self._model.encode(feat_BLF, lengths_B)
        lengths = enc_lengths_B.tolist()
        most = [most_tokens(seconds) for seconds in durations_s]
        if beam <= 1:
            return greedy(self._model, enc_BTD, lengths=lengths, most=most)
        return [
            beam_search(self._model, enc_TD[:length], beam=beam, most=limit)[0].tokens
            for enc_TD, length, limit in zip(enc_BTD, lengths, most, strict=True)
        ]
