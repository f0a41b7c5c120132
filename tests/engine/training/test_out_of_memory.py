"""Memory that runs out: the update is made again, in halves, and nothing is lost or half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import engine.training.updates
from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.config.counters import UpdateSize
from engine.config.sections import EmaConfig
from engine.events import CheckpointSaved, Noticed, RunEnded
from engine.recipes.base import StepContext, StepOutput
from engine.training.ema import Ema
from engine.training.optimizer import FusedAdamW
from engine.training.out_of_memory import (
    DoesNotFit,
    MemoryLimits,
    Pieces,
    UpdateTorn,
    is_out_of_memory,
)
from engine.training.trainer import Trainer
from engine.training.updates import Updater

CPU = torch.device("cpu")
GPU_TEXT = "CUDA out of memory. Tried to allocate 20.00 MiB."
CPU_TEXT = "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."
ERRORS = (torch.OutOfMemoryError(GPU_TEXT), RuntimeError(CPU_TEXT), MemoryError())


class FailsBackward(torch.autograd.Function):
    """The identity, whose backward pass runs out of memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise torch.OutOfMemoryError(GPU_TEXT)


class Scarce:
    """Wraps a recipe: more than `fits` items run out of memory, in the pass named by `where`."""

    def __init__(self, recipe: Any, *, fits: float, where: str = "forward") -> None:
        self._recipe = recipe
        self.fits = fits
        self.where = where
        self.error: BaseException = ERRORS[0]
        self.passes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recipe, name)

    def step(self, model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        count = len(batch.tensors["x"])
        if count > self.fits and self.where == "forward":
            model(batch.tensors["x"])
            raise self.error
        output = self._recipe.step(model, batch, context=context)
        if count > self.fits:
            half = output.loss_sum.clone()
            return StepOutput(FailsBackward.apply(half), output.weight)
        self.passes.append(count)
        return output


class Smoothing(nn.Module):
    """Keeps a running sum of what it saw, as batch normalisation does, and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("window", torch.ones(3))

    def forward(self, x_BT: Tensor) -> Tensor:
        self.seen += len(x_BT)
        out: Tensor = self.linear(x_BT)
        return out


Made = tuple[Updater, nn.Module, FusedAdamW, Ema, Scarce]


@pytest.fixture
def make(make_config, line_recipe) -> Callable[..., Made]:
    def build(*, fits: float = float("inf"), where: str = "forward", **sections: Any) -> Made:
        config = make_config(**sections)
        recipe = Scarce(line_recipe(dropout=0.0), fits=fits, where=where)
        torch.manual_seed(0)
        model = recipe.build_model()
        optimizer = FusedAdamW(model, config.optimizer)
        ema = Ema(model, config.ema, UpdateSize(1, 4, audio_seconds=4.0))
        return (
            Updater(recipe, model, optimizer, config=config, device=CPU, ema=ema),
            model, optimizer, ema, recipe,
        )  # fmt: skip

    return build


def batches_of(recipe: Any, update: int, sizes: list[int]) -> list[Batch]:
    draws = iter([ItemDraw(update, index) for index in range(sum(sizes))])
    return [
        recipe.fetch("train", MicroBatch(tuple(next(draws) for _ in range(size)))) for size in sizes
    ]


def state_of(made: Made) -> list[Tensor]:
    _, model, optimizer, ema, _ = made
    tensors = (*model.state_dict().values(), *optimizer.state_dict().values())
    return [tensor.clone() for tensor in (*tensors, *ema.state_dict().values())]


def close(one: list[Tensor], other: list[Tensor], tolerance: float = 1e-4) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance / 100) for a, b in pairs)


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("fp16", 1e-2)])
def test_an_update_is_made_again_in_halves(make, where, dtype, tolerance):
    quiet = make(precision={"dtype": dtype})
    scarce = make(fits=3, where=where, precision={"dtype": dtype})
    for update in range(1, 4):
        sizes = [2, 9, 4]
        a = quiet[0].run(update, batches_of(quiet[4], update, sizes), lr=1e-2)
        b = scarce[0].run(update, batches_of(scarce[4], update, sizes), lr=1e-2)
        assert a.weight == b.weight == 15
        assert b.loss_sum.item() == pytest.approx(a.loss_sum.item(), rel=tolerance)
        assert b.grad_norm.item() == pytest.approx(a.grad_norm.item(), rel=tolerance)
        assert a.num_pieces == 3
        assert b.num_pieces == 6
        found = [(s.items, s.items_after) for s in b.shortages]
        assert found == ([(9, 5), (5, 3)] if update == 1 else [])
    assert close(state_of(quiet), state_of(scarce), tolerance)
    assert scarce[4].passes[-6:] == [2, 3, 3, 3, 3, 1]
    assert quiet[0].limits.most == {}
    assert scarce[0].limits.most == {"x 4, y 4": 3}


@pytest.mark.parametrize("error", ERRORS, ids=["gpu", "cpu", "python"])
def test_nothing_changes_where_no_halving_is_needed(make, monkeypatch, error):
    """The second attempt with one item each goes well: bit for bit the undisturbed update."""
    quiet, disturbed = make(), make()
    step, failures = disturbed[4].step, iter([error, error])

    def fails_twice(model: nn.Module, batch: Batch, *, context: StepContext) -> StepOutput:
        output = step(model, batch, context=context)
        output.loss_sum.backward(retain_graph=True)
        if (failure := next(failures, None)) is not None:
            raise failure
        model.zero_grad()
        return output

    monkeypatch.setattr(disturbed[4], "step", fails_twice)
    for update in range(1, 3):
        results = [
            made[0].run(update, batches_of(made[4], update, [1]), lr=1e-2)
            for made in (quiet, disturbed)
        ]
        assert len(results[1].shortages) == (2 if update == 1 else 0)
        assert results[0].loss_sum == results[1].loss_sum
    assert equal(state_of(quiet), state_of(disturbed))
    assert not disturbed[0].limits


def test_random_draws_are_those_of_the_first_attempt(make, line_recipe, monkeypatch):
    """Micro-batches that are not halved see the same dropout as without a shortage."""
    made = [make(), make(fits=4)]
    drawn: list[list[Tensor]] = [[], []]
    for (updater, _, _, _, recipe), draws in zip(made, drawn, strict=True):
        step = recipe.step

        def noting(
            model: nn.Module, batch: Batch, step: Any = step, draws: Any = draws, **more: Any
        ) -> Any:
            output = step(model, batch, **more)
            draws.append((len(batch.tensors["x"]), torch.rand(2)))
            return output

        monkeypatch.setattr(recipe, "step", noting)
        updater.run(1, batches_of(recipe, 1, [3, 6, 2]), lr=1e-2)
    (three, _, two), again = drawn[0], drawn[1][1:]
    assert [count for count, _ in again] == [3, 3, 3, 2]
    assert torch.equal(again[0][1], three[1])
    assert torch.equal(again[3][1], two[1])
    assert len({tuple(draw.tolist()) for _, draw in again}) == 4


def test_one_item_that_does_not_fit_is_a_clear_error(make):
    updater, *_, recipe = made = make(fits=0)
    before = state_of(made)
    with pytest.raises(
        DoesNotFit, match=r"a single item \(shape x 4, y 4\) .* tried 3 times at update 1"
    ) as e:
        updater.run(1, batches_of(recipe, 1, [4]), lr=1e-2)
    assert "20.00 MiB" in str(e.value)
    assert "data.segment_s" in str(e.value)
    assert equal(before, state_of(made))


def test_other_errors_pass(make):
    updater, *_, recipe = make(fits=0)
    recipe.error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        updater.run(1, batches_of(recipe, 1, [4]), lr=1e-2)


def test_before_the_step_only_what_ran_out_is_tried_again(make, monkeypatch):
    quiet, disturbed = make(), make()
    norm, failures = torch._foreach_norm, iter(ERRORS[:2])

    def fails(tensors: Any) -> Any:
        if (failure := next(failures, None)) is not None:
            raise failure
        return norm(tensors)

    quiet[0].run(1, batches_of(quiet[4], 1, [4]), lr=1e-2)
    monkeypatch.setattr(torch, "_foreach_norm", fails)
    result = disturbed[0].run(1, batches_of(disturbed[4], 1, [4]), lr=1e-2)
    assert disturbed[4].passes == [4]
    assert [s.message for s in result.shortages] == 2 * [
        "update 1: out of memory before the optimizer step; retried, no data lost"
    ]
    assert equal(state_of(quiet), state_of(disturbed))


def test_average_without_memory_is_taken_one_by_one(make, monkeypatch):
    quiet, disturbed = make(), make()
    update = Ema.update
    calls: list[bool] = []

    def fails(self: Ema, number: int, *, skipped: Tensor, one_by_one: bool = False) -> None:
        calls.append(one_by_one)
        if not one_by_one:
            raise torch.OutOfMemoryError(GPU_TEXT)
        update(self, number, skipped=skipped, one_by_one=True)

    quiet[0].run(1, batches_of(quiet[4], 1, [4]), lr=1e-2)
    monkeypatch.setattr(Ema, "update", fails)
    disturbed[0].run(1, batches_of(disturbed[4], 1, [4]), lr=1e-2)
    assert calls == [False, True]
    assert close(state_of(quiet), state_of(disturbed))


def test_average_one_by_one_equals_the_average_of_all():
    class OnGpu(Tensor):
        is_cpu = False

    averages = []
    for one_by_one in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 3)
        ema = Ema(model, EmaConfig(), UpdateSize(1, 1, audio_seconds=1.0))
        nn.init.constant_(model.weight, 4.0)
        ema.update(5, skipped=torch.zeros(()).as_subclass(OnGpu), one_by_one=one_by_one)
        averages.append(ema.state_dict()["weight"].clone())
    assert torch.equal(*averages)


def test_memory_that_runs_out_in_the_step_tears_the_update(make, monkeypatch):
    def torn(params: list[Tensor], *rest: Any, **more: Any) -> None:
        params[0].add_(1.0)
        raise torch.OutOfMemoryError(GPU_TEXT)

    updater, *_, recipe = make()
    monkeypatch.setattr(torch, "_fused_adamw_", torn)
    with pytest.raises(UpdateTorn, match=r"update 1: .* restart from its last checkpoint"):
        updater.run(1, batches_of(recipe, 1, [4]), lr=1e-2)


def test_a_torn_update_is_never_saved_and_the_next_process_goes_on_exactly(
    make_config, line_recipe, recorder, stop_after, tmp_path, checkpoint_tensors, monkeypatch
):
    config = make_config(schedule={"length": "10 updates"}, checkpoint={"every": "3 updates"})

    def fit(name: str) -> RunEnded:
        return Trainer(
            config,
            line_recipe(),
            folder=tmp_path / name,
            observers=[recorder],
            control=stop_after(),
        ).fit()

    fit("quiet")
    kernel, calls = torch._fused_adamw_, iter(range(100))

    def torn(params: list[Tensor], *rest: Any, **more: Any) -> None:
        kernel(params, *rest, **more)
        if next(calls) == 7:
            raise torch.OutOfMemoryError(GPU_TEXT)

    monkeypatch.setattr(torch, "_fused_adamw_", torn)
    with pytest.raises(UpdateTorn, match="update 8"):
        fit("torn")
    folder = tmp_path / "torn" / "checkpoints"
    assert sorted(path.name for path in folder.glob("last-*")) == ["last-000003", "last-000006"]
    fit("torn")
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000010")
        for name in ("quiet", "torn")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_buffers_go_back_and_constant_ones_are_not_copied(make_config, line_recipe):
    recipe = Scarce(line_recipe(), fits=2)
    model = Smoothing()
    config = make_config()
    updater = Updater(
        recipe, model, FusedAdamW(model, config.optimizer), config=config, device=CPU, ema=None
    )
    for update in range(1, 4):
        if update == 3:
            recipe.fits = 1
        updater.run(update, batches_of(recipe, update, [4]), lr=1e-2)
        assert model.seen == 4 * update
    assert len(updater._buffers._copies) == 1


def test_limits_split_the_same_way_every_time():
    limits = MemoryLimits()
    limits.most["x 2"] = 2
    batches = [Batch({"x": torch.arange(10.0).reshape(5, 2)}), Batch({"x": torch.zeros(2, 2)})]
    one, other = (limits.split(Pieces(batches, range(2))) for _ in range(2))
    assert [len(batch.tensors["x"]) for batch in one.batches] == [2, 2, 1, 2]
    assert list(one.keys) == list(other.keys)
    assert len(set(one.keys)) == 4
    assert one.batches[-1] is batches[1]
    joined = torch.cat([batch.tensors["x"] for batch in one.batches[:3]])
    assert torch.equal(joined, batches[0].tensors["x"])


def test_what_counts_as_out_of_memory():
    assert all(map(is_out_of_memory, ERRORS))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"))
    for text in (
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
        "cuFFT error: CUFFT_ALLOC_FAILED",
    ):
        assert is_out_of_memory(RuntimeError(text))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(KeyError("out of memory"))


def test_a_run_goes_on_tells_it_once_and_resumes_with_the_same_pieces(
    make_config, line_recipe, new_recorder, stop_after, tmp_path, checkpoint_tensors
):
    config = make_config(
        schedule={"length": "9 updates"}, batch={"items": 8, "micro_batch": 8},
        checkpoint={"every": "4 updates"},
    )  # fmt: skip
    whole, cut = new_recorder(), new_recorder()

    def fit(name: str, recorder: Any, *, fits: float, updates: float = float("inf")) -> RunEnded:
        recipe = Scarce(line_recipe(), fits=fits)
        return Trainer(
            config,
            recipe,
            folder=tmp_path / name,
            observers=[recorder],
            control=stop_after(updates),
        ).fit()

    ended = fit("whole", whole, fits=3)
    assert (ended.counters.items, ended.counters.micro_batches) == (72, 36)
    (first, second) = whole.of(Noticed)
    assert (first.level, first.kind, first.counters.updates) == ("warning", "out-of-memory", 1)
    assert first.message == (
        "update 1: out of memory with a micro-batch of 8 item(s) (shape x 4, y 4); repeating the update "
        "with at most 4 item(s) per micro-batch"
    )
    assert (second.details["items_before"], second.details["items_after"]) == (4, 2)
    assert second.details["shape"] == "x 4, y 4"

    fit("cut", cut, fits=3, updates=5)
    # There is room again, but the pieces stay as they were: otherwise the resume would not be exact.
    fit("cut", cut, fits=100)
    assert len(cut.of(Noticed)) == 2
    assert cut.of(CheckpointSaved)[-1].counters == ended.counters
    one, other = (
        checkpoint_tensors(tmp_path / name / "checkpoints" / "last-000009")
        for name in ("whole", "cut")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_the_allocator_itself_runs_out_and_the_update_is_made():
    script = Path(__file__).parent / "fakes" / "limited_memory.py"
    done = subprocess.run(
        [sys.executable, "-P", str(script)],
        env={"PYTHONPATH": str(script.parents[3]), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["whole"]["shortages"] == []
    assert found["whole"]["pieces"] == [1, 1]
    shortages, (first, second) = found["limited"]["shortages"], found["limited"]["pieces"]
    assert shortages
    assert all(after < before for before, after in shortages)
    assert first == second == 64 // shortages[-1][1]
    assert found["limited"]["losses"] == pytest.approx(found["whole"]["losses"], rel=1e-5)
    assert found["difference"] < 1e-5


@pytest.fixture(autouse=True)
def no_waiting_for_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.training.updates, "release_memory", lambda: None)
