"""A trained CTC model applied to audio.

Letters: B batch, L frames, F numbers of a frame, T encoder frames, V tokens that exist.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.checkpoints.files import Manifest
from engine.checkpoints.find import fill
from engine.config.schema import RunConfig
from engine.config.speech import SpeechData
from engine.recipes.ctc.decoding import beam_search, greedy
from engine.recipes.speech.front_end import FrontEnd, front_end_of
from engine.recipes.speech.transcriber import Transcriber, tokenizer_of
from engine.text.tokens import Tokenizer
from models.ctc import CtcModel, build_ctc
from models.speech_configs import CtcConfig


def open_transcriber(
    config: RunConfig, manifest: Manifest, *, device: torch.device
) -> CtcTranscriber:
    """Return the transcriber of a checkpoint; no other file is needed."""
    assert isinstance(config.data, SpeechData)
    assert isinstance(config.model, CtcConfig)
    tokenizer = tokenizer_of(manifest)
    front_end = front_end_of(config)
    model = build_ctc(
        config.model,
        num_features=front_end.num_features,
        num_tokens=tokenizer.num_tokens,
        vocabulary=tokenizer.to_bytes(),
    )
    fill(model, manifest)
    return CtcTranscriber(config.data, front_end, model=model, tokenizer=tokenizer, device=device)


class CtcTranscriber(Transcriber):
    """Turns audio into text by a CTC model."""

    def __init__(
        self,
        data: SpeechData,
        front_end: FrontEnd,
        *,
        model: CtcModel,
        tokenizer: Tokenizer,
        device: torch.device,
    ) -> None:
        super().__init__(data, front_end, tokenizer=tokenizer, device=device)
        self._model = model.to(device).eval()

    def tokens(
        self, feat_BLF: Tensor, lengths_B: Tensor, *, durations_s: Sequence[float], beam: int
    ) -> list[list[int]]:
        """Search greedily for all at once, or by a beam one after the other."""
        logits_BTV, lengths_B = self._model(feat_BLF, lengths_B)
        lengths = lengths_B.tolist()
        if beam <= 1:
            return greedy(logits_BTV, lengths)
        return [
            beam_search(logits_TV[:length], beam=beam)[0].tokens
            for logits_TV, length in zip(logits_BTV, lengths, strict=True)
        ]
