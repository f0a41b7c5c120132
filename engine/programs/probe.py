"""`python -P -m engine.programs.probe`: measures frozen features on labelled recordings.

The job is a line of JSON on stdin, answers are lines of JSON on stdout: progress, the measures of each
encoder, the end. A user error is an answer. The process exits when its standard input closes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from engine.programs.pipes import Job, answer_job, say
from engine.start_up import loading

if TYPE_CHECKING:
    import torch

    from engine.recipes.self_supervised.encoders import FeatureEncoder
    from engine.recipes.self_supervised.probing import Step


def main() -> int:
    """Run one job; return 0, or 2 for a user error."""
    return answer_job(_run)


def _run(job: Job, answers: TextIO) -> None:
    with loading():
        from engine.data.speech.labelled import limited, read_labelled
        from engine.precision import resolve_device
        from engine.recipes.self_supervised.probing import Options, chosen_layer, probe_encoder

    test = None if job["test"] is None else Path(job["test"])
    labelled = read_labelled(Path(job["data"]), test, setting="--data")
    labelled = limited(labelled, {"train": job["limit"], "test": job["limit"]}, seed=job["seed"])
    units = {item.unit: item.speaker for item in labelled.recordings if item.split == "test"}
    say(
        answers, rule=labelled.rule, notes=labelled.notes, labels=labelled.labels,
        speakers=labelled.speakers, units=units,
        train=sum(item.split == "train" for item in labelled.recordings),
        test=sum(item.split == "test" for item in labelled.recordings),
    )  # fmt: skip
    options = Options(
        tuple(job["layers"]), clusters=job["clusters"], seed=job["seed"],
        measures=tuple(job["measures"]),
    )  # fmt: skip
    for key, encoder in _encoders(job, resolve_device(job["device"])):
        # A baseline without layers has only one.
        own = (
            options
            if encoder.num_layers
            else Options(clusters=options.clusters, seed=options.seed, measures=options.measures)
        )
        scores = probe_encoder(
            encoder,
            labelled,
            options=own,
            progress=partial(_say_step, (answers, encoder.name)),
        )
        say(
            answers, scores_of=key, name=encoder.name, chosen=chosen_layer(scores),
            layers={
                layer: {
                    "held_out": of.held_out if of.held_out == of.held_out else None,
                    "scores": {
                        name: {"value": found.value, "units": found.units}
                        for name, found in of.scores.items()
                    },
                }
                for layer, of in scores.items()
            },
        )  # fmt: skip
    say(answers, done=True)


def _say_step(to: tuple[TextIO, str], step: Step) -> None:
    answers, name = to
    say(answers, encoder=name, what=step.what, done=step.done, total=step.total)


def _encoders(job: Job, device: torch.device) -> Iterator[tuple[str, FeatureEncoder]]:
    """Yield the encoders one by one, so that only one network is in memory, with a key of each."""
    from engine.checkpoints.files import read_manifest
    from engine.checkpoints.find import config_of, find_checkpoint
    from engine.recipes.self_supervised.encoders import MfccEncoder, open_encoder, random_encoder

    rates = set()
    for number, entry in enumerate(job["models"]):
        folder = find_checkpoint(Path(entry["folder"]))
        config = config_of(read_manifest(folder))
        rates.add(config.data.rate_hz)
        yield f"trained {number}", open_encoder(folder, name=entry["name"], device=device)
        if "random" in job["baselines"]:
            name = f"random, {entry['name']}"
            yield f"random {number}", random_encoder(config, config.seed, name=name, device=device)
    if "mfcc" in job["baselines"]:
        yield "mfcc", MfccEncoder(max(rates, default=16_000))


if __name__ == "__main__":
    sys.exit(main())
