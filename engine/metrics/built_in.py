"""Every built-in metric, declared once; those of self-supervised pre-training, codecs and voices beside this module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log
from typing import Any

from engine.metrics import codec, judged, self_supervised, voice
from engine.metrics.metric import Metric

_FEATURES = ("hubert", "wav2vec2", "data2vec2")
_AUDIO, _SPEECH = ("separation",), ("transducer", "ctc")
_DATA2VEC2 = ("data2vec2",)

# Runs that measure perceptual metrics on more or fewer files have other means.
_MEASURED = ("validation.metrics_max_s",)

# What makes a contrastive task harder or easier, and the code that it is about.
_CONTRAST = (
    "loss.mask_prob", "loss.mask_length", "loss.min_masks", "loss.distractors",
    "loss.logit_temperature", "model.code_groups", "model.code_entries",
)  # fmt: skip
_CODEBOOK = ("model.code_groups", "model.code_entries")
# As many as `models.self_supervised.wav2vec2_settings` allows.
MAX_CODE_GROUPS = 4


def contrastive_chance(distractors: int) -> float:
    """Return the contrastive loss of a guess among the code of a frame and its distractors, in nats."""
    return log(distractors + 1)


def _chance(config: Mapping[str, Any]) -> float | None:
    distractors = config.get("loss", {}).get("distractors")
    return None if distractors is None else contrastive_chance(distractors)


def _of_codes() -> Iterable[Metric]:
    """Return the metrics of wav2vec 2.0, those of training first, then the same of evaluations."""
    for prefix in ("", "val_"):
        common: dict[str, Any] = {"of_training": not prefix, "measured_by": ("wav2vec2",)}
        of = "validation " if prefix else ""
        yield Metric(
            f"{prefix}contrastive_loss", f"{of}contrastive loss", unit="nats", rises=False,
            family="loss", same=_CONTRAST, chance=_chance, **common,
        )  # fmt: skip
        yield Metric(
            f"{prefix}contrastive_accuracy", f"{of}contrastive accuracy", unit="%", scale=100,
            is_main=bool(prefix), worst=0.0, margin=0.01 if prefix else 0.0, same=_CONTRAST, **common,
        )  # fmt: skip
        yield Metric(
            f"{prefix}diversity_loss", f"{of}diversity loss", rises=False, family="loss",
            same=_CODEBOOK, **common,
        )  # fmt: skip
        yield Metric(
            f"{prefix}code_perplexity", f"{of}code perplexity", is_main=bool(prefix),
            same=_CODEBOOK, **common,
        )  # fmt: skip
        for group in range(1, MAX_CODE_GROUPS + 1):
            yield Metric(
                f"{prefix}code_perplexity_{group}", f"{of}code perplexity, codebook {group}",
                same=_CODEBOOK, **common,
            )  # fmt: skip
    yield Metric("temperature", "Gumbel temperature", of_training=True, measured_by=("wav2vec2",))


# In order of preference: the headline of each task first, the loss last.
BUILT_IN = (
    Metric(
        "si_sdr", "SI-SDR", unit="dB", whole_files=True, is_main=True, is_target=True,
        headline_of=_AUDIO, measured_by=_AUDIO, worst=-100.0, margin=0.1,
    ),
    Metric("wer", "WER", unit="%", scale=100, rises=False, is_main=True, is_target=True,
           headline_of=_SPEECH, measured_by=_SPEECH, worst=1.0, margin=0.002),
    # Word accuracy of a linear probe on frozen features (`engine.recipes.self_supervised.probing`).
    Metric("probe_accuracy", "probe", unit="%", scale=100, is_main=True, is_target=True,
           headline_of=_FEATURES, measured_by=_FEATURES, worst=0.0, margin=0.01,
           same=("data.probe",), needs="data.probe"),
    Metric("cer", "CER", unit="%", scale=100, rises=False, is_main=True, is_target=True, worst=1.0,
           measured_by=_SPEECH, margin=0.001),
    Metric("val_loss", "val_loss", rises=False, family="loss", whole_files=True, is_main=True,
           is_target=True, relative_margin=0.01,
           same=("loss", "data.tokens", "data.vocabulary", "data.vocab_size", *_CODEBOOK)),
    Metric("overfit_gap", "gap of validation to training items", rises=False, family="loss"),
    Metric("overfit_trend", "growth of that gap per evaluation", rises=False, family="loss"),
    Metric("unalignable", "unalignable", unit="%", scale=100, rises=False, of_training=True,
           measured_by=("ctc",)),
    Metric("si_sdri", "SI-SDRi", unit="dB", whole_files=True, measured_by=_AUDIO, worst=-100.0,
           margin=0.1),
    Metric("sdr", "SDR", unit="dB", whole_files=True, measured_by=_AUDIO, worst=-100.0, margin=0.1),
    Metric("lsd", "LSD", unit="dB", rises=False, whole_files=True, measured_by=_AUDIO, worst=100.0,
           margin=0.05),
    Metric("spectral", "spectral", rises=False, whole_files=True, measured_by=_AUDIO,
           relative_margin=0.01),
    Metric("input_si_sdr", "input SI-SDR", unit="dB", of_input=True, whole_files=True,
           measured_by=_AUDIO),
    Metric("pesq", "PESQ", whole_files=True, is_main=True, is_target=True, worst=1.0, measure="pesq",
           margin=0.05, same=_MEASURED),
    Metric("pesq_nb", "PESQ-NB", whole_files=True, is_main=True, is_target=True, worst=1.0,
           measure="pesq_nb", margin=0.05, same=_MEASURED),
    Metric("stoi", "STOI", whole_files=True, is_main=True, is_target=True, worst=0.0, measure="stoi",
           margin=0.005, same=_MEASURED),
    Metric("estoi", "ESTOI", whole_files=True, is_main=True, is_target=True, worst=0.0,
           measure="estoi", margin=0.005, same=_MEASURED),
    Metric("dnsmos_ovrl", "DNSMOS OVRL", whole_files=True, is_main=True, is_target=True, worst=1.0,
           measure="dnsmos", margin=0.05, same=_MEASURED),
    Metric("dnsmos_sig", "DNSMOS SIG", whole_files=True, is_target=True, worst=1.0, measure="dnsmos",
           margin=0.05, same=_MEASURED),
    Metric("dnsmos_bak", "DNSMOS BAK", whole_files=True, is_target=True, worst=1.0, measure="dnsmos",
           margin=0.05, same=_MEASURED),
    Metric("dnsmos_p808", "DNSMOS P.808", whole_files=True, is_target=True, worst=1.0,
           measure="dnsmos", margin=0.05, same=_MEASURED),
    Metric("bss_sdr", "BSS SDR", unit="dB", whole_files=True, is_main=True, is_target=True,
           worst=-100.0, measure="bss_sdr", summary="median", margin=0.1, same=_MEASURED),
    *(
        Metric(f"{val}{name}", title, of_training=not val, measured_by=_DATA2VEC2)
        for val in ("", "val_")
        for name, title in (
            ("target_var", "target deviation"), ("prediction_var", "prediction deviation"),
            ("feature_var", "feature deviation"),
        )
    ),
    Metric("ema_decay", "teacher decay", of_training=True, measured_by=_DATA2VEC2),
    *_of_codes(),
    *self_supervised.METRICS,
    *judged.METRICS,
    *codec.METRICS,
    *voice.METRICS,
)  # fmt: skip
