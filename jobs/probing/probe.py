"""Probing runs and checkpoints in a child process: what was asked for, and the result. Free of torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from engine.child_processes import answers_of
from engine.probing.measures import MEASURES
from jobs.probing.result import MFCC, Encoder, ProbeResult, decisive, encoder_of
from jobs.probing.verdicts import comparisons, random_of

PROGRAM = (sys.executable, "-P", "-m", "engine.programs.probe")
BASELINES = ("mfcc", "random")


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model to probe: its checkpoint, and which variant and seed it is of."""

    name: str
    folder: Path
    variant: str
    seed: int


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """What to probe, and how.

    Attributes:
        data: manifest or folder of labelled recordings.
        test: another for testing; None: `data` is split.
        baselines: of `BASELINES`.
        layers: numbers; empty: all.
        clusters: of the k-means for purity and PNMI.
        limit: most recordings of each split.
    """

    models: tuple[Model, ...]
    data: Path
    test: Path | None = None
    baselines: tuple[str, ...] = BASELINES
    layers: tuple[int, ...] = ()
    clusters: int = 100
    limit: int = 2_000
    seed: int = 0
    measures: tuple[str, ...] = field(default=tuple(MEASURES))

    def to_dict(self, device: str) -> dict[str, Any]:
        """Return the job as the program takes it."""
        return {
            "models": [
                {"name": item.name, "folder": str(item.folder)} for item in self.models
            ],
            "data": str(self.data), "test": None if self.test is None else str(self.test),
            "baselines": list(self.baselines), "layers": list(self.layers),
            "clusters": self.clusters, "limit": self.limit, "seed": self.seed,
            "measures": list(self.measures), "device": device,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an encoder is."""

    encoder: str
    what: str
    done: int
    total: int


def run_probe(
    job: ProbeJob,
    *,
    device: str,
    emit: Callable[[Progress], None],
    environment: Mapping[str, str] | None = None,
    cancel: Event | None = None,
) -> ProbeResult:
    """Probe in a child process.

    Args:
        job: what to probe.
        device: auto, cpu, cuda or cuda:N.
        emit: called as work goes on.
        environment: of the child; None: that of this process.
        cancel: once set, the child is killed.

    Raises:
        ValueError: when data or checkpoints can't be used, or the child failed.
        Cancelled: once `cancel` is set.
    """
    kept = []
    for answer in answers_of_probe(job, device=device, environment=environment, cancel=cancel):
        if "what" in answer:
            emit(
                Progress(
                    answer["encoder"], answer["what"], int(answer["done"]), total=answer["total"]
                )
            )
        kept.append(answer)
    return result_of(job, kept)


def answers_of_probe(
    job: ProbeJob,
    *,
    device: str,
    environment: Mapping[str, str] | None = None,
    cancel: Event | None = None,
) -> Iterator[dict[str, Any]]:
    """Return the answers of the child as they come; arguments and errors are those of `run_probe`."""
    return answers_of(PROGRAM, job.to_dict(device), environment=environment, cancel=cancel)


def result_of(job: ProbeJob, answers: Iterable[Mapping[str, Any]]) -> ProbeResult:
    """Return the result of a job from the answers of its child."""
    about: Mapping[str, Any] = {}
    encoders: list[Encoder] = []
    for answer in answers:
        if "rule" in answer:
            about = answer
        elif "scores_of" in answer:
            encoders.append(_encoder(job, answer))
    result = ProbeResult(
        str(job.data), about["rule"], train=about["train"], test=about["test"],
        speakers=tuple(about["speakers"]), labels=tuple(about["labels"]), units=about["units"],
        encoders=tuple(encoders), notes=tuple(about["notes"]),
    )  # fmt: skip
    return with_comparisons(result)


def with_comparisons(result: ProbeResult) -> ProbeResult:
    """Return a result with its comparisons: by every measure, the one that decides first."""
    from dataclasses import replace

    measures = list(result.measures())
    found = comparisons(result.encoders, result.units, measures=measures)
    notes = list(result.notes)
    if measures:
        notes.append(
            f"{MEASURES[decisive(measures)].about} decides; the other measures are exploratory: one in twenty "
            "shows a difference by chance"
        )
    return replace(result, comparisons=tuple(found), notes=tuple(notes))


def _encoder(job: ProbeJob, answer: Mapping[str, Any]) -> Encoder:
    kind, _, number = str(answer["scores_of"]).partition(" ")
    if kind == "mfcc":
        return encoder_of(answer, variant=MFCC, seed=None, is_trained=False)
    model: Sequence[Model] = job.models
    of = model[int(number)]
    variant = of.variant if kind == "trained" else random_of(of.variant)
    return encoder_of(answer, variant=variant, seed=of.seed, is_trained=kind == "trained")
