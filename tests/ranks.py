"""Several processes of one run: a test starts them, and a script of `fakes` is each of them.

The script hands its work to `take_part`; `start_together` starts it, and gives what each process came to.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from engine.training.ranks import Ranks, TorchRanks
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@contextmanager
def start_together(
    script: str, folder: Path, *, arguments: Sequence[str] = (), paths: Sequence[Path] = ()
) -> Iterator[Callable[[], list[Any]]]:
    """Start two processes of a script, which run beside the body of the `with` statement.

    Args:
        script: its module, as `tests.engine.training.fakes.ranks`.
        folder: an existing one, where the processes meet; the first argument of the work.
        arguments: what else the work gets.
        paths: folders to import from beside that of the checkout.

    Yields:
        A function that waits for both, and returns what the work returned in each, in the order of ranks.
    """
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK,
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *paths])),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", script, str(rank), "2", str(folder), *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip

    def results() -> list[Any]:
        said = [process.communicate(timeout=200)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], said
        return [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]

    try:
        yield results
    finally:
        for process in processes:
            process.kill()


def made_once(
    make: Callable[[Path], list[Any]], name: str, *, tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """Return what `make` returns of a new folder; test processes side by side share what the first of them made."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return make(tmp_path_factory.mktemp(name))
    folder = tmp_path_factory.getbasetemp().parent / name
    made, failed = folder / "made.pt", folder / "failed"
    try:
        folder.mkdir()
    except FileExistsError:
        until(
            lambda: made.exists() or failed.exists(),
            f"{name}, by another test process",
            within_s=280,
        )
        assert not failed.exists(), f"{name} could not be made by another test process"
        found: list[Any] = torch.load(made)
        return found
    try:
        found = make(folder)
        torch.save(found, folder / "begun.pt")
        (folder / "begun.pt").rename(made)
    except BaseException:
        failed.touch()
        raise
    return found


def take_part(work: Callable[..., Any]) -> None:
    """Be one of the processes of `start_together`: `work(ranks, folder, *arguments)`."""
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=120)
    )
    ranks: Ranks = TorchRanks(torch.device("cpu"))
    torch.save(work(ranks, folder, *sys.argv[4:]), folder / f"rank-{rank}.pt")
    dist.destroy_process_group()
