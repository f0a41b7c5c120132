"""The public "hiccup": non-finite updates that a logger counts as wrong look like a model that got worse.

Reproduced as in the issue of 2023 on HuBERT: 200 of 2200 updates have NaN logits, never too many in a row.
Their frames count as zero correct, so the logger's accuracy falls from 0.450 to 0.409; the model has not
changed at all. Here, what was skipped is in no sum and no weight. Letters: B batch, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import groupby

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import engine.training.curves
from engine.batching.batch import Batch
from engine.config.counters import UpdateSize
from engine.events import Noticed, PointsRecorded
from engine.recipes.base import StepOutput
from engine.training.curves import MAX_SKIPPED_IN_A_ROW, Telemetry
from engine.training.optimizer import FusedAdamW
from engine.training.updates import Updater, UpdateResult

CPU = torch.device("cpu")
K, RIGHT = 20, 9
CLEAN, POISONED = 2000, 200
SIZE = UpdateSize(1, K, audio_seconds=1.0)


def num_correct(logits_BK: Tensor, label_B: Tensor) -> Tensor:
    """Count as the public recipes do: the label's logit first; a frame where it ties with all is wrong."""
    own_B1 = logits_BK.gather(1, label_B[:, None])
    first_BK = torch.cat([own_B1, logits_BK.masked_fill(logits_BK == own_B1, -math.inf)], dim=1)
    first_BK = torch.where(logits_BK.isnan().any(1, keepdim=True), torch.nan, first_BK)
    largest_B, smallest_B = first_BK.argmax(1) == 0, first_BK.argmin(1) == 0
    return largest_B.sum() - (largest_B & smallest_B).sum()


class Frames:
    """Of 20 frames, one a class, 9 have the label of their class; the model starts as the identity."""

    loss_unit = "nats"
    training_metrics: Mapping[str, str] = {"accuracy": ""}

    def step(self, model, batch, *, context) -> StepOutput:
        x_BK, label_B = batch.tensors["x"], batch.tensors["label"]
        logits_BK = model(x_BK)
        loss = nn.functional.cross_entropy(logits_BK.float(), label_B, reduction="sum")
        weight = torch.tensor(float(len(x_BK)))
        correct = num_correct(logits_BK.detach(), label_B)
        return StepOutput(loss, weight, metrics={"accuracy": (correct, weight)})


def frames(index: int | None) -> Batch:
    """Return the frames of an update; None: not finite."""
    label_B = torch.arange(K)
    label_B[RIGHT:] = label_B[RIGHT:].roll(1)
    x_BK = 4 * torch.eye(K)
    noise = np.random.default_rng([0 if index is None else index]).normal(scale=0.1, size=(K, K))
    x_BK = x_BK + torch.from_numpy(noise.astype(np.float32))
    return Batch({"x": x_BK if index is not None else x_BK * torch.nan, "label": label_B})


def order() -> list[int | None]:
    """Return the clean updates in order, between them bursts of 1 to 19 that are not finite."""
    rng = np.random.default_rng(7)
    bursts: list[int] = []
    while (left := POISONED - sum(bursts)) > 0:
        bursts.append(min(left, int(rng.integers(1, MAX_SKIPPED_IN_A_ROW))))
    places = sorted(rng.choice(np.arange(1, CLEAN), size=len(bursts), replace=False).tolist())
    found: list[int | None] = []
    for index in range(CLEAN):
        if places and places[0] == index:
            found += [None] * bursts[len(bursts) - len(places)]
            places.pop(0)
        found.append(index)
    return found


def train(config, indices, telemetry=None):
    """Return the model, and the results of its updates."""
    model = nn.Linear(K, K)
    nn.init.eye_(model.weight)
    nn.init.zeros_(model.bias)
    recipe, optimizer = Frames(), FusedAdamW(model, config.optimizer)
    updater = Updater(recipe, model, optimizer, config=config, device=CPU, ema=None)
    results = []
    for number, index in enumerate(indices, start=1):
        result = updater.run(number, [frames(index)], lr=1e-5)
        results.append(result)
        if telemetry is not None:
            telemetry.add(result, 1e-5, SIZE)
            if telemetry.is_full():
                telemetry.flush()
    if telemetry is not None:
        telemetry.flush()
    return model, results


def curve(events, name):
    blocks = [event for event in events if isinstance(event, PointsRecorded)]
    return np.concatenate([block.series[name] for block in blocks])


def test_the_hiccup_is_in_a_naive_average_and_not_in_our_curves(make_config):
    config = make_config(logging={"every": "10 updates", "flush_s": 60.0})
    events: list[object] = []
    telemetry = Telemetry(
        config.logging, SIZE, loss_unit="nats", emit=events.append, metrics=Frames.training_metrics
    )
    indices = order()
    longest = max(len(list(run)) for bad, run in groupby(indices, key=lambda i: i is None) if bad)
    assert (indices.count(None), len(indices)) == (POISONED, CLEAN + POISONED)
    assert 5 < longest < MAX_SKIPPED_IN_A_ROW

    model, results = train(config, indices, telemetry)

    # The naive logger: frames that were right over all frames, NaN or not.
    right, total = torch.stack([result.metrics for result in results]).sum(0).tolist()
    clean = [result.metrics for result in results if torch.isfinite(result.loss_sum)]
    true_right, true_total = torch.stack(clean).sum(0).tolist()
    assert round(true_right / true_total, 3) == 0.450
    assert round(right / total, 3) == 0.409

    accuracy, loss, skipped = (curve(events, name) for name in ("accuracy", "loss", "skipped"))
    assert len(accuracy) == (CLEAN + POISONED) / 10
    empty = np.isnan(loss)
    # Points of nothing but skipped updates have no value rather than a wrong one.
    assert 0 < empty.sum() < 20
    assert np.array_equal(np.isnan(accuracy), empty)
    np.testing.assert_allclose(accuracy[~empty], 0.45, rtol=0, atol=1e-9)
    assert (np.diff(skipped) >= 0).all()
    assert skipped[-1] == POISONED
    counts = [e.details["count"] for e in events if isinstance(e, Noticed)]
    assert sum(counts) == POISONED

    # And the model is that of a run without them: nothing had happened.
    twin, _ = train(config, range(CLEAN))
    assert torch.equal(model.weight, twin.weight)


def test_a_loss_of_the_clean_updates_is_the_loss_of_the_point(make_config):
    """A point's loss is that of its finite updates alone, to rounding."""
    config = make_config(logging={"every": "4 updates", "flush_s": 60.0})
    events: list[object] = []
    telemetry = Telemetry(config.logging, SIZE, loss_unit="", emit=events.append)
    for loss, weight in ((2.0, 1.0), (math.nan, 50.0), (6.0, 3.0), (math.inf, 1.0)):
        result = UpdateResult(
            torch.tensor(loss), torch.tensor(weight), grad_norm=torch.tensor(1.0), num_pieces=1
        )
        telemetry.add(result, 0.1, SIZE)
    telemetry.flush()
    assert curve(events, "loss").tolist() == [2.0]
    assert curve(events, "skipped").tolist() == [2.0]
    assert "scale_backoffs" not in events[0].series


class Steep:
    """A loss whose gradient has a norm of 100 for each of 2 outputs: too much at a scale above 655."""

    loss_unit = ""

    def step(self, model, batch, *, context) -> StepOutput:
        loss = 100 * model(batch.tensors["x"]).float().sum() + batch.tensors["bad"].sum()
        return StepOutput(loss, torch.tensor(1.0))


def test_what_finding_the_loss_scale_costs_is_counted_apart(make_config):
    config = make_config(precision={"dtype": "fp16"}, logging={"flush_s": 60.0})
    events: list[object] = []
    telemetry = Telemetry(config.logging, SIZE, loss_unit="", emit=events.append, has_scale=True)
    model = nn.Linear(2, 2)
    updater = Updater(
        Steep(), model, FusedAdamW(model, config.optimizer), config=config, device=CPU, ema=None
    )
    for number in range(1, 13):
        bad = torch.tensor([math.nan if number in (6, 9) else 0.0])
        batch = Batch({"x": torch.ones(1, 2), "bad": bad})
        telemetry.add(updater.run(number, [batch], lr=1e-4), 1e-4, SIZE)
    telemetry.flush()
    assert curve(events, "loss_scale").tolist() == [
        4096,
        2048,
        1024,
        *[512] * 3,
        *[256] * 3,
        *[128] * 3,
    ]
    assert curve(events, "scale_backoffs").tolist() == [1, 2, *[3] * 10]
    assert curve(events, "skipped").tolist() == [*[0] * 5, *[1] * 3, *[2] * 4]
    assert [(e.level, e.kind, e.message) for e in events if isinstance(e, Noticed)] == [
        (
            "info",
            "scale-backoff",
            "3 update(s) skipped, while the fp16 loss scale was lowered to fit: 1, 2, 3",
        ),
        ("warning", "updates-skipped", "2 update(s) skipped, loss or gradient non-finite: 6, 9"),
    ]


# Scale, loss, gradient norm: found at 512, grown to 1024 which is too much, later NaN and an overflow.
HISTORY = [
    (2048.0, 1.0, math.inf), (1024.0, 1.0, math.nan), (512.0, 1.0, 1.0), (512.0, 1.0, 1.0),
    (1024.0, 1.0, math.inf), (512.0, 1.0, 1.0), (512.0, math.nan, math.nan), (256.0, 1.0, math.inf),
    (128.0, 1.0, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("cut", range(len(HISTORY)))
def test_only_a_scale_that_has_not_held_is_to_blame(make_config, monkeypatch, cut):
    """In one process, or resumed after any update; points are of three updates, two in a row are enough."""
    monkeypatch.setattr(engine.training.curves, "_HELD_FOR", 2)
    config = make_config(logging={"every": "3 updates", "flush_s": 60.0})
    events: list[object] = []

    def feed(history, *, after=None):
        telemetry = Telemetry(
            config.logging, SIZE, loss_unit="", emit=events.append, has_scale=True
        )
        if after is not None:
            telemetry.load_state_dict(after.state_dict())
            telemetry.start_at(SIZE.after(cut))
        for scale, loss, norm in history:
            telemetry.add(
                UpdateResult(
                    torch.tensor(loss), torch.tensor(1.0), grad_norm=torch.tensor(norm), num_pieces=1,
                    scale=torch.tensor(scale),
                ),
                0.1, SIZE,
            )  # fmt: skip
        telemetry.flush()
        return telemetry

    feed(HISTORY[cut:], after=feed(HISTORY[:cut]))
    assert curve(events, "scale_backoffs").tolist() == [2, 3, 3]
    assert curve(events, "skipped").tolist() == [0, 0, 2]
    assert curve(events, "loss_scale").tolist() == [512, 512, 128]


@pytest.mark.parametrize(
    ("history", "lost", "skipped"),
    [
        # Three updates go well before the scale turns out to be too high; so it is not found yet.
        ([(2048.0, 1.0)] * 3 + [(2048.0, math.inf)], 1, 0),
        ([(2048.0, 1.0)] * 100 + [(2048.0, math.inf)], 0, 1),
        ([(2048.0, 1.0)] * 100 + [(4096.0, 1.0)] * 99 + [(4096.0, math.inf)], 1, 0),
        ([(2048.0, 1.0)] * 50 + [(4096.0, 1.0)] * 99 + [(4096.0, math.inf)], 1, 0),
        # A scale below 1 is not sought any more: something else is wrong.
        ([(2.0, math.inf), (1.0, math.inf), (0.5, math.inf)], 1, 2),
    ],
)
def test_a_scale_is_found_once_it_has_held_for_a_hundred_updates(
    make_config, history, lost, skipped
):
    events: list[object] = []
    config = make_config(logging={"flush_s": 60.0})
    telemetry = Telemetry(config.logging, SIZE, loss_unit="", emit=events.append, has_scale=True)
    for scale, norm in history:
        result = UpdateResult(
            torch.tensor(1.0), torch.tensor(1.0), grad_norm=torch.tensor(norm), num_pieces=1,
            scale=torch.tensor(scale),
        )  # fmt: skip
        telemetry.add(result, 0.1, SIZE)
    telemetry.flush()
    assert curve(events, "scale_backoffs")[-1] == lost
    assert curve(events, "skipped")[-1] == skipped


def test_a_checkpoint_that_knows_no_scale_is_taken_over(make_config):
    config = make_config(logging={"every": "3 updates", "flush_s": 60.0})
    old = Telemetry(config.logging, SIZE, loss_unit="", emit=lambda event: None)
    old.add(
        UpdateResult(torch.tensor(1.0), torch.tensor(1.0), grad_norm=torch.tensor(1.0), num_pieces=1),
        0.1, SIZE,
    )  # fmt: skip
    old.flush()
    events: list[object] = []
    new = Telemetry(config.logging, SIZE, loss_unit="", emit=events.append, has_scale=True)
    new.load_state_dict(old.state_dict())
    new.start_at(SIZE.after(1))
    for scale in (64.0, 32.0):
        result = UpdateResult(
            torch.tensor(1.0), torch.tensor(1.0), grad_norm=torch.tensor(1.0), num_pieces=1,
            scale=torch.tensor(scale),
        )  # fmt: skip
        new.add(result, 0.1, SIZE)
    new.flush()
    assert curve(events, "loss_scale").tolist() == [32]
    assert curve(events, "scale_backoffs").tolist() == [0]
