"""The metrics of voices, which `engine.metrics.registry` lists with all others.

A training metric and the same of an evaluation are two metrics: the latter is named `val_` and the former.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.metrics.metric import Metric, Reading

_VOICE = ("voice",)
# By the optional package resemblyzer.
SIMILARITY, SIMILARITY_OTHERS, SIMILARITY_BOUND = (
    "speaker_similarity", "speaker_similarity_others", "speaker_similarity_bound",
)  # fmt: skip
_TEXT = ("data.tokens", "data.vocabulary", "data.vocab_size", "data.case", "data.punctuation")
_CODES = ("codec",)
_MEL, _TEXT_TERM = "mel_loss", "text_loss"
# Weight of the text loss, of that of the mel loss, up to which a run is for a voice: published is 0.01.
_FOR_A_VOICE = 0.1


def reading(config: Mapping[str, Any]) -> Reading:
    """Return how the two losses are read, by what their weights are for: a new voice, or a new language."""
    loss = config.get("loss", {})
    text, mel = loss.get("text_loss_weight"), loss.get("mel_loss_weight")
    if text is None or mel is None:
        return Reading((_MEL, _TEXT_TERM))
    if text <= _FOR_A_VOICE * mel:
        return Reading((_MEL, _TEXT_TERM), "mel matters; text above mel is normal")
    if text < mel:
        return Reading((_MEL, _TEXT_TERM), "mel matters most, then text")
    if mel > _FOR_A_VOICE * text:
        return Reading((_TEXT_TERM, _MEL), "a language: text matters; a voice: mel")
    return Reading((_TEXT_TERM, _MEL), "text matters; mel is for a voice later")


def _of_places() -> Iterable[Metric]:
    """Return the curves of training, then the same of evaluations."""
    for prefix, of in (("", ""), ("val_", "validation ")):
        common: dict[str, Any] = {"of_training": not prefix, "measured_by": _VOICE}
        # Only voices have a mel loss.
        main: dict[str, Any] = (
            {"is_main": True, "is_target": True, "headline_of": _VOICE, "relative_margin": 0.01,
             "needs": "loss.mel_loss_weight"} if prefix else {}
        )  # fmt: skip
        yield Metric(
            f"{prefix}{_MEL}", f"{of}mel loss", unit="nats", rises=False, family="loss", same=_CODES,
            reference=f"{prefix}code_entropy", reading=reading, **main, **common,
        )  # fmt: skip
        yield Metric(
            f"{prefix}{_TEXT_TERM}", f"{of}text loss", unit="nats", rises=False, family="loss", same=_TEXT,
            is_main=bool(prefix), reading=reading, **common,
        )  # fmt: skip
        for name, title, same in (
            ("mel_accuracy", "mel accuracy", _CODES), ("text_accuracy", "text accuracy", _TEXT),
        ):  # fmt: skip
            yield Metric(
                f"{prefix}{name}",
                f"{of}{title}",
                unit="%",
                scale=100,
                worst=0.0,
                same=same,
                **common,
            )
        yield Metric(
            f"{prefix}code_entropy", f"{of}entropy of the codes", unit="nats", of_input=bool(prefix),
            same=_CODES, **common,
        )  # fmt: skip


METRICS = (
    *_of_places(),
    Metric("val_mel_top5", "validation mel accuracy, top 5", unit="%", scale=100, worst=0.0, same=_CODES,
           measured_by=_VOICE),
    # Of texts that were spoken freely.
    Metric("length_ratio", "length of speech, of the recording", unit="%", scale=100, worst=0.0,
           measured_by=_VOICE),
    Metric("never_stops", "speech that never stops", unit="%", scale=100, rises=False, worst=1.0,
           measured_by=_VOICE),
    # Cosines of voice embeddings: with recordings of the same speaker, of others, and of the codec's round trip.
    Metric(SIMILARITY, "similarity to the speaker", worst=0.0, measured_by=_VOICE,
           reference=SIMILARITY_BOUND),
    Metric(SIMILARITY_OTHERS, "similarity to other speakers", rises=False, worst=1.0, measured_by=_VOICE),
    Metric(SIMILARITY_BOUND, "similarity to the speaker without the model", of_input=True,
           measured_by=_VOICE),
)  # fmt: skip
