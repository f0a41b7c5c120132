"""A probe as text: the table of layers, what beats what, and in which words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from engine.probing.measures import MEASURES
from tui.reports.formats import clean

if TYPE_CHECKING:
    from jobs.probing.result import Compared, Encoder, ProbeResult, Score

_HEADS = {
    "left_out_segments": "NEW SPEAKER 4",
    "left_out_mean": "NEW SPEAKER",
    "word_segments": "WORD 4",
    "word_mean": "WORD",
    "speaker_mean": "SPEAKER",
    "speaker_segments": "SPEAKER 4",
    "abx_within": "ABX IN",
    "abx_across": "ABX ACROSS",
    "pnmi": "PNMI",
    "purity": "PURITY",
    "cluster_purity": "CL PURITY",
}
_LEGEND = (
    "WORD: accuracy of a linear probe on new takes; NEW SPEAKER: the speaker left out of the probe; 4: "
    "means of four segments instead of one mean; ABX: errors, lower is better; *: layer chosen on held-out "
    "training takes"
)
_MISSING = "–"


def about(result: ProbeResult) -> list[str]:
    """Return what was probed with."""
    speakers = f"{len(result.speakers)} speakers, " if result.speakers else ""
    words = f"{len(result.labels)} words, " if result.labels else ""
    return [
        f"{clean(result.data)}: {speakers}{words}{result.train} recordings to train probes, {result.test} "
        f"to test them ({clean(result.rule)})"
    ]


def headers(result: ProbeResult) -> list[str]:
    """Return the heads of the table."""
    return ["ENCODER", "LAYER", *(_HEADS[name] for name in result.measures())]


def rows(result: ProbeResult) -> Iterator[list[str]]:
    """Yield a row for each layer of each encoder."""
    from jobs.probing.result import MFCC

    measures = list(result.measures())
    for encoder in result.encoders:
        for layer in encoder.layers:
            name = clean(encoder.name) if layer is encoder.layers[0] else ""
            mark = "*" if layer.number == encoder.chosen and len(encoder.layers) > 1 else ""
            number = _MISSING if encoder.variant == MFCC else f"{layer.number}{mark}"
            yield [name, number, *(_value(layer.scores.get(measure)) for measure in measures)]


def verdicts(result: ProbeResult) -> Iterator[str]:
    """Yield the comparisons by the measure that decides, one line each."""
    measures = [name for name in result.measures() if MEASURES[name].rises is not None]
    if not measures:
        return
    yield f"by {MEASURES[measures[0]].about}:"
    for item in result.comparisons:
        if item.measure == measures[0]:
            yield f"  {line(item)}"


def line(item: Compared) -> str:
    """Return one comparison: the difference, its interval, the verdict."""
    who = f"{clean(item.variant)} against {clean(item.reference)}"
    if item.difference is None:
        return f"{who}: {item.verdict} ({item.caveat})"
    gap = item.difference
    text = (
        f"{who}: {100 * gap.mean:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}), "
        f"{item.verdict}"
    )
    return f"{text} ({item.caveat})" if item.caveat else text


def legend() -> str:
    """Return what the heads mean."""
    return _LEGEND


COLUMNS = (
    "encoder", "variant", "seed", "trained", "layer", "chosen", "measure", "value", "held_out",
    "reference", "difference", "low", "high", "verdict", "of", "caveat",
)  # fmt: skip


def records(result: ProbeResult) -> Iterator[dict[str, object]]:
    """Yield rows for CSV: a value of each encoder, layer and measure, then each comparison."""
    for encoder in result.encoders:
        for layer in encoder.layers:
            for name, score in layer.scores.items():
                yield {
                    **_who(encoder), "layer": layer.number, "measure": name, "value": score.value,
                    "chosen": layer.number == encoder.chosen, "held_out": layer.held_out,
                }  # fmt: skip
    for item in result.comparisons:
        gap = item.difference
        yield {
            "variant": clean(item.variant), "reference": clean(item.reference),
            "measure": item.measure, "verdict": item.verdict, "caveat": item.caveat,
            **({} if gap is None else {
                "difference": gap.mean, "low": gap.low, "high": gap.high, "of": gap.of,
            }),
        }  # fmt: skip


def _who(encoder: Encoder) -> dict[str, object]:
    return {
        "encoder": clean(encoder.name), "variant": clean(encoder.variant), "seed": encoder.seed,
        "trained": encoder.is_trained,
    }  # fmt: skip


def _value(score: Score | None) -> str:
    return _MISSING if score is None else f"{score.value:.3f}"


def right(result: ProbeResult) -> Sequence[str]:
    """Return the heads of columns of numbers."""
    return headers(result)[1:]
