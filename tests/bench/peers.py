"""What an update costs in four trainers, beyond the update itself: plain PyTorch, sepdash, Lightning, Accelerate.

    uv run --no-sync --with lightning --with accelerate python tests/bench/peers.py

The model, batch, fused AdamW and clipping of `trainer_overhead.py`, on one CPU thread. sepdash runs
with all its telemetry (a point of every curve per update, into SQLite); the peers run quiet, and
Lightning once more with the loss of every step in its CSV logger. All take turns, several rounds;
a ratio is the median over rounds of what was measured in one round, over the plain loop's. Lightning
and Accelerate are no dependencies of the project: one that is absent is named and left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from itertools import repeat

import torch
from torch import nn
from trainer_overhead import BenchRecipe, bare, now, since, trained

Runner = Callable[[BenchRecipe, int], tuple[float, float]]
CLOCKS = ("wall", "CPU of the training thread")


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of the plain loop."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def accelerated(recipe: BenchRecipe, updates: int) -> tuple[float, float]:
    """Return the seconds (wall, CPU) of `updates` updates of Accelerate's loop with clipping."""
    from accelerate import Accelerator  # type: ignore[import-not-found,unused-ignore]

    accelerator = Accelerator(cpu=True)
    model = recipe.build_model()
    model, optimizer = accelerator.prepare(model, adamw(model))
    started = now()
    for _ in range(updates):
        optimizer.zero_grad()
        loss = recipe.loss(model).mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return since(started)


def lightning_runner(*, logged: bool) -> Runner:
    """Return a runner of Lightning's Trainer, from its first step to its last."""
    import lightning  # type: ignore[import-not-found,unused-ignore]
    from lightning.pytorch.loggers import CSVLogger  # type: ignore[import-not-found,unused-ignore]

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc,unused-ignore]
        def __init__(self, recipe: BenchRecipe) -> None:
            super().__init__()
            self.recipe = recipe
            self.net = recipe.build_model()
            self.started = self.spent = (0.0, 0.0)

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            loss = self.recipe.loss(self.net).mean()
            if logged:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return adamw(self.net)

        def on_train_start(self) -> None:
            self.started = now()

        def on_train_end(self) -> None:
            self.spent = since(self.started)

    class SameBatch:
        def __init__(self, batch: torch.Tensor, updates: int) -> None:
            self.batch, self.updates = batch, updates

        def __len__(self) -> int:
            return self.updates

        def __iter__(self) -> Iterator[torch.Tensor]:
            return repeat(self.batch, self.updates)

    def run(recipe: BenchRecipe, updates: int) -> tuple[float, float]:
        module = Module(recipe)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                accelerator="cpu",
                max_epochs=1,
                gradient_clip_val=1.0,
                logger=CSVLogger(folder) if logged else False,
                log_every_n_steps=1,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, train_dataloaders=SameBatch(recipe.x, updates))
        assert trainer.global_step == updates
        return module.spent

    return run


def peers() -> dict[str, Runner]:
    """Return every trainer that is installed, by name; say which are not."""
    found: dict[str, Runner] = {"plain loop": bare, "sepdash": trained}
    if importlib.util.find_spec("lightning"):
        found["Lightning"] = lightning_runner(logged=False)
        found["Lightning, logging"] = lightning_runner(logged=True)
    else:
        print("Lightning is not installed: left out (uv run --no-sync --with lightning ...)")
    if importlib.util.find_spec("accelerate"):
        found["Accelerate"] = accelerated
    else:
        print("Accelerate is not installed: left out (uv run --no-sync --with accelerate ...)")
    return found


def main() -> None:
    """Print every trainer beside the plain loop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=["tiny", "demo"], default="tiny")
    parser.add_argument("--updates", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    updates = options.updates or (2000 if options.size == "tiny" else 30)
    recipe = BenchRecipe(options.size)
    runners = peers()
    for run in runners.values():
        run(recipe, updates // 4)
    rounds = [
        {name: run(recipe, updates) for name, run in runners.items()} for _ in range(options.rounds)
    ]
    for column, clock in enumerate(CLOCKS):
        print(f"{options.size} model, {updates} updates x {options.rounds} rounds, {clock}:")
        for name in runners:
            micros = statistics.median(r[name][column] for r in rounds) * 1e6 / updates
            ratios = [r[name][column] / r["plain loop"][column] for r in rounds]
            print(f"  {name:<20} {micros:8.1f} us an update, ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
