"""What a metric is, and every built-in one, declared once: title, unit, direction, how it is written.

Rates are stored as fractions and written in percent. Free of torch and pydantic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

_MISSING = "–"

Family = Literal["score", "loss"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What a measured quantity is and how it is written.

    Attributes:
        name: as it is stored, without suffixes.
        title: as tables and charts write it.
        unit: of a value times `scale`; "%" for rates.
        scale: stored values are multiplied by it to be shown.
        rises: whether higher is better.
        family: a loss is only comparable between runs that minimise the same one.
        of_input: measured on the input of the model, so the same for any weights.
        whole_files: whether it can be measured on whole files beside excerpts.
        is_main: whether a log line and a comparison show it without being asked.
        is_target: whether the best checkpoint by it can be kept.
        headline_of: the recipes whose runs are listed by it.
        of_training: measured by the steps of training, so a curve like that of the loss.
        worst: the value of an item whose estimate is not finite; None: there is no such bound, so the
            item makes the mean infinite.
        margin: smallest difference that counts, as stored, unless a person sets another; 0 for none.
        relative_margin: the same as a fraction of the reference's value, for metrics without a scale.
        same: dotted settings, or sections, that runs must share for their values to mean the same: a
            loss, a set of labels, a mask. A comparison of others is refused.
        needs: dotted setting without which evaluations don't measure it.
        measured_by: the built-in recipes whose evaluations measure it; empty: not known, or any.
        measure: the entry of `validation.metrics` that asks for it (`engine.metrics.measures`), then on
            whole files only; empty for what every evaluation has.
        summary: how the value of a run follows from those of its items.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    rises: bool = True
    family: Family = "score"
    of_input: bool = False
    whole_files: bool = False
    is_main: bool = False
    is_target: bool = False
    headline_of: tuple[str, ...] = ()
    of_training: bool = False
    worst: float | None = None
    margin: float = 0.0
    relative_margin: float = 0.0
    same: tuple[str, ...] = ()
    needs: str = ""
    measured_by: tuple[str, ...] = ()
    measure: str = ""
    summary: Literal["mean", "median"] = "mean"

    def text(self, value: float | None) -> str:
        """Write a value: two decimals; percent with its sign and about three digits."""
        if value is None or not math.isfinite(value):
            return _MISSING
        shown = value * self.scale
        if self.unit != "%":
            return f"{shown:.2f}"
        return f"{shown:.{2 if shown < 9.995 else 1 if shown < 99.95 else 0}f}%"

    def with_unit(self, value: float | None) -> str:
        """Write a value with its unit."""
        text = self.text(value)
        return f"{text} {self.unit}" if self.unit not in ("", "%") and text != _MISSING else text

    @property
    def of_bad_item(self) -> float:
        """Value of an item whose estimate is not finite: never better than a real one."""
        if self.worst is not None:
            return self.worst
        return -math.inf if self.rises else math.inf

    @property
    def is_rate(self) -> bool:
        """Whether it is a share, read in percent."""
        return self.unit == "%"

    def is_better(self, new: float, old: float | None) -> bool:
        """Return whether `new` beats `old`; NaN beats nothing, and anything finite beats None."""
        if not math.isfinite(new):
            return False
        return old is None or (new > old if self.rises else new < old)

    def best(self, values: Iterable[float | None]) -> float | None:
        """Return the best of the finite values; None when there is none."""
        finite = [value for value in values if value is not None and math.isfinite(value)]
        return (max if self.rises else min)(finite, default=None)

    @property
    def stored_unit(self) -> str:
        """Unit of a value as it is stored: rates are plain fractions there."""
        return self.unit if self.scale == 1 else ""


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


def _of_codes() -> Iterable[Metric]:
    """Return the metrics of wav2vec 2.0, those of training first, then the same of evaluations."""
    for prefix in ("", "val_"):
        common: dict[str, Any] = {"of_training": not prefix, "measured_by": ("wav2vec2",)}
        of = "validation " if prefix else ""
        yield Metric(
            f"{prefix}contrastive_loss", f"{of}contrastive loss", unit="nats", rises=False,
            family="loss", same=_CONTRAST, **common,
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
            f"{prefix}penalty", f"{of}feature penalty", rises=False, family="loss", **common
        )
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
)  # fmt: skip
