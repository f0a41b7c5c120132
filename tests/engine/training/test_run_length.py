"""Claims about lengths in epochs: exact for any data, the same on one process and two, and shown before the run."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import pytest

from engine.batching.open_plan import open_plan
from engine.config.counters import UpdateSize
from engine.config.span import Span
from engine.events import CheckpointSaved, Evaluated
from engine.training.run_length import length_warnings, run_length
from engine.training.run_warnings import run_warnings
from engine.training.schedules import is_due, total_updates
from engine.training.trainer import Trainer

# Items and items of an update: divides, does not, an update of nearly all, of all, of more than all.
DATA = [(12, 4), (12, 5), (60, 32), (60, 60), (60, 128), (7, 3), (1, 16)]
EPOCHS = (1, 2, 3, 5, 0.5, 500)


@pytest.mark.parametrize(("items", "each"), DATA)
@pytest.mark.parametrize("lengths", ["equal", "different"])
@pytest.mark.parametrize("world", [1, 2])
def test_epochs_are_never_one_update_too_many(make_config, items, each, lengths, world):
    """In whole numbers; and each epoch of the stream has every item once, whatever the update."""
    seconds = np.full((items, 1), 0.25)
    if lengths == "different":
        seconds = 0.25 + np.arange(items)[:, None] / 100
    for epochs in EPOCHS:
        config = make_config(
            batch={"items": each, "micro_batch": 4}, schedule={"length": f"{epochs} epochs"},
            precision={"devices": min(world, each), "device": "cpu"},
        )  # fmt: skip
        plan = open_plan(config, seconds, manifest="", world=min(world, each))
        size = plan.mean_size
        wanted = Fraction(str(epochs)) * items / each
        total = total_updates(config.schedule.length, size)
        assert total == max(1, ceil(wanted))
        every = Span(epochs, "epochs")
        due = [k for k in range(1, 40) if is_due(every, k, size=size)]
        assert due == [
            k for k in range(1, 40) if wanted <= 1 or floor(k / wanted) > floor((k - 1) / wanted)
        ]
        if total > 200:
            continue
        end = run_length(config, size).end
        assert (end.updates, end.items) == (total, total * each)
        draws = [
            (draw.epoch, draw.index)
            for update in range(total)
            for draw in _draws(config, seconds, update=update, world=min(world, each))
        ]
        assert len(draws) == total * each
        whole = total * each // items
        # Complete epochs hold each item exactly once; only the first items of the next one follow.
        inside = sorted(draw for draw in draws if draw[0] < whole)
        if plan.__class__.__name__ == "FixedPlan":
            assert inside == [(epoch, item) for epoch in range(whole) for item in range(items)]
            assert len(draws) - len(inside) == total * each - whole * items < max(each, items)


def _draws(config: Any, seconds: Any, *, update: int, world: int) -> list[Any]:
    found = []
    for rank in range(world):
        plan = open_plan(config, seconds, manifest="", rank=rank, world=world)
        found += [draw for batch in plan.micro_batches(update) for draw in batch.draws]
    return found


def test_huge_lengths_are_exact_too():
    """In floating point alone, the quotient of 500 epochs of 2,913,996 items was one update too many."""
    for items, each, epochs in ((2_913_996, 25, 500), (1_896_675, 30, 1000), (1_037_960, 2, 1000)):
        size = UpdateSize(1, each, audio_seconds=1.0, epochs=each / items)
        assert total_updates(Span(epochs, "epochs"), size) == ceil(Fraction(epochs * items, each))


@pytest.mark.parametrize("each", [4, 5])
def test_validation_and_saves_of_one_epoch_come_on_their_interval(
    tmp_path, make_config, line_recipe, recorder, stop_after, each
):
    """Both at the same updates: neither is counted as training, and neither shifts the other."""
    config = make_config(
        batch={"items": each}, schedule={"length": "4 epochs"},
        validation={"every": "1 epochs", "at_start": False}, checkpoint={"every": "1 epochs"},
    )  # fmt: skip
    Trainer(
        config, line_recipe(), folder=tmp_path, observers=[recorder], control=stop_after()
    ).fit()
    due = [ceil(epoch * 12 / each) for epoch in (1, 2, 3, 4)]
    assert [event.counters.updates for event in recorder.of(Evaluated)] == due
    saved = [
        event.counters.updates for event in recorder.of(CheckpointSaved) if event.kind == "last"
    ]
    assert saved == due
    items = [event.counters.items for event in recorder.of(Evaluated)]
    assert items == [update * each for update in due]


def test_the_length_is_told_in_every_counter(make_config):
    config = make_config(batch={"items": 128}, schedule={"length": "500 epochs"})
    size = UpdateSize(4, 128, audio_seconds=128 * 9.0, epochs=128 / 60)
    length = run_length(config, size)
    assert length.text == (
        "500 epochs = 235 updates (234.38, rounded up), 30,080 items, 75.2 h of audio, 501.333 epochs"
    )
    plain = make_config(schedule={"length": "10 updates"})
    assert run_length(plain, UpdateSize(1, 4, audio_seconds=2.0)).text == (
        "10 updates, 40 items, 20.0 s of audio"
    )


@pytest.mark.parametrize(
    ("sections", "items", "each", "words"),
    [
        ({"schedule": {"length": "500 epochs"}}, 60, 120,
         ["60 training items: 500 epochs are 250 updates, since an update of 120 items is 2 passes over them"]),
        ({"schedule": {"length": "5 epochs"}, "validation": {"every": "1 epochs"}, "checkpoint": {"every": "1 epochs"}},
         600, 4, []),
        ({"schedule": {"length": "3 epochs", "kind": "multi_step", "milestones": ["2 epochs", "4 epochs"]}},
         600, 4, ["schedule.milestones = 4 epochs is update 600, but the run ends after 450"]),
        ({"schedule": {"length": "4 updates"}, "validation": {"every": "1 epochs"}}, 600, 4,
         ["validation.every = 1 epochs is longer than the run (4 updates), so nothing happens before its end"]),
        ({"schedule": {"length": "4 updates"}}, 600, 4, []),
    ],
)  # fmt: skip
def test_spans_that_make_no_sense_are_warned_about(make_config, sections, items, each, words):
    config = make_config(**sections)
    size = UpdateSize(1, each, audio_seconds=1.0, epochs=each / items)
    found = length_warnings(config, size)
    assert len(found) == len(words)
    for text, word in zip(found, words, strict=True):
        assert word in text
    assert set(found) <= set(run_warnings(config, size=size))
