"""What the judge of a run hears (`validation.judge`), which `engine.metrics.registry` lists with all others."""

from __future__ import annotations

from engine.metrics.metric import Metric

# The setting that names the judge.
JUDGE = "validation.judge"

JUDGED_CER, JUDGED_WER = "judged_cer", "judged_wer"
# Of the recordings themselves, and of what the way back to audio makes of them without the model.
REAL_CER, BOUND_CER = "judged_cer_real", "judged_cer_bound"

_BY = ("codec", "voice")
_SAME = (JUDGE, "validation.judge_items")

METRICS = (
    Metric(JUDGED_CER, "CER (judge)", unit="%", scale=100, rises=False, is_main=True, is_target=True,
           headline_of=_BY, measured_by=_BY, worst=1.0, margin=0.005, same=_SAME, needs=JUDGE,
           reference=BOUND_CER),
    Metric(JUDGED_WER, "WER (judge)", unit="%", scale=100, rises=False, is_target=True, measured_by=_BY,
           worst=1.0, margin=0.005, same=_SAME, needs=JUDGE),
    Metric(REAL_CER, "CER (judge) of the recordings", unit="%", scale=100, rises=False, of_input=True,
           measured_by=_BY, same=_SAME, needs=JUDGE),
    Metric(BOUND_CER, "CER (judge) without the model", unit="%", scale=100, rises=False, of_input=True,
           measured_by=_BY, same=_SAME, needs=JUDGE),
)  # fmt: skip
