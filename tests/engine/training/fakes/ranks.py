"""Runs of several processes, and of one, on equal data. Letters: B batch, T time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine.batching.batch import Batch, Split
from engine.batching.items import MicroBatch
from engine.config.loading import load_config
from engine.config.schema import RunConfig
from engine.evaluation.result import Evaluation
from engine.events import Event, Noticed, PointsRecorded
from engine.gated import assign_unless, lerp_unless
from engine.recipes.base import StepContext, StepOutput, UpdateMade
from engine.recipes.registry import open_recipe
from engine.training.optimizer import FusedAdamW
from engine.training.ranks import Ranks, require_no_batch_norm
from engine.training.trainer import Trainer
from engine.training.updates import Updater
from tests.ranks import take_part

CPU = torch.device("cpu")
# With a tiny eps Adam takes a gradient that is zero but for rounding for a direction.
CALM = {"lr": 1e-3, "eps": 1e-4}
LENGTHS = np.array([1, 2, 9, 4, 3, 7, 7, 2, 5, 8, 6, 1, 3], dtype=np.float64)


class Net(nn.Module):
    """A tiny network with a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x_BT: Tensor) -> Tensor:
        out: Tensor = self.body(x_BT.unsqueeze(-1)).squeeze(-1)
        return out


class RaggedRecipe:
    """Items of many lengths, padded; the loss is weighted by their true length.

    `fits` is how many items a process has memory for; items in `poisoned` are not finite.
    """

    loss_unit = ""

    def __init__(self, *, fits: int = 1000, poisoned: Sequence[int] = ()) -> None:
        self.fits = fits
        self.poisoned = set(poisoned)
        self.fetched: list[tuple[int, int]] = []

    def build_model(self) -> nn.Module:
        return Net()

    def sizes(self, split: Split) -> np.ndarray:
        return LENGTHS[:, None]

    def manifest(self, split: Split) -> str:
        return "ragged"

    def fetch(self, split: Split, micro_batch: MicroBatch) -> Batch:
        self.fetched += [(draw.epoch, draw.index) for draw in micro_batch.draws]
        length_B = torch.tensor([LENGTHS[draw.index] for draw in micro_batch.draws])
        longest = int(micro_batch.shape[0]) if micro_batch.shape else int(length_B.max())
        x_BT = torch.zeros(len(length_B), longest)
        for row, draw in enumerate(micro_batch.draws):
            count = int(LENGTHS[draw.index])
            values = np.random.default_rng([draw.epoch, draw.index]).normal(size=count)
            x_BT[row, :count] = torch.from_numpy(values)
            if draw.index in self.poisoned:
                x_BT[row, 0] = float("nan")
        return Batch({"x": x_BT, "length": length_B})

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        x_BT, length_B = batch.tensors["x"], batch.tensors["length"]
        if len(x_BT) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        inside_BT = torch.arange(x_BT.shape[1]) < length_B[:, None]
        error_BT = (model(x_BT) - (2 * x_BT + 1)).square() * inside_BT
        return StepOutput(error_BT.sum(), length_B.sum().float())

    def evaluate(self, model: nn.Module, device: torch.device) -> Evaluation:
        loss = float(sum(param.square().sum() for param in model.parameters()))
        return Evaluation({"val_loss": loss}, 1, num_excluded=0)

    def worst_batch(self, count: int, shape: tuple[float, ...] = ()) -> Batch:
        raise NotImplementedError


class FollowedRecipe(RaggedRecipe):
    """Has a teacher, a codebook of two entries and a metric; a rank's share of each differs."""

    training_metrics: Mapping[str, str] = {"mean_length": "s"}
    statistics: Mapping[str, tuple[int, ...]] = {"count": (2,), "sum": (2,)}

    def __init__(self, *, fits: int = 1000, poisoned: Sequence[int] = ()) -> None:
        super().__init__(fits=fits, poisoned=poisoned)
        self.teacher = [torch.zeros(8, 1)]
        self.codes = torch.tensor([-1.0, 1.0])

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        output = super().step(model, batch, context=context)
        x_B, length_B = batch.tensors["x"][:, 0], batch.tensors["length"]
        near_B2 = nn.functional.one_hot((x_B[:, None] - self.codes).abs().argmin(1), 2).float()
        metrics = {"mean_length": (length_B.sum(), torch.tensor(float(len(length_B))))}
        statistics = {"count": near_B2.sum(0), "sum": (near_B2 * x_B[:, None]).sum(0)}
        return StepOutput(output.loss_sum, output.weight, metrics=metrics, statistics=statistics)

    def after_step(self, model: nn.Module, made: UpdateMade) -> None:
        lerp_unless(
            made.skipped, self.teacher, towards=[model.get_parameter("body.0.weight")], share=0.1
        )
        means = made.statistics["sum"] / made.statistics["count"].clamp(min=1)
        moved = torch.where(
            made.statistics["count"] > 0, 0.9 * self.codes + 0.1 * means, self.codes
        )
        assign_unless(made.skipped, [self.codes], values=[moved])


class Recorder:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def losses(self) -> list[float]:
        return self.curve("loss")

    def curve(self, name: str) -> list[float]:
        blocks = [event for event in self.events if isinstance(event, PointsRecorded)]
        return [float(value) for block in blocks for value in block.series[name]]


class StopAt:
    """Asks to stop when it has been asked so many times."""

    def __init__(self, updates: int | None = None) -> None:
        self._left = itertools.count(0 if updates is None else updates, -1)
        self._never = updates is None

    def stop_reason(self) -> str | None:
        left = next(self._left)
        return "asked to stop" if left <= 0 and not self._never else None


class Bench:
    """Makes the runs of one process, alone or as one of several."""

    def __init__(self, ranks: Ranks, folder: Path) -> None:
        self.ranks = ranks
        self.folder = folder / f"world-{ranks.world}"
        self.audio = folder / "audio"
        self.tones = folder / "tones"
        self.num_sums = 0

    def config(self, **sections: Any) -> RunConfig:
        """Return a run on ragged items."""
        values: dict[str, Any] = {
            "data": {"kind": "bandwidth", "train": "unused", "valid": "unused"},
            "batch": {"items": 5, "micro_batch": 2},
            "optimizer": {"lr": 1e-2, "weight_decay": 0.1},
            "schedule": {"length": "12 updates"},
            "validation": {"every": "5 updates", "training_items": 2},
            "checkpoint": {"every": "4 updates", "best": []},
            "precision": {"device": "cpu", "threads": 1, "devices": self.ranks.world},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        return load_config(values)

    def fit(
        self, name: str, config: RunConfig, recipe: Any, *, stop_at: int | None = None
    ) -> dict[str, Any]:
        """Train, and return what a test wants to know."""
        recorder, before = Recorder(), self.num_sums
        trainer = Trainer(
            config, recipe, folder=self.folder / name, observers=[recorder], control=StopAt(stop_at),
            ranks=self.ranks,
        )  # fmt: skip
        ended = trainer.fit()
        state = trainer._state
        return {
            "outcome": ended.outcome,
            "reason": ended.reason,
            "updates": ended.counters.updates,
            "items": ended.counters.items,
            "micro_batches": ended.counters.micro_batches,
            "audio_seconds": ended.counters.audio_seconds,
            "epochs": ended.counters.epochs,
            "sums": self.num_sums - before,
            "losses": recorder.losses(),
            "lengths": recorder.curve("mean_length") if hasattr(recipe, "teacher") else [],
            "num_events": len(recorder.events),
            "notices": [
                (e.kind, e.message, dict(e.details))
                for e in recorder.events
                if isinstance(e, Noticed)
            ],
            "fetched": list(getattr(recipe, "fetched", [])),
            "state": {
                **{f"model.{n}": t.clone() for n, t in state.model.state_dict().items()},
                **{f"optimizer.{n}": t.clone() for n, t in state.optimizer.state_dict().items()},
            },
        }

    def ragged(self) -> Any:
        return self.fit("ragged", self.config(), RaggedRecipe())

    def epochs(self) -> Any:
        """All clocks count epochs, which end within updates."""
        config = self.config(
            schedule={"length": "2 epochs", "kind": "linear", "warmup": "0.5 epochs"},
            validation={"every": "1 epochs"}, ema={"per": "0.1 epochs"},
        )  # fmt: skip
        return self.fit("epochs", config, RaggedRecipe())

    def ragged_seconds(self) -> Any:
        batch = {"seconds": 19.0, "micro_batch": 3, "cap_s": 12.0, "pool_updates": 2}
        return self.fit("seconds", self.config(batch=batch), RaggedRecipe())

    def capped(self) -> Any:
        batch = {"mode": "duration", "cap_s": 10.0}
        return self.fit("capped", self.config(batch=batch), RaggedRecipe())

    def poisoned(self) -> Any:
        return self.fit("poisoned", self.config(), RaggedRecipe(poisoned=[2]))

    def short_of_memory(self) -> Any:
        fits = 1 if self.ranks.rank == self.ranks.world - 1 else 1000
        config = self.config(batch={"micro_batch": 4, "items": 8})
        return self.fit("short", config, RaggedRecipe(fits=fits))

    def plenty_of_memory(self) -> Any:
        config = self.config(batch={"micro_batch": 4, "items": 8})
        return self.fit("plenty", config, RaggedRecipe())

    def followed(self) -> Any:
        """One rank has memory for one item only, and some updates are not finite."""
        crowded = self.ranks.world > 1 and self.ranks.rank == self.ranks.world - 1
        recipe = FollowedRecipe(fits=1 if crowded else 1000, poisoned=[2])
        config = self.config(batch={"micro_batch": 4, "items": 3})
        made = self.fit("followed", config, recipe)
        made["state"] |= {"teacher": recipe.teacher[0], "codes": recipe.codes}
        return made

    def stopped(self) -> Any:
        """Only the last rank is asked to stop; then all go on."""
        last = self.ranks.rank == self.ranks.world - 1
        first = self.fit("stopped", self.config(), RaggedRecipe(), stop_at=6 if last else None)
        return {"first": first, "second": self.fit("stopped", self.config(), RaggedRecipe())}

    def early(self) -> Any:
        """The metric never improves after the first evaluation; only the first rank evaluates."""
        rules = {"metric": "val_loss", "patience": "20 items", "min_delta": 1e6}
        config = self.config(stop_when=rules, validation={"every": "3 updates"})
        return self.fit("early", config, RaggedRecipe())

    def separation(self) -> Any:
        """With the loss that rounds least: magnitudes of the spectral one cost three digits."""
        data = {
            "kind": "stems", "train": str(self.audio / "train"), "valid": str(self.audio / "valid"),
            "rate_hz": 8_000, "segment_s": 0.25, "targets": ["voice"],
            "others": ["percussion", "noise"],
        }  # fmt: skip
        config = self.config(
            data=data, model={"kind": "audio_unet", "width": 4, "strides": [2, 4], "residual_units": 1},
            loss={"kind": "l1"}, batch={"items": 5, "micro_batch": 2},
            schedule={"length": "4 updates"}, optimizer=CALM,
        )  # fmt: skip
        return self.fit("separation", config, open_recipe(config))

    def transducer(self) -> Any:
        """Utterances of many lengths, without dropout: its masks depend on the micro-batch."""
        data = {
            "kind": "speech", "train": str(self.tones / "train.jsonl"),
            "valid": str(self.tones / "valid.jsonl"), "rate_hz": 8_000, "num_mels": 16,
            "freq_mask_mels": 2, "time_mask_frames": 3, "min_s": 0.1,
        }  # fmt: skip
        config = self.config(
            data=data,
            model={
                "kind": "conformer_rnnt", "kernel": 5, "layers": 1, "dim": 16, "heads": 2, "ffn": 32,
                "encoding_dim": 24, "embedding": 8, "lstm_hidden": 16, "lstm_layers": 1,
                "dropout": 0.0, "lstm_dropout": 0.0, "stride": 4,
            },
            loss={"kind": "rnnt"}, batch={"items": 5, "micro_batch": 2, "split": 2},
            schedule={"length": "4 updates"}, optimizer=CALM,
        )  # fmt: skip
        return self.fit("transducer", config, open_recipe(config))

    def without_data(self) -> Any:
        """One update in which only the first rank has items."""
        recipe, config = RaggedRecipe(), self.config()
        torch.manual_seed(0)
        model = recipe.build_model()
        optimizer = FusedAdamW(model, config.optimizer)
        updater = Updater(
            recipe, model, optimizer, config=config, device=CPU, ema=None, ranks=self.ranks
        )
        batches = [Batch({"x": torch.ones(2, 3), "length": torch.tensor([3.0, 1.0])})]
        result = updater.run(1, batches if self.ranks.rank == 0 else [], lr=0.1)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return {"state": state, "weight": result.weight.item(), "pieces": result.num_pieces}

    def errors(self) -> Any:
        """What is refused."""
        found = {}
        for name, call in {
            "norm": lambda: require_no_batch_norm(nn.Sequential(nn.BatchNorm1d(2)), self.ranks),
            "unequal": lambda: self.ranks.require_equal(
                "their names", lambda: str(self.ranks.rank)
            ),
        }.items():
            try:
                call()
            except (ValueError, RuntimeError) as error:
                found[name] = f"{type(error).__name__}: {error}"
        return found


SCENARIOS = (
    "ragged", "epochs", "ragged_seconds", "capped", "poisoned", "short_of_memory", "plenty_of_memory",
    "followed", "stopped", "early", "separation", "transducer", "without_data", "errors",
)  # fmt: skip


def run_all(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """Make all runs; return what they came to, by name."""
    bench = Bench(ranks, folder)
    plain = dist.all_reduce

    def counting(*args: Any, **more: Any) -> Any:
        bench.num_sums += 1
        return plain(*args, **more)

    dist.all_reduce = counting
    try:
        return {name: getattr(bench, name)() for name in SCENARIOS}
    finally:
        dist.all_reduce = plain


if __name__ == "__main__":
    take_part(run_all)
