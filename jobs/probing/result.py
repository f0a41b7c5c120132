"""The result of a probe, as values: what every output of it writes, and what is kept in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.comparison.inference import Difference
from jobs.comparison.verdicts import Verdict

MFCC = "MFCC"


@dataclass(frozen=True, slots=True)
class Score:
    """A measure of a layer; `units` maps a take to what it adds, with `value` as their mean."""

    value: float
    units: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Layer:
    """The measures of a layer by name; `held_out`: accuracy by which layers are chosen, None if unknown."""

    number: int
    held_out: float | None
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Encoder:
    """What was probed.

    Attributes:
        variant: encoders of one variant differ only in their seed.
        seed: None where chance has no part in it.
        is_trained: whether it is a model of a person, not a baseline.
        chosen: number of the layer that comparisons use.
    """

    name: str
    variant: str
    seed: int | None
    is_trained: bool
    chosen: int
    layers: tuple[Layer, ...]

    def chosen_score(self, measure: str) -> Score | None:
        """Return a measure of the chosen layer."""
        layer = next(layer for layer in self.layers if layer.number == self.chosen)
        return layer.scores.get(measure)


@dataclass(frozen=True, slots=True)
class Compared:
    """A variant against another by one measure; `caveat` is what limits the verdict, in words."""

    measure: str
    variant: str
    reference: str
    difference: Difference | None
    verdict: Verdict
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What was measured, and on what.

    Attributes:
        data: the manifest or folder.
        rule: how training and test recordings were told apart.
        train, test: number of recordings of each.
        speakers, labels: their names.
        units: a take of the test recordings -> its speaker.
    """

    data: str
    rule: str
    train: int
    test: int
    speakers: tuple[str, ...]
    labels: tuple[str, ...]
    units: Mapping[str, str]
    encoders: tuple[Encoder, ...]
    notes: tuple[str, ...] = ()
    comparisons: tuple[Compared, ...] = field(default=())

    def measures(self) -> Iterator[str]:
        """Yield the names of the measures that any layer has."""
        from engine.probing.measures import MEASURES

        known = {name for item in self.encoders for layer in item.layers for name in layer.scores}
        yield from (name for name in MEASURES if name in known)


def encoder_of(
    answer: Mapping[str, Any], *, variant: str, seed: int | None, is_trained: bool
) -> Encoder:
    """Return an encoder from an answer of `engine.programs.probe`."""
    layers = tuple(
        Layer(
            int(number), layer["held_out"],
            scores={
                name: Score(float(score["value"]), dict(score["units"]))
                for name, score in layer["scores"].items()
            },
        )
        for number, layer in answer["layers"].items()
    )  # fmt: skip
    return Encoder(
        answer["name"], variant, seed=seed, is_trained=is_trained, chosen=int(answer["chosen"]),
        layers=layers,
    )  # fmt: skip


def decisive(measures: Sequence[str]) -> str:
    """Return the measure that decides: the first known one in the order of `MEASURES`."""
    return measures[0] if measures else ""
