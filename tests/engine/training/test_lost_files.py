"""Files that vanish in the middle of a run cost their items, up to a limit, and no update that was made."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from engine.batching.batch import Batch
from engine.batching.items import ItemDraw, MicroBatch
from engine.batching.plan import FixedPlan
from engine.config.errors import DataError, Problem
from engine.data.reading.loader import Loader
from engine.data.reading.lost_files import LostFiles, fetch_readable
from engine.events import Noticed
from engine.training.trainer import Trainer


def fetch(gone: frozenset[int], micro_batch: MicroBatch) -> Batch:
    """Return the indices of items; those of `gone` can't be read."""
    for draw in micro_batch.draws:
        if draw.index in gone:
            raise DataError([Problem("", f"{draw.index}.wav: No such file or directory")])
    index = torch.tensor([draw.index for draw in micro_batch.draws])
    # So large that a reader can't be far ahead of what is read.
    return Batch({"index": index, "large": torch.zeros(len(index), 100_000)})


def of(*indices: int) -> MicroBatch:
    """Return a micro-batch."""
    return MicroBatch(tuple(ItemDraw(0, index) for index in indices))


def test_a_micro_batch_comes_without_what_is_gone() -> None:
    batch = fetch_readable(partial(fetch, frozenset({3, 5})), of(2, 3, 4, 5))
    assert batch.tensors["index"].tolist() == [2, 4]
    assert [text.partition(":")[0] for text in batch.lost] == ["3.wav", "5.wav"]


@pytest.mark.parametrize(("gone", "taken"), [({7}, 6), ({7, 6, 5}, 4), ({0}, 1)])
def test_where_nothing_is_left_an_item_near_by_takes_the_place(gone: set[int], taken: int) -> None:
    batch = fetch_readable(partial(fetch, frozenset(gone)), of(max(gone)))
    assert batch.tensors["index"].tolist() == [taken]
    assert len(batch.lost) == 1


def test_a_folder_that_is_gone_and_a_defect_are_errors() -> None:
    with pytest.raises(DataError, match=r"7\.wav"):
        fetch_readable(partial(fetch, frozenset(range(100))), of(7))

    def defect(micro_batch: MicroBatch) -> Batch:
        raise IndexError("of our own")

    with pytest.raises(IndexError):
        fetch_readable(defect, of(7))


@pytest.mark.parametrize("workers", [0, 1])
def test_readers_tell_what_they_left_out(workers: int) -> None:
    plan = FixedPlan(6, 3, micro_batch=3, seed=0)
    with Loader(partial(fetch, frozenset({2})), plan, workers=workers) as loader:
        batches = loader.update() + loader.update()
    assert sum(len(batch.lost) for batch in batches) == 1
    assert sorted(i for batch in batches for i in batch.tensors["index"].tolist()) == [
        0,
        1,
        3,
        4,
        5,
    ]


def test_how_often_is_told_at_powers_of_ten_and_many_files_are_an_error() -> None:
    lost = LostFiles(100)
    told = [lost.notices([Batch({}, ("a.wav: gone",))]) for _ in range(12)]
    assert [index for index, texts in enumerate(told) if texts] == [0, 9]
    assert told[9] == ["a.wav: gone; skipped, 10 times so far"]
    lost.notices([Batch({}, tuple(f"{k}.wav: gone" for k in range(9)))])
    lost.require_few()
    lost.notices([Batch({}, ("one more.wav: gone",))])
    with pytest.raises(DataError, match="11 training items could not be read"):
        lost.require_few()


def test_a_killed_reader_is_replaced_and_the_batches_are_the_same() -> None:
    plan = FixedPlan(60, 4, micro_batch=2, seed=0)
    whole = partial(fetch, frozenset())
    with Loader(whole, plan) as loader:
        wanted = [batch.tensors["index"].tolist() for _ in range(40) for batch in loader.update()]
    with Loader(whole, plan, workers=2) as loader:
        got = [batch.tensors["index"].tolist() for _ in range(2) for batch in loader.update()]
        os.kill(loader.process_ids[0], signal.SIGKILL)
        got += [batch.tensors["index"].tolist() for _ in range(38) for batch in loader.update()]
        (notice,) = loader.take_notices()
        assert "goes on with 1 reader process(es)" in notice
        # A service manager signals every process of the service: readers leave that to the trainer.
        os.kill(loader.process_ids[0], signal.SIGTERM)
        loader.update()
        assert loader.take_notices() == []
    assert got == wanted


def vanishing(recipe_class: type, gone: set[int], *, after: int) -> Any:
    """Return a recipe whose training items `gone` can't be read after a number of reads."""

    class Vanishing(recipe_class):  # type: ignore[misc, valid-type]
        reads = 0

        def sizes(self, split: str) -> np.ndarray:
            return np.full((60 if split == "train" else 3, 1), 1.0)

        def fetch(self, split: str, micro_batch: MicroBatch) -> Batch:
            if split == "train":
                Vanishing.reads += 1
                here = frozenset(gone) if Vanishing.reads > after else frozenset()
                fetch(here, micro_batch)
            batch: Batch = super().fetch(split, micro_batch)
            return batch

    return Vanishing()


def test_a_run_goes_on_without_files_that_vanished(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    config = make_config(schedule={"length": "30 updates"})
    recipe = vanishing(line_recipe, {7, 8}, after=4)
    ended = Trainer(
        config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()
    ).fit()
    assert ended.outcome == "finished"
    texts = [n.message for n in recorder.of(Noticed) if n.kind == "file-skipped"]
    assert sorted(texts) == [f"{k}.wav: No such file or directory; skipped" for k in (7, 8)]
    assert all(np.isfinite(list(recorder.curve("loss").values())))


def test_a_run_whose_data_vanished_ends_saved(
    tmp_path, make_config, line_recipe, recorder, stop_after
):
    config = make_config(schedule={"length": "30 updates"}, checkpoint={"every": "1000 updates"})
    recipe = vanishing(line_recipe, set(range(60)), after=8)
    with pytest.raises(DataError, match="No such file"):
        Trainer(config, recipe, folder=tmp_path, observers=[recorder], control=stop_after()).fit()
    (saved,) = (tmp_path / "checkpoints").glob("last-*")
    assert saved.name == "last-000004"
